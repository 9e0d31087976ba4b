"""Short reads of many callers, done together: one transaction and one thread hop for all that wait."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from isocost.core.errors import UnavailableError

__all__ = ["SharedReads"]

#: Reads of one transaction; more wait for the next one.
_READS_MAX = 64

_Result = TypeVar("_Result")
_Work = Callable[[Connection], Any]


@dataclass(slots=True)
class _Read:
    work: _Work
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None

    def settle(self) -> None:
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class SharedReads:
    """Runs short reads in shared transactions.

    A transaction begins after all its reads have arrived, so none sees anything older than it would alone. While it
    runs, those that arrive gather for the next one: the more callers, the less a read costs.

    Args:
        begin: Opens a read transaction.
        threads: Where transactions run, one at a time; None for the event loop's own thread, for a database that
            answers from memory and waits for nobody: there a hop to another thread costs more than the read.
    """

    def __init__(self, begin: Callable[[], AbstractContextManager[Connection]], threads: Executor | None) -> None:
        self._begin = begin
        self._threads = threads
        self._waiting: deque[_Read] = deque()
        self._running = False

    async def run(self, work: Callable[[Connection], _Result]) -> _Result:
        """Runs one read; it must not take long, as others wait for it.

        Raises:
            UnavailableError: where the database is away or locked.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_Result] = loop.create_future()
        self._waiting.append(_Read(work, future))
        if not self._running:
            self._running = True
            # Not at once: those whose calls came in the same moment are to come along.
            loop.call_soon(self._start, loop)
        return await future

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        reads: list[_Read] = []
        while self._waiting and len(reads) < _READS_MAX:
            read = self._waiting.popleft()
            # A caller that left, or whose deadline passed, asks for nothing any more.
            if not read.future.done():
                reads.append(read)
        if not reads:
            self._running = False
            return
        if self._threads is None:
            self._transaction(reads)
            self._finish(reads, loop)
        else:
            self._threads.submit(self._in_thread, reads, loop)

    def _in_thread(self, reads: list[_Read], loop: asyncio.AbstractEventLoop) -> None:
        self._transaction(reads)
        loop.call_soon_threadsafe(self._finish, reads, loop)

    def _transaction(self, reads: list[_Read]) -> None:
        rest = deque(reads)
        while rest:
            read = rest.popleft()
            try:
                with self._begin() as connection:
                    while True:
                        read.result = _run(read, connection)
                        if not rest:
                            break
                        read = rest.popleft()
            except BaseException as error:  # noqa: BLE001 - it is the caller's, on the other side of the thread
                # A broken transaction takes one read with it; the rest goes on in another.
                read.error = error

    def _finish(self, reads: list[_Read], loop: asyncio.AbstractEventLoop) -> None:
        for read in reads:
            read.settle()
        if self._waiting:
            loop.call_soon(self._start, loop)
        else:
            self._running = False


def _run(read: _Read, connection: Connection) -> Any:
    try:
        return read.work(connection)
    except (SQLAlchemyError, UnavailableError):
        raise
    except Exception as error:  # noqa: BLE001 - the read's own; the transaction is sound
        read.error = error
        return None
