"""A thin client of the endpoints used: files, fine-tuning jobs, chat completions."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import aiohttp

from isocost.core.errors import FailedPreconditionError
from isocost.trainer.fine_tuning.http import ApiHttp, RefusedError, TransientError

__all__ = ["FineTuningApi", "Job", "JobProgress", "JobRequest", "JobState", "TokenChoice", "TokenChoices"]

_PAGE_LENGTH = 100
_EVENTS_LENGTH = 20
_CANCEL_ATTEMPTS_MAX = 3
#: The most that the API tells for a token.
TOP_LOGPROBS = 20


class JobState(Enum):
    """Where a job stands."""

    UNDER_WAY = "under_way"
    """Validating its files, queued, running, or in a state that this client does not know."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Job:
    """A fine-tuning job.

    Attributes:
        job_id: The server's.
        state: Where it stands.
        status: The same in the server's words.
        model: What it starts from.
        training_file: The server's id of the file.
        suffix: What the server was asked to put into the model's name; "" where it does not say.
        metadata: What was given with the job.
        fine_tuned_model: The result's name; "" while there is none.
        n_epochs: Passes over the file; 0 while the server has not decided.
        n_tokens: Tokens trained on; 0 while not known.
        seconds: From creation to end, by the server's clock; 0 while not known.
        error: Why it failed; "" where it did not.
    """

    job_id: str
    state: JobState
    status: str
    model: str
    training_file: str
    suffix: str
    metadata: Mapping[str, str]
    fine_tuned_model: str
    n_epochs: int
    n_tokens: int
    seconds: float
    error: str

    @classmethod
    def from_json(cls, answer: Mapping[str, Any]) -> Job:
        """Reads the API's `fine_tuning.job` object.

        Raises:
            FailedPreconditionError: where it is none.
        """
        job_id, status = answer.get("id"), answer.get("status")
        if not isinstance(job_id, str) or not isinstance(status, str) or not job_id:
            raise FailedPreconditionError("the fine-tuning API sent a job without id or status; is its URL right?")
        ended = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)
        state = next((state for state in ended if state.value == status), JobState.UNDER_WAY)
        hyperparameters = _object(answer.get("hyperparameters"))
        error = _object(answer.get("error"))
        created_at, finished_at = _number(answer.get("created_at")), _number(answer.get("finished_at"))
        return cls(
            job_id=job_id,
            state=state,
            status=status,
            model=str(answer.get("model") or ""),
            training_file=str(answer.get("training_file") or ""),
            suffix=str(answer.get("user_provided_suffix") or answer.get("suffix") or ""),
            metadata={str(key): str(value) for key, value in _object(answer.get("metadata")).items()},
            fine_tuned_model=str(answer.get("fine_tuned_model") or ""),
            n_epochs=int(_number(hyperparameters.get("n_epochs"))),
            n_tokens=int(_number(answer.get("trained_tokens"))),
            seconds=max(0.0, finished_at - created_at) if created_at and finished_at else 0.0,
            error=str(error.get("message") or error.get("code") or ""),
        )


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What a job is to do.

    Attributes:
        model: What to start from: a base model, or a job's result.
        training_file: The server's id of an uploaded file.
        validation_file: The same; "" for none.
        hyperparameters: n_epochs, batch_size, learning_rate_multiplier: numbers or "auto".
        seed: 0 to 2**31 - 1.
        suffix: Put into the model's name; at most 64 characters.
        metadata: At most 16 strings by name.
    """

    model: str
    training_file: str
    validation_file: str
    hyperparameters: Mapping[str, int | float | str]
    seed: int
    suffix: str
    metadata: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """The body of the request."""
        body = {
            "model": self.model,
            "training_file": self.training_file,
            "method": {"type": "supervised", "supervised": {"hyperparameters": dict(self.hyperparameters)}},
            "seed": self.seed,
            "suffix": self.suffix,
            "metadata": dict(self.metadata),
        }
        return body | ({"validation_file": self.validation_file} if self.validation_file else {})


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far a job is: steps done, steps in all (0 while not known), latest training loss in nats."""

    step: int = 0
    max_steps: int = 0
    loss: float = 0.0


@dataclass(frozen=True, slots=True)
class TokenChoice:
    """A token that may stand in a place of the answer: its bytes in UTF-8 and the natural logarithm of its
    probability."""

    text: bytes
    log_probability: float


@dataclass(frozen=True, slots=True)
class TokenChoices:
    """One place of an answer: the token that was put there, and the most probable ones."""

    chosen: bytes
    top: tuple[TokenChoice, ...]


