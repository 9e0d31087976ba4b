"""Workers: what executes runs, one at a time each, in this process, in one of its own, or elsewhere. Needs no torch."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from isocost.core import errors
from isocost.core.errors import FailedPreconditionError, InvalidArgumentError, IsocostError
from isocost.resources.run import RunProgress, RunSpec, StageResult
from isocost.trainer.examples import ExampleStore
from isocost.trainer.identity import resolve_run
from isocost.trainer.models.base_model import BaseModelFinder
from isocost.trainer.run_result import RunResult
from isocost.trainer.settings import TrainerSettings

if TYPE_CHECKING:
    from isocost.trainer.run import RunExecutor

__all__ = [
    "Failure",
    "InProcessWorker",
    "OnProgress",
    "UnexpectedError",
    "Worker",
    "WorkerLostError",
    "WorkerPool",
    "first_line",
    "open_pool",
]

OnProgress = Callable[[RunProgress, tuple[StageResult, ...]], None]


class WorkerLostError(Exception):
    """The worker died with the run in it; the message continues "the worker ..."."""


class UnexpectedError(Exception):
    """A run met an error in another process that is none of `IsocostError`'s; the message is its name and first line.

    Attributes:
        trace: The traceback, for the log.
    """

    def __init__(self, message: str, trace: str) -> None:
        super().__init__(message)
        self.trace = trace


class Worker(Protocol):
    """Executes runs, one after another."""

    def execute(
        self, run_id: str, spec: RunSpec, on_progress: OnProgress, is_cancelled: Callable[[], bool]
    ) -> RunResult | None:
        """Executes a run; blocks until it ended. Always called from the same thread.

        Args:
            run_id: Its address when it was queued.
            spec: What to do.
            on_progress: Called in this thread at the start of each stage, at its end, and every so often in between.
            is_cancelled: Asked often.

        Returns:
            What it made; None where it was cancelled.

        Raises:
            IsocostError: the run cannot be done; the message says why.
            WorkerLostError: the worker died; the next call starts another one.
            UnexpectedError: anything else that went wrong in another process.
        """

    def close(self) -> None:
        """Ends the worker, which executes nothing now."""


class WorkerPool(Protocol):
    """Where workers come from."""

    def open(self, index: int) -> Worker:
        """A worker; index counts them from 0. What it needs it starts with its first run."""

    def close(self) -> None:
        """Lets go of what the workers shared; all of them are closed."""


def open_pool(settings: TrainerSettings) -> WorkerPool:
    """The workers that the settings ask for.

    Raises:
        FailedPreconditionError: Ray is asked for and not installed.
        UnavailableError: the Ray cluster cannot be reached.
    """
    if settings.executor == "ray":
        from isocost.trainer.workers.worker_ray import RayPool  # noqa: PLC0415 - an extra

        return RayPool(settings)
    return _LocalPool(settings)


class _LocalPool:
    """One worker in this process, or several in processes of their own."""

    def __init__(self, settings: TrainerSettings) -> None:
        self._settings = settings

    def open(self, index: int) -> Worker:
        """A worker on this machine."""
        if self._settings.n_workers == 1:
            return InProcessWorker(self._settings)
        from isocost.trainer.workers.worker_process import ProcessWorker  # noqa: PLC0415 - imports this module

        return ProcessWorker(self._settings, index)

    def close(self) -> None:
        """Workers share nothing."""


class InProcessWorker:
    """Executes runs in the calling thread, from the lists of examples in the state folder.

    Args:
        settings: n_threads is the number of threads of this worker.
        device_index: Which CUDA device to use, counted around those that are there.
    """

    def __init__(self, settings: TrainerSettings, device_index: int = 0) -> None:
        self._settings = settings
        self._device_index = device_index
        self._examples = ExampleStore(settings.state_dir.absolute() / "examples")
        self._finder = BaseModelFinder()
        self._executor: RunExecutor | None = None

    def execute(
        self, run_id: str, spec: RunSpec, on_progress: OnProgress, is_cancelled: Callable[[], bool]
    ) -> RunResult | None:
        """Executes a run."""
        # Imports torch: several seconds, and not before somebody trains.
        from isocost.trainer.models.prediction import Cancelled  # noqa: PLC0415

        resolved = resolve_run(spec, self._finder.find(spec.base_model), self._examples)
        if resolved.run_id != run_id:
            # Its result would lie under the address of another one.
            raise FailedPreconditionError(
                f"the files of {spec.base_model!r} are not those for which the run was created; create the run again",
                field="spec.base_model",
            )
        try:
            return self._run_executor().execute(resolved, on_progress, is_cancelled)
        except Cancelled:
            return None

    def close(self) -> None:
        """Forgets the models."""
        self._executor = None

    def _run_executor(self) -> RunExecutor:
        if self._executor is None:
            from isocost.trainer.run import RunExecutor  # noqa: PLC0415 - imports torch

            if self._device_index:
                import torch  # noqa: PLC0415 - slow to import

                if self._settings.device != "cpu" and torch.cuda.is_available():
                    torch.cuda.set_device(self._device_index % torch.cuda.device_count())
            self._executor = RunExecutor(self._settings)
        return self._executor


@dataclass(frozen=True, slots=True)
class Failure:
    """An error on its way between processes: errors themselves do not all survive it.

    Attributes:
        kind: Name of its class in `isocost.core.errors`; "" for any other error.
        message, field: The error's own; for any other its name and first line, and "".
        trace: The traceback of any other; else "".
    """

    kind: str
    message: str
    field: str = ""
    trace: str = ""

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """Packs an error."""
        if isinstance(error, IsocostError):
            return cls(type(error).__name__, error.message, error.field)
        return cls("", first_line(error), trace="".join(traceback.format_exception(error)))

    def error(self) -> Exception:
        """The error: the same as was packed, or `UnexpectedError`."""
        kind = getattr(errors, self.kind, IsocostError) if self.kind else None
        if kind is None:
            return UnexpectedError(self.message, self.trace)
        if kind is InvalidArgumentError:
            return InvalidArgumentError(self.field, self.message)
        made: Exception = kind(self.message, field=self.field)
        return made


def first_line(error: Exception) -> str:
    """An error's name and the first line of its message."""
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"
