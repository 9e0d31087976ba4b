"""A worker in a process of its own: its end of the pipe, and how the process is started, watched and ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe

import structlog

from isocost.resources.run import RunProgress, RunSpec, StageResult
from isocost.trainer.run_result import RunResult
from isocost.trainer.settings import TrainerSettings
from isocost.trainer.workers.worker import Failure, OnProgress, WorkerLostError

__all__ = ["Cancel", "Ended", "Execute", "ProcessWorker", "Report"]

#: How soon a run is cancelled after it was asked for.
_POLL_SECONDS = 0.05
#: What a process is given to end by itself; it has nothing to do then.
_END_SECONDS = 10.0
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Execute:
    """Tells the process to execute a run."""

    run_id: str
    spec: RunSpec


@dataclass(frozen=True, slots=True)
class Cancel:
    """Tells the process to stop the run that it executes, if any."""


@dataclass(frozen=True, slots=True)
class Report:
    """Told by the process: how far its run is."""

    progress: RunProgress
    stages: tuple[StageResult, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """Told by the process: its run ended; both are None where it was cancelled."""

    outcome: RunResult | None = None
    failure: Failure | None = None


class ProcessWorker:
    """Executes runs in a process that is started with the first of them, and again after it died.

    The process ends with the pipe: however this one ends, none is left behind.
    """

    def __init__(self, settings: TrainerSettings, index: int) -> None:
        self._settings = settings.model_copy(
            update={"state_dir": settings.state_dir.absolute(), "n_threads": settings.worker_threads}
        )
        self._index = index
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def execute(
        self, run_id: str, spec: RunSpec, on_progress: OnProgress, is_cancelled: Callable[[], bool]
    ) -> RunResult | None:
        """Executes a run."""
        try:
            ended = self._execute(Execute(run_id, spec), on_progress, is_cancelled)
        except (EOFError, OSError):
            raise WorkerLostError(self._bury()) from None
        if ended.failure is not None:
            raise ended.failure.error()
        return ended.outcome

    def _execute(self, task: Execute, on_progress: OnProgress, is_cancelled: Callable[[], bool]) -> Ended:
        connection = self._connection or self._start()
        connection.send(task)
        is_told = False
        while True:
            if not is_told and is_cancelled():
                connection.send(Cancel())
                is_told = True
            if not connection.poll(_POLL_SECONDS):
                continue
            message = connection.recv()
            if isinstance(message, Ended):
                return message
            on_progress(message.progress, message.stages)

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._bury()

    def _start(self) -> Connection:
        ours, theirs = Pipe()
        # A process of its own program, not a copy of this one: what it inherits is the pipe and the environment.
        command = [
            sys.executable,
            "-P",
            "-m",
            "isocost.trainer.workers.worker_main",
            str(theirs.fileno()),
            str(self._index),
        ]
        threads = {"OMP_NUM_THREADS": str(self._settings.n_threads)}
        with contextlib.closing(theirs):
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=os.environ | threads,
            )
        self._connection = ours
        _log.info("worker_started", index=self._index, pid=self._process.pid)
        ours.send(self._settings)
        return ours

    def _bury(self) -> str:
        """Ends the process where it has not ended, and says what became of it."""
        process, connection = self._process, self._connection
        assert process is not None
        self._process = self._connection = None
        if connection is not None:
            connection.close()
        try:
            code = process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        if code >= 0:
            return f"ended with exit code {code}"
        reason = f"was killed by signal {-code} ({signal.Signals(-code).name})"
        return f"{reason}, as happens where memory runs out" if -code == signal.SIGKILL else reason
