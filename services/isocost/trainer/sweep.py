"""Many runs asked for in one call: each is queued as it comes and told of as it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable

import structlog

from isocost.core.errors import FailedPreconditionError, IsocostError
from isocost.resources.run import Run, RunSpec, RunState
from isocost.trainer.operations import Operations
from isocost.trainer.workers.worker import first_line
from isocost.v1 import trainer_service_pb2 as pb

__all__ = ["Sweep"]

#: Longest time between two messages.
_NEWS_SECONDS = 1.0
_log = structlog.get_logger(__name__)


class Sweep:
    """The runs of one call.

    Usage::

        async for response in Sweep(operations).news(requests):
            ...
    """

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        #: Runs that ended and were not told of; None wakes who waits.
        self._ended: asyncio.Queue[pb.Run | None] = asyncio.Queue()
        self._seen: set[bytes | str] = set()
        self._forget: list[Callable[[], None]] = []
        self._n_runs = self._n_succeeded = self._n_failed = 0
        #: Runs that were not done already when they were asked for, and have ended: they tell the pace.
        self._n_executed = 0
        self._start_seconds = time.monotonic()

    async def news(self, requests: AsyncIterator[pb.SweepRequest]) -> AsyncGenerator[pb.SweepResponse, None]:
        """Queues runs while they come in; yields each as it ends, and at least every second how far all are.

        What was queued goes on where the caller goes away.

        Raises:
            FailedPreconditionError: where the service is stopping.
        """
        reading = asyncio.create_task(self._read(requests))
        reading.add_done_callback(lambda _: self._ended.put_nowait(None))
        try:
            while not (reading.done() and self._n_open == 0 and self._ended.empty()):
                try:
                    run = await asyncio.wait_for(self._ended.get(), _NEWS_SECONDS)
                except TimeoutError:
                    run = None
                if run is not None:
                    self._count(run)
                elif reading.done():
                    reading.result()
                yield self._response(run)
            await reading
        finally:
            reading.cancel()
            await asyncio.wait([reading])
            for forget in self._forget:
                forget()

    async def _read(self, requests: AsyncIterator[pb.SweepRequest]) -> None:
        async for request in requests:
            for spec in request.specs:
                content = spec.SerializeToString(deterministic=True)
                if content not in self._seen:
                    self._seen.add(content)
                    await self._create(spec)

    async def _create(self, message: pb.RunSpec) -> None:
        try:
            run = await self._operations.create(RunSpec.from_proto(message))
        except FailedPreconditionError:
            raise
        except Exception as error:  # noqa: BLE001 - one that cannot be created must not stop the others
            if not isinstance(error, IsocostError):
                _log.error("run_not_created", exc_info=error)
            reason = str(error) if isinstance(error, IsocostError) else first_line(error)
            self._n_runs += 1
            # As it came: it may be none that a RunSpec could hold.
            self._ended.put_nowait(pb.Run(spec=message, state=RunState.FAILED.value, error=reason))
            return
        # Other words for a run that is there, for example a longer list of which it uses no more.
        if run.run_id in self._seen:
            return
        self._seen.add(run.run_id)
        self._n_runs += 1
        if run.state.ended:
            self._ended.put_nowait(run.to_proto())
        else:
            self._forget.append(self._operations.on_end(run.run_id, self._on_end))

    def _on_end(self, run: Run) -> None:
        self._n_executed += 1
        self._ended.put_nowait(run.to_proto())

    @property
    def _n_open(self) -> int:
        return self._n_runs - self._n_succeeded - self._n_failed

    def _count(self, run: pb.Run) -> None:
        if run.state == RunState.SUCCEEDED.value:
            self._n_succeeded += 1
        else:
            self._n_failed += 1

    def _response(self, run: pb.Run | None) -> pb.SweepResponse:
        elapsed_seconds = time.monotonic() - self._start_seconds
        return pb.SweepResponse(
            run=run,
            n_runs=self._n_runs,
            n_succeeded=self._n_succeeded,
            n_failed=self._n_failed,
            eta_seconds=elapsed_seconds / self._n_executed * self._n_open if self._n_executed else 0.0,
        )
