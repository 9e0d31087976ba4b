"""An engine behind a vLLM server's HTTP interface: its own server, or one that somebody else runs."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any

import aiohttp
import structlog

from isocost.core.errors import FailedPreconditionError, InvalidArgumentError, IsocostError, UnavailableError
from isocost.labeler.engine import ChoiceScores, Runner
from isocost.labeler.model_card import ModelCard
from isocost.labeler.settings import LabelerSettings
from isocost.labeler.vllm_process import VllmProcess

__all__ = ["VLLM_VERSION_MIN", "VllmEngine"]

_log = structlog.get_logger(__name__)

#: The first version that answers `logprob_token_ids` over HTTP.
VLLM_VERSION_MIN = "0.32"
#: Times that a server of our own which died is started again.
_RESTARTS_MAX = 1
_BACKOFF_SECONDS = 0.25
_BACKOFF_SECONDS_MAX = 4.0
#: A server whose engine died answers 500 and is gone about a second later.
_EXIT_WAIT_SECONDS = 3.0
_KEPT = "labels made so far are stored: repeat the command to go on from here"


class _TransientError(Exception):
    """A request failed in a way that may not last."""


class VllmEngine:
    """Scores prompts through a vLLM server; `start` comes first.

    Args:
        card: The model.
        settings: The labeler's; `vllm_url` names a running server, else one is started and stopped here.
    """

    def __init__(self, card: ModelCard, settings: LabelerSettings) -> None:
        self._card = card
        self._settings = settings
        self._process = None if settings.vllm_url else VllmProcess(card.location, card.revision, card.runner, settings)
        self._session: aiohttp.ClientSession | None = None
        self._slots = asyncio.Semaphore(settings.requests_in_flight)
        self._restarting = asyncio.Lock()
        # Counts the starts of our own server, so that requests which failed together restart it once.
        self._generation = 0
        self._n_restarts = 0
        self._is_broken = False
        self._url = settings.vllm_url.rstrip("/")
        self._served_name = ""
        self._version = ""
        self._max_prompt_tokens = card.n_tokens_max

    @property
    def fingerprint(self) -> str:
        """Model, runner, vLLM's version and number format."""
        dtype = self._process.dtype if self._process else "remote"
        return f"{self._card.fingerprint} {self._card.runner.name.lower()} vllm-{self._version} {dtype}"

    @property
    def max_prompt_tokens(self) -> int:
        """Longest prompt that the server accepts."""
        return self._max_prompt_tokens

    @property
    def is_broken(self) -> bool:
        """Whether its own server died too often."""
        return self._is_broken

    async def start(self) -> None:
        """Starts the server, where it is our own, and asks it what it serves.

        Raises:
            UnavailableError: it does not come up, or there is none at the URL.
            InvalidArgumentError: it does not serve the model.
        """
        key = self._settings.vllm_api_key.get_secret_value()
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._settings.request_timeout_seconds),
            headers={"Authorization": f"Bearer {key}"} if key and not self._process else None,
        )
        try:
            if self._process:
                await self._process.start()
                self._url = self._process.url
            await self._look()
        except BaseException:
            await asyncio.shield(self.close())
            raise

    async def close(self) -> None:
        """Ends the server, where it is our own; closing twice does nothing."""
        if self._session is not None:
            await self._session.close()
        if self._process:
            await self._process.stop()

    async def score(self, prompts: Sequence[Sequence[int]], choice_ids: Sequence[int]) -> list[ChoiceScores]:
        """As `Engine.score`; the prompts travel in one request.

        Raises:
            InvalidArgumentError: vLLM refuses one of the prompts.
            FailedPreconditionError: the server is too old, or refuses the key.
            UnavailableError: the server is away and did not come back.
        """
        async with self._slots:
            for attempt in range(1, self._settings.attempts_max + 1):
                generation = self._generation
                try:
                    return await self._score_once(prompts, choice_ids)
                except _TransientError as error:
                    failure = str(error)
                if self._process and await self._is_gone(self._process, generation):
                    await self._restart(generation)
                elif attempt < self._settings.attempts_max:
                    _log.warning("vllm_request_failed", url=self._url, attempt=attempt, reason=failure)
                    await asyncio.sleep(min(_BACKOFF_SECONDS_MAX, _BACKOFF_SECONDS * 2**attempt))
        raise UnavailableError(
            f"the vLLM server at {self._url} failed {self._settings.attempts_max} times ({failure}); "
            f"see that it runs; {_KEPT}"
        )

    async def _is_gone(self, process: VllmProcess, generation: int) -> bool:
        """Whether the server that a request failed with is dead, or being replaced already.

        While another request starts the new server, its process is alive but the address is still the old one: to try
        again then would use up the attempts before the new server is ready.
        """
        if self._restarting.locked() or generation != self._generation:
            return True
        return await process.wait_exited(_EXIT_WAIT_SECONDS)

    async def _score_once(self, prompts: Sequence[Sequence[int]], choice_ids: Sequence[int]) -> list[ChoiceScores]:
        if self._card.runner is Runner.CLASSIFY:
            body = {"model": self._served_name, "input": prompts, "use_activation": False}
            answer = await self._ask("POST", "/classify", body)
            return [_from_logits(entry["probs"]) for entry in _in_order(answer["data"], len(prompts))]
        body = {
            "model": self._served_name,
            "prompt": prompts,
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": 1,
            "logprob_token_ids": choice_ids,
            "return_tokens_as_token_ids": True,
            "add_special_tokens": False,
        }
        answer = await self._ask("POST", "/v1/completions", body)
        return [self._from_logprobs(entry, choice_ids) for entry in _in_order(answer["choices"], len(prompts))]

    def _from_logprobs(self, entry: dict[str, Any], choice_ids: Sequence[int]) -> ChoiceScores:
        by_token: dict[str, float] = ((entry.get("logprobs") or {}).get("top_logprobs") or [{}])[0]
        try:
            return ChoiceScores(tuple(by_token[f"token_id:{choice_id}"] for choice_id in choice_ids))
        except KeyError:
            # A server that does not know a parameter ignores it without a word.
            raise FailedPreconditionError(
                f"the vLLM server at {self._url} (version {self._version}) ignores logprob_token_ids and does not "
                f"answer for every choice; use vLLM {VLLM_VERSION_MIN} or newer",
                field="vllm_url",
            ) from None

    async def _look(self) -> None:
        """Reads the server's version, the name under which it serves the model, and its limit."""
        try:
            version = await self._ask("GET", "/version")
            served = (await self._ask("GET", "/v1/models"))["data"]
        except _TransientError as error:
            raise UnavailableError(
                f"there is no vLLM server at {self._url} ({error}); start it, or correct vllm_url"
            ) from None
        self._version = str(version.get("version", "unknown"))
        names = {self._card.name, self._card.location}
        match = [entry for entry in served if names & {entry.get("id"), entry.get("root")}]
        if not match:
            ids = ", ".join(repr(entry.get("id")) for entry in served)
            raise InvalidArgumentError(
                "config.model", f"the vLLM server at {self._url} does not serve {self._card.name!r} but {ids}"
            )
        self._served_name = match[0]["id"]
        limit = match[0].get("max_model_len")
        if isinstance(limit, int):
            answer_tokens = 1 if self._card.runner is Runner.GENERATE else 0
            self._max_prompt_tokens = min(self._card.n_tokens_max, limit - answer_tokens)

    async def _restart(self, generation: int) -> None:
        """Starts our own dead server again, once for all requests that failed with it."""
        assert self._process is not None
        async with self._restarting:
            if generation != self._generation:
                return
            reason = self._process.describe_failure()
            if self._is_broken or self._n_restarts >= _RESTARTS_MAX:
                self._is_broken = True
                raise UnavailableError(
                    f"vLLM died while it worked on {self._card.name!r}, also after a new start; {reason}; {_KEPT}"
                )
            self._n_restarts += 1
            _log.warning("vllm_restarting", model=self._card.name, reason=reason)
            try:
                await self._process.stop()
                await self._process.start()
                self._url = self._process.url
                await self._look()
            except asyncio.CancelledError:
                # The stream that happened to do it went away; the next request that fails does it anew.
                self._n_restarts -= 1
                raise
            except IsocostError as error:
                self._is_broken = True
                raise UnavailableError(f"vLLM died and could not be started again: {error}; {_KEPT}") from None
            self._generation += 1

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """One request; returns the answer's JSON object.

        Raises:
            _TransientError: no answer, or one that says that a repeat may succeed.
        """
        assert self._session is not None, "start() comes first"
        try:
            async with self._session.request(method, f"{self._url}{path}", json=body) as response:
                status = response.status
                answer = await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ConnectionError, ValueError) as error:
            raise _TransientError(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__) from error
        if status == 200 and isinstance(answer, dict):
            return answer
        message = _message(answer)
        if status in (400, 413, 422):
            raise InvalidArgumentError("fields", f"vLLM refuses the prompt: {message}")
        if status in (401, 403):
            raise FailedPreconditionError(
                f"the vLLM server at {self._url} refuses the API key ({status}); set ISOCOST_LABELER_VLLM_API_KEY",
                field="vllm_api_key",
            )
        if status == 404:
            raise FailedPreconditionError(
                f"the vLLM server at {self._url} answers 404 to {path} ({message}); see that it serves "
                f"{self._card.name!r} with the {self._card.runner.name.lower()} runner",
                field="vllm_url",
            )
        raise _TransientError(f"status {status}: {message}")


def _in_order(entries: list[dict[str, Any]], n_prompts: int) -> list[dict[str, Any]]:
    """The entries of an answer by their prompts' positions."""
    if sorted(entry.get("index", -1) for entry in entries) != list(range(n_prompts)):
        raise _TransientError(f"{len(entries)} answers to {n_prompts} prompts")
    return sorted(entries, key=lambda entry: int(entry["index"]))


def _from_logits(logits: list[float]) -> ChoiceScores:
    largest = max(logits)
    log_total = largest + math.log(math.fsum(math.exp(logit - largest) for logit in logits))
    return ChoiceScores(tuple(logit - log_total for logit in logits))


def _message(answer: Any) -> str:
    """The text of an error answer: vLLM has had two shapes of it."""
    if isinstance(answer, dict):
        error = answer.get("error", answer)
        if isinstance(error, dict):
            error = error.get("message") or error.get("detail") or error
        return str(error)[:500]
    return str(answer)[:500]
