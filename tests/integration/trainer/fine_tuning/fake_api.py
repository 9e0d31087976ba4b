"""A server on loopback that speaks the OpenAI API as far as fine-tuning needs it, and learns what it is given.

A model is a table: how often each word of a question went with each answer. A fine-tuned model begins with the table of
the model it was made from. A job goes one state further each time it is looked at, so nothing here depends on time.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import re
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from aiohttp import web

BASE_MODEL = "gpt-4o-mini-2024-07-18"
KEY = "sk-of-nobody-0123456789abcdef"
_STATES = ("validating_files", "queued", "running", "succeeded")
_JOB_FIELDS = {"model", "training_file", "validation_file", "method", "seed", "suffix", "metadata"}
_CHAT_FIELDS = {"model", "messages", "max_tokens", "temperature", "logprobs", "top_logprobs"}
_N_EPOCHS = 3
_CREATED_AT = 1_700_000_000

Answer = web.StreamResponse
Table = dict[str, Counter[str]]


@dataclass
class Fault:
    """What goes wrong with the next requests of one kind.

    `status` answers with it, before the request is looked at; `drop` cuts the connection before the work, `drop_after`
    behind it; `hold` does the work and never answers. `after` requests pass first.
    """

    method: str
    path: str
    action: str = "status"
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    code: str = ""
    after: int = 0
    times: int = 1


class FakeApi:
    """Serves in a thread of its own; to be used as a context manager."""

    def __init__(
        self, answers: tuple[str, ...] = ("yes", "no"), *, fillers: int = 3, filler_mass: float = 0.05
    ) -> None:
        self.answers = answers
        self.fillers = {f"word{index}": filler_mass / fillers for index in range(fillers)} if fillers else {}
        self.page_length_max = 2
        self.keeps_metadata = True
        self.keeps_suffix = True
        self.tells_bytes = True
        self.fail_jobs_with = ""
        self.files: dict[str, bytes] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.tables: dict[str, Table] = {BASE_MODEL: {}}
        self.faults: list[Fault] = []
        self.requests: Counter[str] = Counter()
        #: Answered completions, by model and prompt.
        self.completions: Counter[tuple[str, str]] = Counter()
        #: What the model believes, by model and prompt: the answers' probabilities.
        self.believed: dict[tuple[str, str], dict[str, float]] = {}
        self.held = threading.Event()
        self.in_flight_max = 0
        self._in_flight = 0
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.url = ""

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(30)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._run())
        self._loop.close()

    async def _run(self) -> None:
        self._stop = asyncio.Event()
        app = web.Application(middlewares=[self._gate], client_max_size=1 << 26)
        app.router.add_post("/v1/files", self._post_file)
        app.router.add_post("/v1/fine_tuning/jobs", self._post_job)
        app.router.add_get("/v1/fine_tuning/jobs", self._list_jobs)
        app.router.add_get("/v1/fine_tuning/jobs/{id}", self._get_job)
        app.router.add_post("/v1/fine_tuning/jobs/{id}/cancel", self._cancel_job)
        app.router.add_get("/v1/fine_tuning/jobs/{id}/events", self._events)
        app.router.add_post("/v1/chat/completions", self._complete)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}/v1"
        self._started.set()
        await self._stop.wait()
        await runner.cleanup()

    @web.middleware
    async def _gate(self, request: web.Request, handler: Callable[[web.Request], Any]) -> Answer:
        path = request.path.removeprefix("/v1")
        self.requests[f"{request.method} {path}"] += 1
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            given = request.headers.get("Authorization", "").removeprefix("Bearer ")
            return _error(401, f"Incorrect API key provided: {given}", "invalid_api_key")
        fault = self._fault(request.method, path)
        if fault is not None and fault.action == "status":
            message = f"injected; you sent {request.headers['Authorization']}"
            return _error(fault.status, message, fault.code, fault.headers)
        if fault is not None and fault.action == "drop":
            return _drop(request)
        answer: Answer = await handler(request)
        if fault is not None and fault.action == "drop_after":
            return _drop(request)
        if fault is not None and fault.action == "hold":
            self.held.set()
            await self._stop.wait()
        return answer

    def _fault(self, method: str, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.method == method and fault.path == path and fault.times:
                if fault.after:
                    fault.after -= 1
                    return None
                fault.times -= 1
                return fault
        return None

    async def _post_file(self, request: web.Request) -> Answer:
        form = await request.post()
        file = form["file"]
        if (
            form.get("purpose") != "fine-tune"
            or not isinstance(file, web.FileField)
            or set(form) != {"purpose", "file"}
        ):
            return _error(400, "purpose must be fine-tune, and file a file", "invalid")
        file_id = f"file-{len(self.files)}"
        self.files[file_id] = file.file.read()
        return web.json_response(
            {
                "id": file_id,
                "object": "file",
                "bytes": len(self.files[file_id]),
                "created_at": _CREATED_AT,
                "filename": file.filename,
                "purpose": "fine-tune",
                "status": "processed",
            }
        )

    async def _post_job(self, request: web.Request) -> Answer:
        body = await request.json()
        wrong = self._wrong_job(body)
        if wrong:
            return _error(400, wrong, "invalid_request_error")
        job_id = f"ftjob-{len(self.jobs)}"
        self.jobs[job_id] = {
            "id": job_id,
            "object": "fine_tuning.job",
            "created_at": _CREATED_AT + len(self.jobs),
            "error": None,
            "fine_tuned_model": None,
            "finished_at": None,
            "hyperparameters": dict(body["method"]["supervised"]["hyperparameters"]),
            "method": body["method"],
            "model": body["model"],
            "organization_id": "org-nobody",
            "result_files": [],
            "seed": body["seed"],
            "status": "validating_files",
            "trained_tokens": None,
            "training_file": body["training_file"],
            "validation_file": body.get("validation_file"),
            "user_provided_suffix": body["suffix"] if self.keeps_suffix else None,
            "metadata": body["metadata"] if self.keeps_metadata else None,
        }
        return web.json_response(_public(self.jobs[job_id]))

    def _wrong_job(self, body: dict[str, Any]) -> str:
        """What a strict server has against a job; "" for nothing."""
        if set(body) - _JOB_FIELDS or body["model"] not in self.tables:
            return f"unknown fields or model: {sorted(body)}, {body.get('model')}"
        if set(body["method"]) != {"type", "supervised"} or body["method"]["type"] != "supervised":
            return "method must be supervised"
        if set(body["method"]["supervised"]["hyperparameters"]) - {
            "n_epochs",
            "batch_size",
            "learning_rate_multiplier",
        }:
            return "unknown hyperparameters"
        if not 0 <= body["seed"] < 2**31 or len(body["suffix"]) > 64 or len(body["metadata"]) > 16:
            return "seed, suffix or metadata out of range"
        training = self._lines(body["training_file"])
        validation = self._lines(body["validation_file"]) if "validation_file" in body else []
        if isinstance(training, str) or isinstance(validation, str):
            return f"{training if isinstance(training, str) else validation}"
        if len(training) < 10:
            return f"training file has {len(training)} example(s), but must have at least 10 examples"
        if {question for question, _ in training} & {question for question, _ in validation}:
            return "the same data in both files"
        return ""

    def _lines(self, file_id: str) -> list[tuple[str, str]] | str:
        """Question and answer of each conversation of a file, or what is wrong with it."""
        if file_id not in self.files:
            return f"no such file: {file_id}"
        content = self.files[file_id].decode()
        if not content.endswith("\n"):
            return "the last line has no end"
        pairs = []
        for line in content[:-1].split("\n"):
            record = json.loads(line)
            if set(record) != {"messages"} or len(record["messages"]) != 2:
                return "not one question and one answer"
            for message, role in zip(record["messages"], ("user", "assistant"), strict=True):
                if set(message) != {"role", "content"} or message["role"] != role or not message["content"].strip():
                    return f"not a message of {role}"
            pairs.append((record["messages"][0]["content"], record["messages"][1]["content"]))
        return pairs

    async def _list_jobs(self, request: web.Request) -> Answer:
        limit = min(int(request.query.get("limit", "20")), self.page_length_max)
        newest_first = list(reversed(self.jobs.values()))
        ids = [job["id"] for job in newest_first]
        start = ids.index(request.query["after"]) + 1 if "after" in request.query else 0
        page = [_public(job) for job in newest_first[start : start + limit]]
        return web.json_response({"object": "list", "data": page, "has_more": start + limit < len(newest_first)})

    async def _get_job(self, request: web.Request) -> Answer:
        job = self.jobs.get(request.match_info["id"])
        if job is None:
            return _error(404, "no such job", "not_found")
        if job["status"] in _STATES[:-1]:
            self._advance(job)
        return web.json_response(_public(job))

    def _advance(self, job: dict[str, Any]) -> None:
        if job["status"] == "running" and self.fail_jobs_with:
            job["status"] = "failed"
            job["error"] = {"code": "server_error", "message": self.fail_jobs_with, "param": None}
            return
        job["status"] = _STATES[_STATES.index(job["status"]) + 1]
        if job["status"] == "running" and job["hyperparameters"]["n_epochs"] == "auto":
            job["hyperparameters"] = {"n_epochs": _N_EPOCHS, "batch_size": 1, "learning_rate_multiplier": 1.8}
        if job["status"] == "succeeded":
            pairs = self._lines(job["training_file"])
            assert not isinstance(pairs, str)
            name = f"ft:{job['model'].split(':')[-1]}:org::{job['id']}"
            table = {word: Counter(counts) for word, counts in self.tables[job["model"]].items()}
            for question, answer in pairs:
                for word in set(_words(question)):
                    table.setdefault(word, Counter())[answer] += 1
            self.tables[name] = table
            job["fine_tuned_model"] = name
            job["finished_at"] = job["created_at"] + 600
            job["trained_tokens"] = len(self.files[job["training_file"]]) // 4

    async def _cancel_job(self, request: web.Request) -> Answer:
        job = self.jobs[request.match_info["id"]]
        if job["status"] not in _STATES[:-1]:
            return _error(400, "the job has ended", "invalid_request_error")
        job["status"] = "cancelled"
        return web.json_response(_public(job))

    async def _events(self, request: web.Request) -> Answer:
        job = self.jobs[request.match_info["id"]]
        steps = {"running": [1, 2], "succeeded": [1, 2, 3]}.get(job["status"], [])
        events = [
            {
                "id": f"ftevent-{step}",
                "object": "fine_tuning.job.event",
                "created_at": _CREATED_AT + step,
                "level": "info",
                "message": f"Step {step}/3",
                "type": "metrics",
                "data": {"step": step, "total_steps": 3, "train_loss": 1.0 / step},
            }
            for step in reversed(steps)
        ]
        return web.json_response({"object": "list", "data": events, "has_more": False})

    async def _complete(self, request: web.Request) -> Answer:
        body = await request.json()
        if set(body) != _CHAT_FIELDS or not body["logprobs"] or not 0 <= body["top_logprobs"] <= 20:
            return _error(400, f"fields: {sorted(body)}", "invalid_request_error")
        if body["model"] not in self.tables:
            return _error(404, f"The model {body['model']} does not exist", "model_not_found")
        (message,) = body["messages"]
        assert message["role"] == "user"
        self._in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self._in_flight)
        await asyncio.sleep(0)
        self._in_flight -= 1
        asked = (body["model"], message["content"])
        self.completions[asked] += 1
        believed = self._believe(*asked)
        self.believed[asked] = believed
        content = self._answer(believed, body["max_tokens"], body["top_logprobs"])
        text = "".join(place["token"] for place in content)
        return web.json_response(
            {
                "id": "chatcmpl-0",
                "object": "chat.completion",
                "created": _CREATED_AT,
                "model": body["model"],
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": text, "refusal": None},
                        "logprobs": {"content": content, "refusal": None},
                        "finish_reason": "stop",
                    }
                ],
                "usage": {"prompt_tokens": 1, "completion_tokens": len(content), "total_tokens": 1 + len(content)},
            }
        )

    def _believe(self, model: str, prompt: str) -> dict[str, float]:
        """Probability of each answer: by the words of the question, and a little by chance."""
        table = self.tables[model]
        scores = {}
        for answer in self.answers:
            digest = hashlib.sha256(f"{prompt}:{answer}".encode()).digest()
            score = int.from_bytes(digest[:4], "big") / 2**32
            for word in set(_words(prompt)):
                counts = table.get(word, Counter())
                score += math.log((counts[answer] + 0.1) / (counts.total() + 0.1 * len(self.answers)))
            scores[answer] = score
        top = max(scores.values())
        weights = {answer: math.exp(score - top) for answer, score in scores.items()}
        mass = 1.0 - sum(self.fillers.values())
        return {answer: mass * weight / sum(weights.values()) for answer, weight in weights.items()}

    def _answer(self, believed: dict[str, float], n_tokens: int, n_top: int) -> list[dict[str, Any]]:
        """The most probable answer token by token, each with the most probable ones in its place."""
        texts: dict[str, float] = believed | self.fillers
        content: list[dict[str, Any]] = []
        before = ""
        while len(content) < n_tokens:
            total = sum(weight for text, weight in texts.items() if text.startswith(before))
            tokens: Counter[str] = Counter()
            for text, weight in texts.items():
                if text.startswith(before) and text != before:
                    tokens[_first_token(text[len(before) :])] += weight / total  # type: ignore[assignment]
            # The rest is the end of the answer, which is no token that is told.
            if not tokens or 1.0 - sum(tokens.values()) > max(tokens.values()):
                break
            ranked = tokens.most_common(n_top)
            chosen = ranked[0][0]
            places = [self._token(text, share) for text, share in ranked]
            content.append(places[0] | {"top_logprobs": places})
            before += chosen
        return content

    def _token(self, text: str, share: float) -> dict[str, Any]:
        return {
            "token": text,
            "bytes": list(text.encode()) if self.tells_bytes else None,
            "logprob": math.log(share) if share > 0 else -9999.0,
        }


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def _first_token(text: str) -> str:
    """Words with the space before them, as many tokenizers cut."""
    match = re.match(r"\s?\w+|\s?[^\w\s]+|\s", text)
    assert match is not None
    return match[0]


def _public(job: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in job.items() if not (key == "user_provided_suffix" and value is None)}


def _error(status: int, message: str, code: str, headers: dict[str, str] | None = None) -> Answer:
    return web.json_response(
        {"error": {"message": message, "type": "error", "param": None, "code": code}}, status=status, headers=headers
    )


def _drop(request: web.Request) -> Answer:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()
