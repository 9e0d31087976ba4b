"""An engine behind a vLLM server's HTTP interface: its own server, or one that somebody else runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import NoReturn

import structlog

from isocost.core.errors import FailedPreconditionError, InvalidArgumentError, IsocostError, UnavailableError
from isocost.labeler.adapter import Adapter
from isocost.labeler.circuit import Circuit
from isocost.labeler.engine import EngineStatus, Runner
from isocost.labeler.model_card import ModelCard
from isocost.labeler.pace import Pace
from isocost.labeler.scoring import Scoring, find_scoring, read_scores
from isocost.labeler.settings import LabelerSettings
from isocost.labeler.vllm_adapters import ServerAdapters
from isocost.labeler.vllm_http import RefusedError, TransientError, VllmHttp
from isocost.labeler.vllm_process import VllmProcess

__all__ = ["VllmEngine"]

_log = structlog.get_logger(__name__)

_BACKOFF_SECONDS = 0.25
_BACKOFF_SECONDS_MAX = 8.0
#: A server whose engine died answers 500 and is gone about a second later.
_EXIT_WAIT_SECONDS = 3.0
_KEPT = "labels made so far are stored: repeat the command to go on from here"


class VllmEngine:
    """Scores prompts through a vLLM server; `start` comes first.

    Args:
        card: The model; where it has an adapter, a server of our own is started ready for adapters of its rank.
        settings: The labeler's; `vllm_url` names a running server, else one is started and stopped here.
    """

    def __init__(self, card: ModelCard, settings: LabelerSettings) -> None:
        self._card = card
        self._settings = settings
        self._process = None if settings.vllm_url else _process_of(card, settings)
        key = "" if self._process else settings.vllm_api_key.get_secret_value()
        self._http = VllmHttp(settings.vllm_url.rstrip("/"), key, settings.request_timeout_seconds)
        self.pace = Pace(settings.prompts_per_request, settings.requests_in_flight)
        self._circuit = Circuit(f"the vLLM server at {self._http.url}")
        self._restarting = asyncio.Lock()
        # Counts the starts of our own server, so that requests which failed together restart it once.
        self._generation = 0
        self._n_restarts = 0
        self._n_restarts_in_row = 0
        self._is_broken = False
        self._version = ""
        self._max_prompt_tokens = card.n_tokens_max
        self._scoring = Scoring.CLASSIFY
        self._adapters = ServerAdapters(self._http, "", [])

    @property
    def fingerprint(self) -> str:
        """Runner, vLLM's version and number format; of all models and adapters on the server."""
        dtype = self._process.dtype if self._process else "remote"
        return f"{self._card.runner.name.lower()} vllm-{self._version} {dtype}"

    @property
    def max_prompt_tokens(self) -> int:
        """Longest prompt that the server accepts."""
        return self._max_prompt_tokens

    @property
    def knows_mass(self) -> bool:
        """Whether the server tells probabilities among the whole vocabulary."""
        return self._scoring.knows_mass

    @property
    def is_broken(self) -> bool:
        """Whether its own server died too often."""
        return self._is_broken

    async def status(self) -> EngineStatus:
        """How the server is read and driven, and what it says of its prefix cache."""
        samples: dict[str, float] = {}
        try:
            samples = await self._http.metrics()
        except TransientError as error:
            _log.info("metrics_unread", url=self._http.url, reason=str(error))
        cached = samples.get("vllm:prompt_tokens_cached_total", samples.get("vllm:prefix_cache_hits_total", 0.0))
        return EngineStatus(
            scoring=self._scoring.value,
            adapters=self._adapters.names,
            prompts_per_request=self.pace.prompts_per_request,
            requests_in_flight=self.pace.requests_in_flight,
            prompt_tokens=int(samples.get("vllm:prompt_tokens_total", 0.0)),
            cached_prompt_tokens=int(cached),
            n_restarts=self._n_restarts,
            circuit_open=self._circuit.is_open,
        )

    async def start(self) -> None:
        """Starts the server, where it is our own, asks it what it serves, and finds out how to read it.

        Raises:
            UnavailableError: it does not come up, or there is none at the URL.
            InvalidArgumentError: it does not serve the model.
            FailedPreconditionError: it tells no probabilities, or refuses the key.
        """
        try:
            if self._process:
                await self._process.start()
                self._http.url = self._process.url
            await self._look_patiently()
        except BaseException:
            await asyncio.shield(self.close())
            raise

    async def close(self) -> None:
        """Ends the server, where it is our own; closing twice does nothing."""
        await self._http.close()
        if self._process:
            await self._process.stop()

    async def score(
        self, prompts: Sequence[Sequence[int]], token_ids: Sequence[int], adapter: Adapter | None = None
    ) -> list[tuple[float, ...]]:
        """As `Engine.score`; the prompts travel in one request.

        Raises:
            InvalidArgumentError: vLLM refuses one of the prompts.
            FailedPreconditionError: the server does not answer for every token, or refuses the key or the adapter.
            UnavailableError: the server is away and did not come back.
        """
        async with self.pace.slot():
            self._circuit.enter()
            try:
                scores = await self._persist(prompts, token_ids, adapter)
            except UnavailableError as error:
                self._circuit.failed(error.message)
                raise UnavailableError(f"{error.message}; {_KEPT}") from None
            except IsocostError:
                self._circuit.succeeded()
                raise
            except BaseException:
                self._circuit.left()
                raise
            self._circuit.succeeded()
        return scores

    async def _persist(
        self, prompts: Sequence[Sequence[int]], token_ids: Sequence[int], adapter: Adapter | None
    ) -> list[tuple[float, ...]]:
        """Asks until the server answers, at most `attempts_max` times; a dead one of our own is started again."""
        failure = TransientError("")
        attempt = n_deaths = 0
        while attempt < self._settings.attempts_max:
            attempt += 1
            generation = self._generation
            start = time.monotonic()
            try:
                name = await self._adapters.name_of(adapter) if adapter else self._adapters.base_name
                scores = await read_scores(self._http, self._scoring, name, prompts, token_ids)
            except RefusedError as error:
                self._raise_refused(error)
            except TransientError as error:
                failure = error
            else:
                self._n_restarts_in_row = 0
                self.pace.answered(len(prompts), time.monotonic() - start)
                return scores
            if self._process and await self._is_gone(self._process, generation):
                n_deaths += 1
                if n_deaths > self._settings.restarts_max:
                    raise UnavailableError(f"vLLM died {n_deaths} times with the same {len(prompts)} prompts")
                await self._restart(self._process, generation)
                # It has all its attempts again with the new server.
                attempt = 0
            elif attempt < self._settings.attempts_max:
                _log.warning("vllm_request_failed", url=self._http.url, attempt=attempt, reason=str(failure))
                backoff_seconds = min(_BACKOFF_SECONDS_MAX, _BACKOFF_SECONDS * 2**attempt)
                await asyncio.sleep(min(60.0, max(backoff_seconds, failure.retry_seconds)))
        raise UnavailableError(
            f"the vLLM server at {self._http.url} failed {self._settings.attempts_max} times ({failure}); see that "
            "it runs"
        )

    def _raise_refused(self, error: RefusedError) -> NoReturn:
        url = self._http.url
        if error.status in (400, 413, 422):
            raise InvalidArgumentError("fields", f"vLLM refuses the prompt: {error.message}") from None
        if error.status in (401, 403):
            raise FailedPreconditionError(
                f"the vLLM server at {url} refuses the API key ({error.status}); set ISOCOST_LABELER_VLLM_API_KEY",
                field="vllm_api_key",
            ) from None
        raise FailedPreconditionError(
            f"the vLLM server at {url} answers {error.status} to {error.path} ({error.message}); see that it serves "
            f"{self._card.name!r} with the {self._card.runner.name.lower()} runner",
            field="vllm_url",
        ) from None

    async def _is_gone(self, process: VllmProcess, generation: int) -> bool:
        """Whether the server that a request failed with is dead, or being replaced already.

        While another request starts the new server, its process is alive but the address is still the old one: to try
        again then would use up the attempts before the new server is ready.
        """
        if self._restarting.locked() or generation != self._generation:
            return True
        return await process.wait_exited(_EXIT_WAIT_SECONDS)

    async def _look_patiently(self) -> None:
        """As `_look`, again where the server does not answer: it may be busy, or about to be ready.

        Raises:
            UnavailableError: it does not answer, however often it is asked.
        """
        url = self._http.url
        for attempt in range(1, self._settings.attempts_max + 1):
            try:
                return await self._look()
            except TransientError as error:
                failure = error
            if attempt < self._settings.attempts_max:
                await asyncio.sleep(max(_BACKOFF_SECONDS * 2**attempt, min(60.0, failure.retry_seconds)))
        raise UnavailableError(f"there is no vLLM server at {url} ({failure}); start it, or correct vllm_url")

    async def _look(self) -> None:
        """Reads the server's version, the name under which it serves the model, and its limit; probes its scoring."""
        url = self._http.url
        try:
            version = await self._http.get("/version")
            served = (await self._http.get("/v1/models"))["data"]
            self._version = str(version.get("version", "unknown"))
            names = {self._card.name, self._card.location}
            match = [entry for entry in served if names & {entry.get("id"), entry.get("root")}]
            if not match:
                ids = ", ".join(repr(entry.get("id")) for entry in served)
                wanted = self._card.location if self._card.adapter else self._card.name
                raise InvalidArgumentError(
                    "config.model", f"the vLLM server at {url} does not serve {wanted!r} but {ids}"
                )
            base_name = match[0]["id"]
            limit = match[0].get("max_model_len")
            generates = self._card.runner is Runner.GENERATE
            if isinstance(limit, int):
                self._max_prompt_tokens = min(self._card.n_tokens_max, limit - 1 if generates else limit)
            if generates:
                self._scoring = await find_scoring(self._http, base_name, len(self._card.tokenizer))
            self._adapters = ServerAdapters(self._http, base_name, served)
        except RefusedError as error:
            self._raise_refused(error)

    async def _restart(self, process: VllmProcess, generation: int) -> None:
        """Starts our own dead server again, once for all requests that failed with it; waits longer each time.

        Raises:
            UnavailableError: it died too often in a row, with no answer in between, or does not come up.
        """
        async with self._restarting:
            if generation != self._generation and not self._is_broken:
                return
            reason = process.describe_failure()
            while True:
                if self._is_broken or self._n_restarts_in_row >= self._settings.restarts_max:
                    self._is_broken = True
                    raise UnavailableError(
                        f"vLLM died while it worked on {self._card.name!r}, also after "
                        f"{self._settings.restarts_max} new starts in a row; {reason}"
                    )
                if self._n_restarts_in_row:
                    await asyncio.sleep(min(_BACKOFF_SECONDS_MAX, _BACKOFF_SECONDS * 2**self._n_restarts_in_row))
                self._n_restarts += 1
                self._n_restarts_in_row += 1
                _log.warning("vllm_restarting", model=self._card.name, reason=reason)
                try:
                    await process.stop()
                    await process.start()
                    self._http.url = process.url
                    await self._look_patiently()
                    break
                except asyncio.CancelledError:
                    # The stream that happened to do it went away; the next request that fails does it anew.
                    self._n_restarts_in_row -= 1
                    raise
                except IsocostError as error:
                    reason = error.message
            self.pace.restart()
            self._generation += 1


def _process_of(card: ModelCard, settings: LabelerSettings) -> VllmProcess:
    lora_rank = card.adapter.rank if card.adapter else 0
    return VllmProcess(card.location, card.revision, card.runner, settings, lora_rank=lora_rank)
