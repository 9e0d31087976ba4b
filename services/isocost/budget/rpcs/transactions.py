"""What every rpc is made of: a transaction that happens once, a read, a stream of pages."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import TypeVar

from google.protobuf.message import Message
from sqlalchemy import Connection

from isocost.budget.database import Database
from isocost.budget.reads import Loader
from isocost.budget.requests import Answer, RequestKey, answer_once
from isocost.budget.settings import BudgetSettings

__all__ = ["Transactions", "messages"]

#: A message of an export is sent before it grows beyond this, well below the limit of one message.
_MESSAGE_BYTES = 4 << 20

_Response = TypeVar("_Response", bound=Message)
_Result = TypeVar("_Result")
_Wire = TypeVar("_Wire", bound=Message)
_Key = TypeVar("_Key", int, str)


class Transactions:
    """Runs the domain's work on the database, off the event loop."""

    def __init__(self, settings: BudgetSettings) -> None:
        self.settings = settings
        #: Opened and closed by the service.
        self.database: Database | None = None

    @property
    def _open_database(self) -> Database:
        if self.database is None:
            raise RuntimeError("the budget service is not started")
        return self.database

    async def _once(
        self,
        key: RequestKey,
        response_type: type[_Response],
        work: Callable[[Connection], _Response],
        campaign_of: Callable[[_Response], str],
        *,
        nothing_done: Callable[[_Response], bool] = lambda _: False,
    ) -> _Response:
        """Does the work in one transaction, or gives the answer that the request id got before.

        Args:
            key: What the mutation is known by.
            response_type: Type of the answer.
            work: The transaction.
            campaign_of: The campaign that an answer is about, for the audit log.
            nothing_done: Whether an answer says that nothing was changed, so that the id may be tried again.
        """

        def transaction(connection: Connection) -> bytes:
            def answer() -> Answer:
                response = work(connection)
                wire = response.SerializeToString(deterministic=True)
                return Answer(wire, campaign_of(response), nothing_done(response))

            return answer_once(connection, key, answer)

        return response_type.FromString(await self._open_database.run_write(transaction))

    async def _read(self, work: Callable[[Connection], _Result]) -> _Result:
        return await self._open_database.run_read(work)

    async def _read_by_id(self, loader: Loader[_Result], key: str) -> _Result | None:
        return await self._open_database.read_by_id(loader, key)

    async def _pages(
        self, page: Callable[..., list[_Result]], key: Callable[[_Result], _Key], after: _Key
    ) -> AsyncIterator[list[_Result]]:
        """Pages by key, each in a transaction of its own, so that a slow reader holds nothing open."""
        while rows := await self._read(functools.partial(page, after=after)):
            yield rows
            if len(rows) < self.settings.page_rows:
                return
            after = key(rows[-1])


def messages(parts: Iterable[_Wire]) -> Iterator[list[_Wire]]:
    """Cuts rows into lists that fit into one message each, whatever the length of their texts."""
    batch: list[_Wire] = []
    n_bytes = 0
    for part in parts:
        if batch and n_bytes + part.ByteSize() > _MESSAGE_BYTES:
            yield batch
            batch, n_bytes = [], 0
        batch.append(part)
        n_bytes += part.ByteSize()
    if batch:
        yield batch
