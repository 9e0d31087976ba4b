"""Runs as long-running operations: one worker thread executes them one after another, everybody may watch.

All state here belongs to the event loop; the worker thread hands its news over with `call_soon_threadsafe`.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from isocost.core.errors import FailedPreconditionError, IsocostError, NotFoundError
from isocost.resources.run import Run, RunProgress, RunSpec, RunState, StageResult
from isocost.trainer.base_model import BaseModelFinder
from isocost.trainer.examples import ExampleStore
from isocost.trainer.identity import ResolvedRun, resolve_run
from isocost.trainer.run_store import RunStore
from isocost.trainer.settings import TrainerSettings

if TYPE_CHECKING:
    from isocost.trainer.run import RunExecutor

__all__ = ["Operations"]

_INTERRUPTED = "the trainer stopped before the run ended; create the run again to go on with the stages it finished"
_log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class _Operation:
    """A run that is queued or running, or ended since the service began."""

    run: Run
    resolved: ResolvedRun
    cancel: threading.Event = field(default_factory=threading.Event)
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class Operations:
    """Creates, executes, watches and cancels runs."""

    def __init__(self, settings: TrainerSettings, examples: ExampleStore) -> None:
        self._settings = settings
        self._examples = examples
        self._finder = BaseModelFinder()
        self._runs = RunStore(settings.state_dir.absolute() / "runs")
        self._operations: dict[str, _Operation] = {}
        self._queue: deque[_Operation] = deque()
        self._queued = asyncio.Event()
        self._create_lock = asyncio.Lock()
        # One thread: runs share the processor or the GPU, and torch's random state.
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="isocost-trainer")
        self._executor: RunExecutor | None = None
        self._loop_task: asyncio.Task[None] | None = None
        self._closing = False

    async def start(self) -> None:
        """Begins to execute runs."""
        self._loop_task = asyncio.create_task(self._work())

    async def close(self) -> None:
        """Cancels what is queued or running, and waits until the worker thread has ended."""
        self._closing = True
        while self._queue:
            await self._end(self._queue.popleft(), RunState.CANCELLED, error=_INTERRUPTED)
        for operation in self._operations.values():
            operation.cancel.set()
        self._queued.set()
        if self._loop_task is not None:
            await self._loop_task
        await asyncio.to_thread(self._worker.shutdown)

    async def create(self, spec: RunSpec) -> Run:
        """Queues a run, or returns the one that is queued, running or succeeded.

        Raises:
            NotFoundError: a list of examples that is not there.
            InvalidArgumentError: names the field that is wrong.
            FailedPreconditionError: where the service is stopping.
        """
        resolved = await asyncio.to_thread(self._resolve, spec)
        async with self._create_lock:
            if self._closing:
                raise FailedPreconditionError("the trainer is stopping; create the run again when it is back")
            operation = self._operations.get(resolved.run_id)
            known = operation.run if operation else await asyncio.to_thread(self._runs.find, resolved.run_id)
            if known is not None and operation is not None and not known.state.ended:
                return known
            if known is not None and known.state is RunState.SUCCEEDED and _has_output(known):
                return known
            operation = _Operation(Run(resolved.run_id, spec, RunState.QUEUED), resolved)
            await asyncio.to_thread(self._runs.put, operation.run)
            self._operations[resolved.run_id] = operation
            self._queue.append(operation)
            self._queued.set()
            return operation.run

    async def get(self, run_id: str) -> Run:
        """The run as it stands; one that another process left unfinished counts as cancelled.

        Raises:
            NotFoundError: where there is no such run.
        """
        if run_id in self._operations:
            return self._operations[run_id].run
        run = await asyncio.to_thread(self._runs.find, run_id)
        if run is None:
            raise NotFoundError(f"there is no run {run_id!r}", field="run_id")
        if not run.state.ended:
            return replace(run, state=RunState.CANCELLED, error=_INTERRUPTED)
        return run

    async def watch(self, run_id: str) -> AsyncIterator[Run]:
        """Yields the run whenever it changed, the latest only, until it ended.

        Raises:
            NotFoundError: where there is no such run.
        """
        operation = self._operations.get(run_id)
        if operation is None:
            yield await self.get(run_id)
            return
        while True:
            changed = operation.changed
            run = operation.run
            yield run
            if run.state.ended:
                return
            await changed.wait()

    async def cancel(self, run_id: str) -> Run:
        """Cancels a run and returns it as it stands; a run that ended stays as it is.

        Raises:
            NotFoundError: where there is no such run.
        """
        operation = self._operations.get(run_id)
        if operation is None or operation.run.state.ended:
            return await self.get(run_id)
        operation.cancel.set()
        if operation in self._queue:
            self._queue.remove(operation)
            await self._end(operation, RunState.CANCELLED)
            return operation.run
        try:
            async with asyncio.timeout(self._settings.cancel_wait_seconds):
                async for _ in self.watch(run_id):
                    pass
        except TimeoutError:
            _log.warning("run_slow_to_cancel", run_id=run_id)
        return operation.run

    def _resolve(self, spec: RunSpec) -> ResolvedRun:
        return resolve_run(spec, self._finder.find(spec.base_model), self._examples)

    async def _work(self) -> None:
        while not self._closing:
            if not self._queue:
                self._queued.clear()
                await self._queued.wait()
                continue
            operation = self._queue.popleft()
            self._set(operation, replace(operation.run, state=RunState.RUNNING))
            await self._execute(operation)

    async def _execute(self, operation: _Operation) -> None:
        run_id = operation.run.run_id
        loop = asyncio.get_running_loop()
        try:
            run = await loop.run_in_executor(self._worker, self._execute_in_thread, operation, loop)
        except IsocostError as error:
            await self._end(operation, RunState.FAILED, error=str(error))
        except Exception as error:  # noqa: BLE001 - a run that fails must not take the service with it
            _log.exception("run_failed", run_id=run_id, exc_info=error)
            reason = str(error).strip().splitlines()[0] if str(error).strip() else "no message"
            await self._end(operation, RunState.FAILED, error=f"{type(error).__name__}: {reason}")
        else:
            if run is None:
                await self._end(operation, RunState.CANCELLED, error=_INTERRUPTED if self._closing else "")
            else:
                self._set(operation, run)

    def _execute_in_thread(self, operation: _Operation, loop: asyncio.AbstractEventLoop) -> Run | None:
        """Executes and stores a run in the worker thread; returns it, or None where it was cancelled."""
        # Imports torch: several seconds, and not before somebody trains.
        from isocost.trainer.prediction import Cancelled  # noqa: PLC0415
        from isocost.trainer.run import RunExecutor  # noqa: PLC0415

        if self._executor is None:
            self._executor = RunExecutor(self._settings)

        def on_progress(progress: RunProgress, stages: tuple[StageResult, ...]) -> None:
            loop.call_soon_threadsafe(self._report, operation, progress, stages)

        try:
            result = self._executor.execute(operation.resolved, on_progress, operation.cancel.is_set)
        except Cancelled:
            return None
        run = replace(
            operation.run,
            state=RunState.SUCCEEDED,
            progress=RunProgress(stage_index=len(result.stages)),
            stages=result.stages,
            evaluations=result.evaluations,
            output_path=result.output_path,
            end_time=datetime.now(UTC),
        )
        self._runs.put(run)
        return run

    def _report(self, operation: _Operation, progress: RunProgress, stages: tuple[StageResult, ...]) -> None:
        if not operation.run.state.ended:
            self._set(operation, replace(operation.run, progress=progress, stages=stages))

    async def _end(self, operation: _Operation, state: RunState, *, error: str = "") -> None:
        run = replace(operation.run, state=state, error=error, end_time=datetime.now(UTC))
        await asyncio.to_thread(self._runs.put, run)
        self._set(operation, run)

    def _set(self, operation: _Operation, run: Run) -> None:
        operation.run = run
        # A new event each time: whoever waits for the old one sees this change, whoever comes later waits for the next.
        operation.changed.set()
        operation.changed = asyncio.Event()


def _has_output(run: Run) -> bool:
    return not run.output_path or Path(run.output_path).is_dir()