class FineTuningApi:
    """The endpoints, over a session. Errors are those of `ApiHttp.ask` where nothing else is said."""

    def __init__(self, http: ApiHttp) -> None:
        self._http = http

    async def upload(self, name: str, content: bytes) -> str:
        """Uploads a file for fine-tuning and returns its id. Files cost nothing: a repeat does no harm."""

        def form() -> aiohttp.FormData:
            data = aiohttp.FormData()
            data.add_field("purpose", "fine-tune")
            data.add_field("file", content, filename=name, content_type="application/jsonl")
            return data

        return str((await self._http.ask("POST", "/files", form=form))["id"])

    async def create_job(self, request: JobRequest) -> Job:
        """Creates a job, in a single attempt: a repeat could pay for it twice.

        Raises:
            TransientError: the job may have been created or not; look for it.
            RefusedError, UnauthenticatedError: it was not.
        """
        return Job.from_json(await self._http.ask_once("POST", "/fine_tuning/jobs", body=request.to_json()))

    async def find_job(self, job_id: str) -> Job | None:
        """A job, or None where the server does not know it."""
        try:
            return Job.from_json(await self._http.ask("GET", f"/fine_tuning/jobs/{job_id}"))
        except RefusedError as error:
            if error.status == 404:
                return None
            raise

    async def jobs(self) -> AsyncIterator[Job]:
        """All jobs of the account, page by page."""
        seen: set[str] = set()
        query = {"limit": str(_PAGE_LENGTH)}
        while True:
            page = await self._http.ask("GET", "/fine_tuning/jobs", query=query)
            new = [job for job in map(Job.from_json, page.get("data") or ()) if job.job_id not in seen]
            for job in new:
                seen.add(job.job_id)
                yield job
            # A server that pages otherwise than asked would send the same page for ever.
            if not page.get("has_more") or not new:
                return
            query["after"] = new[-1].job_id

    async def cancel_job(self, job_id: str) -> bool:
        """Cancels a job; returns whether the server took note. It waits for nothing between its few attempts, as
        somebody waits for it."""
        for _ in range(_CANCEL_ATTEMPTS_MAX):
            with contextlib.suppress(TransientError):
                try:
                    await self._http.ask_once("POST", f"/fine_tuning/jobs/{job_id}/cancel")
                except RefusedError:
                    # It ended in the meantime.
                    return False
                return True
        return False

    async def job_progress(self, job_id: str) -> JobProgress:
        """How far a job is, by its latest events; nothing known where the server tells none: a job needs no events."""
        try:
            page = await self._http.ask_once(
                "GET", f"/fine_tuning/jobs/{job_id}/events", query={"limit": str(_EVENTS_LENGTH)}
            )
        except (RefusedError, TransientError):
            return JobProgress()
        latest = JobProgress()
        for event in page.get("data") or ():
            metrics = _object(_object(event).get("data"))
            step = int(_number(metrics.get("step")))
            if step > latest.step:
                latest = JobProgress(step, int(_number(metrics.get("total_steps"))), _number(metrics.get("train_loss")))
        return latest

    async def complete(self, model: str, prompt: str, *, n_tokens_max: int) -> tuple[TokenChoices, ...]:
        """Asks a model and returns the places of its answer, at most `n_tokens_max`; none where it says nothing.

        Raises:
            FailedPreconditionError: where the server tells no log-probabilities.
        """
        answer = await self._http.ask(
            "POST",
            "/chat/completions",
            body={
                "model": model,
                "messages": [{"role": "user", "content": prompt}],
                "max_tokens": n_tokens_max,
                "temperature": 0,
                "logprobs": True,
                "top_logprobs": TOP_LOGPROBS,
            },
        )
        choices = answer.get("choices")
        first = _object(choices[0]) if isinstance(choices, list) and choices else {}
        places = _object(first.get("logprobs")).get("content")
        if not places and "message" in first and not _object(first["message"]).get("content"):
            return ()
        if not isinstance(places, list) or not places:
            raise FailedPreconditionError(
                f"the fine-tuning API answered a prompt to {model!r} without log-probabilities; use a model that tells "
                "them (logprobs and top_logprobs of chat completions)"
            )
        return tuple(_place(_object(place)) for place in places)


def _place(answer: Mapping[str, Any]) -> TokenChoices:
    top = tuple(TokenChoice(_bytes(part), _number(part.get("logprob"))) for part in answer.get("top_logprobs") or ())
    chosen = _bytes(answer)
    if all(part.text != chosen for part in top):
        top = (*top, TokenChoice(chosen, _number(answer.get("logprob"))))
    return TokenChoices(chosen, top)


def _bytes(token: Mapping[str, Any]) -> bytes:
    """A token may be part of a character only: then its bytes tell more than its text."""
    given = token.get("bytes")
    return bytes(given) if isinstance(given, list) else str(token.get("token") or "").encode()


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
