"""Runs as long-running operations: workers execute them, everybody may watch.

All state here belongs to the event loop; the workers' threads hand their news over with `call_soon_threadsafe`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar, TypeVarTuple, Unpack

import structlog

from isocost.core.errors import FailedPreconditionError, IsocostError, NotFoundError
from isocost.resources.run import Run, RunProgress, RunSpec, RunState, StageResult
from isocost.trainer.disk import prune
from isocost.trainer.examples import ExampleList, ExampleStore
from isocost.trainer.identity import ResolvedRun, resolve_run
from isocost.trainer.models.base_model import BaseModelFinder
from isocost.trainer.run_result import RunResult
from isocost.trainer.run_store import RunStore
from isocost.trainer.settings import TrainerSettings
from isocost.trainer.workers.queue import RunQueue
from isocost.trainer.workers.worker import (
    UnexpectedError,
    Worker,
    WorkerLostError,
    WorkerPool,
    first_line,
    open_pool,
)

__all__ = ["Operations"]

_INTERRUPTED = "the trainer stopped before the run ended; create the run again to go on with the stages it finished"
#: How the queue's names of truncated base models begin; those of stages begin otherwise.
_BASE = "base-"
#: Workers that a run may take with it before it is given up.
_WORKERS_MAX = 3
_log = structlog.get_logger(__name__)

_Arguments = TypeVarTuple("_Arguments")
_Result = TypeVar("_Result")
OnEnd = Callable[[Run], None]


@dataclass(slots=True, eq=False)
class _Operation:
    """A run that is queued or running, or ended since the service began."""

    run: Run
    #: What the queue is told that it makes: see `_products`.
    products: tuple[str, ...]
    cancel: threading.Event = field(default_factory=threading.Event)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    on_end: list[OnEnd] = field(default_factory=list)
    n_workers_lost: int = 0


class Operations:
    """Creates, executes, watches and cancels runs."""

    def __init__(self, settings: TrainerSettings, examples: ExampleStore) -> None:
        self._settings = settings
        self._state_dir = settings.state_dir.absolute()
        self._examples = examples
        self._finder = BaseModelFinder()
        self._runs = RunStore(self._state_dir / "runs")
        self._operations: dict[str, _Operation] = {}
        self._queue = RunQueue()
        #: Set whenever a run that waits may have become ready; a new one each time, as in `_set`.
        self._ready = asyncio.Event()
        self._create_lock = asyncio.Lock()
        # One thread: the lists of examples kept in memory are not made for several.
        self._files = ThreadPoolExecutor(max_workers=1, thread_name_prefix="isocost-trainer-files")
        self._pool: WorkerPool | None = None
        self._slots: list[asyncio.Task[None]] = []
        self._closing = False

    async def start(self) -> None:
        """Begins to execute runs.

        Raises:
            FailedPreconditionError: Ray is asked for and not installed.
            UnavailableError: the Ray cluster cannot be reached.
        """
        self._pool = await asyncio.to_thread(open_pool, self._settings)
        for index in range(self._settings.n_workers):
            self._slots.append(asyncio.create_task(self._work(self._pool, index)))

    async def close(self) -> None:
        """Cancels what is queued or running, and waits until the workers have ended."""
        self._closing = True
        for operation in self._operations.values():
            operation.cancel.set()
            if self._queue.remove(operation.run.run_id):
                # Stored as queued, it counts as cancelled when the service is back: see `get`.
                run = replace(operation.run, state=RunState.CANCELLED, error=_INTERRUPTED, end_time=datetime.now(UTC))
                self._set(operation, run)
        self._wake()
        await asyncio.gather(*self._slots)
        if self._pool is not None:
            await asyncio.to_thread(self._pool.close)
        await asyncio.to_thread(self._files.shutdown)

    async def put_examples(self, examples: ExampleList) -> None:
        """Stores a list of examples."""
        await self._in_files(self._examples.put, examples)

    async def create(self, spec: RunSpec) -> Run:
        """Queues a run, or returns the one that is queued, running or succeeded.

        Raises:
            NotFoundError: a list of examples that is not there.
            InvalidArgumentError: names the field that is wrong.
            FailedPreconditionError: where the service is stopping.
        """
        run_id, products, made = await self._in_files(self._resolve, spec)
        async with self._create_lock:
            if self._closing:
                raise FailedPreconditionError("the trainer is stopping; create the run again when it is back")
            operation = self._operations.get(run_id)
            known = operation.run if operation else await self._in_files(self._runs.find, run_id)
            if known is not None and operation is not None and not known.state.ended:
                return known
            if known is not None and known.state is RunState.SUCCEEDED and _serves(known, spec):
                return known
            operation = _Operation(Run(run_id, spec, RunState.QUEUED), products)
            await self._in_files(self._put_queued, operation.run)
            self._operations[run_id] = operation
            self._queue.put(run_id, products, made=made)
            self._wake()
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

    def on_end(self, run_id: str, listener: OnEnd) -> Callable[[], None]:
        """Has a run that was created told to a listener when it ends, at once where it has ended.

        Returns:
            Takes the listener away.
        """
        operation = self._operations[run_id]
        if operation.run.state.ended:
            listener(operation.run)
            return lambda: None
        operation.on_end.append(listener)
        return lambda: operation.on_end.remove(listener) if listener in operation.on_end else None

    async def cancel(self, run_id: str) -> Run:
        """Cancels a run and returns it as it stands; a run that ended stays as it is.

        Raises:
            NotFoundError: where there is no such run.
        """
        operation = self._operations.get(run_id)
        if operation is None or operation.run.state.ended:
            return await self.get(run_id)
        # A job at somebody else's server is cancelled as well, which it is not where this service stops.
        await self._in_files(self._runs.mark_cancelled, run_id)
        operation.cancel.set()
        if self._queue.remove(run_id):
            await self._end(operation, RunState.CANCELLED)
            return operation.run
        try:
            async with asyncio.timeout(self._settings.cancel_wait_seconds):
                async for _ in self.watch(run_id):
                    pass
        except TimeoutError:
            _log.warning("run_slow_to_cancel", run_id=run_id)
        return operation.run

    async def _in_files(self, function: Callable[[Unpack[_Arguments]], _Result], *arguments: *_Arguments) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._files, function, *arguments)

    def _resolve(self, spec: RunSpec) -> tuple[str, tuple[str, ...], list[str]]:
        """A run's id, what it makes, and what of that is there. The lists it trains on are not kept: they are long."""
        resolved = resolve_run(spec, self._finder.find(spec.base_model), self._examples)
        stages = [planned.stage_id for planned in resolved.stages]
        made = [stage_id for stage_id in stages if (self._state_dir / "stages" / stage_id).is_dir()]
        return resolved.run_id, (*_bases(resolved), *stages), made

    def _put_queued(self, run: Run) -> None:
        # Not flushed: after a loss of power the run is not there, and the caller creates it again, as it would a
        # cancelled one. A sweep creates thousands.
        self._runs.unmark_cancelled(run.run_id)
        self._runs.put(run, flush=False)

    async def _work(self, pool: WorkerPool, index: int) -> None:
        """One worker's life: it takes one run after another, each in the same thread."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"isocost-trainer-{index}") as thread:
            worker = pool.open(index)
            while not self._closing:
                ready = self._ready
                run_id = self._queue.take()
                if run_id is None:
                    await ready.wait()
                    continue
                operation = self._operations[run_id]
                self._set(operation, replace(operation.run, state=RunState.RUNNING))
                await self._execute(operation, worker, thread)
                self._wake()
                await self._in_files(prune, self._state_dir, self._settings.cache_bytes_max, self._in_use())
            await loop.run_in_executor(thread, worker.close)

    def _in_use(self) -> set[str]:
        """What runs that wait or run need of the caches."""
        alive = (operation for operation in self._operations.values() if not operation.run.state.ended)
        return {product for operation in alive for product in operation.products}

    async def _execute(self, operation: _Operation, worker: Worker, thread: ThreadPoolExecutor) -> None:
        run_id = operation.run.run_id
        loop = asyncio.get_running_loop()

        def on_progress(progress: RunProgress, stages: tuple[StageResult, ...]) -> None:
            loop.call_soon_threadsafe(self._report, operation, progress, stages)

        try:
            outcome = await loop.run_in_executor(
                thread, worker.execute, run_id, operation.run.spec, on_progress, operation.cancel.is_set
            )
        except WorkerLostError as error:
            self._queue.end(run_id)
            await self._end_or_repeat(operation, error)
        except Exception as error:  # noqa: BLE001 - a run that fails must not take the service with it
            self._queue.end(run_id)
            await self._end(operation, RunState.FAILED, error=_told(run_id, error))
        else:
            if outcome is not None:
                self._queue.made(operation.products)
            self._queue.end(run_id)
            if outcome is None:
                await self._end(operation, RunState.CANCELLED, error=_INTERRUPTED if self._closing else "")
            else:
                await self._succeed(operation, outcome)

    async def _end_or_repeat(self, operation: _Operation, error: WorkerLostError) -> None:
        """A run whose worker died goes back to the head of the queue; its finished stages are there."""
        run = operation.run
        _log.warning("worker_lost", run_id=run.run_id, reason=str(error))
        operation.n_workers_lost += 1
        if operation.cancel.is_set():
            await self._end(operation, RunState.CANCELLED, error=_INTERRUPTED if self._closing else "")
        elif operation.n_workers_lost == _WORKERS_MAX:
            reason = f"{_WORKERS_MAX} workers died with the run in them; the last worker {error}"
            await self._end(operation, RunState.FAILED, error=reason)
        else:
            self._set(operation, replace(run, state=RunState.QUEUED, progress=RunProgress(), stages=()))
            self._queue.put(run.run_id, operation.products, is_first=True)

    async def _succeed(self, operation: _Operation, outcome: RunResult) -> None:
        run = replace(
            operation.run,
            state=RunState.SUCCEEDED,
            progress=RunProgress(stage_index=len(outcome.stages)),
            stages=outcome.stages,
            evaluations=outcome.evaluations,
            output_path=outcome.output_path,
            end_time=datetime.now(UTC),
        )
        await self._store(operation, run)

    def _report(self, operation: _Operation, progress: RunProgress, stages: tuple[StageResult, ...]) -> None:
        if operation.run.state is not RunState.RUNNING:
            return
        self._set(operation, replace(operation.run, progress=progress, stages=stages))
        made = [stage.stage_id for stage in stages]
        if progress.step:
            # Training has begun, so what is made before the stages is there.
            made += [product for product in operation.products if product.startswith(_BASE)]
        if self._queue.made(made):
            self._wake()

    async def _end(self, operation: _Operation, state: RunState, *, error: str = "") -> None:
        await self._store(operation, replace(operation.run, state=state, error=error, end_time=datetime.now(UTC)))

    async def _store(self, operation: _Operation, run: Run) -> None:
        try:
            await asyncio.to_thread(self._runs.put, run)
        except OSError as error:
            _log.error("run_not_stored", run_id=run.run_id, exc_info=error)
            run = replace(run, state=RunState.FAILED, error=f"its result cannot be stored: {first_line(error)}")
        self._set(operation, run)

    def _set(self, operation: _Operation, run: Run) -> None:
        operation.run = run
        # A new event each time: whoever waits for the old one sees this change, whoever comes later waits for the next.
        operation.changed.set()
        operation.changed = asyncio.Event()
        if run.state.ended:
            listeners, operation.on_end = operation.on_end, []
            for listener in listeners:
                listener(run)

    def _wake(self) -> None:
        """Has the workers that wait look at the queue."""
        self._ready.set()
        self._ready = asyncio.Event()


def _bases(resolved: ResolvedRun) -> tuple[str, ...]:
    """The truncated base model that a run's first use makes, where layers are left out."""
    base, method = resolved.base, resolved.spec.method
    if method.n_layers in (0, base.n_layers):
        return ()
    return (f"{_BASE}{base.digest}-{method.n_layers}-{method.head.name}",)


def _told(run_id: str, error: Exception) -> str:
    """Why a run failed, in one line; what is nobody's mistake goes to the log with all its lines."""
    if isinstance(error, IsocostError):
        return str(error)
    if isinstance(error, UnexpectedError):
        _log.error("run_failed", run_id=run_id, trace=error.trace)
        return str(error)
    _log.error("run_failed", run_id=run_id, exc_info=error)
    return first_line(error)


def _serves(run: Run, spec: RunSpec) -> bool:
    """Whether a run that succeeded has all that is asked for; one whose weights were not wanted then may lack them."""
    if not run.output_path:
        return spec.discard_output or not run.spec.discard_output
    return Path(run.output_path).is_dir()
