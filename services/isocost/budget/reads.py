"""Reads by id of many callers, done together: one statement, and one hop to a thread or none, for all that wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, Table, bindparam, select

__all__ = ["Loader", "ReadsById", "RowsById"]

#: Ids of one statement; more wait for the next one.
_IDS_MAX = 16
_NAMES = tuple(f"id{number}" for number in range(_IDS_MAX))

_Found = TypeVar("_Found")
#: Reads what there is under some ids.
Loader = Callable[[Connection, Sequence[str]], Mapping[str, _Found]]
_Group = dict[Loader[Any], dict[str, list[asyncio.Future[Any]]]]


class RowsById:
    """The rows of a table under some ids, by statements that are built once: that costs more than executing them.

    The statement for several ids always has the same number of parameters, as SQLAlchemy writes an IN list of varying
    length anew each time.

    Args:
        table: What to read.
        column: Its ids.
    """

    def __init__(self, table: Table, column: ColumnElement[str]) -> None:
        self._one = select(table).where(column == bindparam("id"))
        self._several = select(table).where(column.in_([bindparam(name) for name in _NAMES]))

    def read(self, connection: Connection, ids: Sequence[str]) -> Sequence[Row[Any]]:
        """The rows that there are, in any sequence, of one to sixteen ids."""
        if len(ids) == 1:
            return connection.execute(self._one, {"id": ids[0]}).all()
        # The last id is repeated as often as it takes.
        filled = (*ids, *[ids[-1]] * (_IDS_MAX - len(ids)))
        return connection.execute(self._several, dict(zip(_NAMES, filled, strict=True))).all()


class ReadsById:
    """Reads by id in groups: the ids that wait at one moment are read by one statement.

    A group begins after its reads have arrived, so none sees anything older than it would alone. While it runs, those
    that arrive gather for the next one: the more callers, the less a read costs.

    Args:
        begin: Lends the connection.
        threads: Where groups run, one at a time; None for the event loop's own thread, for a database that answers from
            memory and waits for nobody: there a hop to another thread costs more than the read.
    """

    def __init__(self, begin: Callable[[], AbstractContextManager[Connection]], threads: Executor | None) -> None:
        self._begin = begin
        self._threads = threads
        self._waiting: _Group = {}
        self._running = False

    async def read(self, loader: Loader[_Found], key: str) -> _Found | None:
        """What the loader finds under an id; None where there is nothing.

        Raises:
            UnavailableError: where the database is away or locked.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_Found | None] = loop.create_future()
        self._waiting.setdefault(loader, {}).setdefault(key, []).append(future)
        if not self._running:
            self._running = True
            # Not at once: those whose calls came in the same moment are to come along.
            loop.call_soon(self._start, loop)
        return await future

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        group = self._next_group()
        if not group:
            self._running = False
        elif self._threads is None:
            self._settle(self._load(group), loop)
        else:
            self._threads.submit(lambda: loop.call_soon_threadsafe(self._settle, self._load(group), loop))

    def _next_group(self) -> _Group:
        group: _Group = {}
        for loader, by_id in list(self._waiting.items()):
            for key in list(by_id)[:_IDS_MAX]:
                # A caller that left, or whose deadline passed, asks for nothing any more.
                futures = [future for future in by_id.pop(key) if not future.done()]
                if futures:
                    group.setdefault(loader, {})[key] = futures
            if not by_id:
                del self._waiting[loader]
        return group

    def _load(self, group: _Group) -> list[tuple[asyncio.Future[Any], Any, BaseException | None]]:
        """Each future with its result or its error."""
        settled: list[tuple[asyncio.Future[Any], Any, BaseException | None]] = []
        for loader, by_id in group.items():
            try:
                with self._begin() as connection:
                    found = loader(connection, list(by_id))
            except BaseException as error:  # noqa: BLE001 - it is the callers', on the other side of the thread
                settled += [(future, None, error) for futures in by_id.values() for future in futures]
            else:
                settled += [(future, found.get(key), None) for key, futures in by_id.items() for future in futures]
        return settled

    def _settle(
        self,
        settled: list[tuple[asyncio.Future[Any], Any, BaseException | None]],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        for future, result, error in settled:
            if future.done():
                continue
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)
        if self._waiting:
            loop.call_soon(self._start, loop)
        else:
            self._running = False
