"""Shared reads: one transaction for all that wait, each with its own answer or its own error."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import Connection, event, text

from isocost.budget import campaigns
from isocost.budget.database import Database
from isocost.core.errors import NotFoundError, UnavailableError


def _count_transactions(database: Database) -> list[None]:
    begun: list[None] = []
    event.listen(database._engine, "begin", lambda _connection: begun.append(None))
    return begun


async def test_reads_that_wait_share_a_transaction(book: Any) -> None:
    book.create(n_items=3)
    begun = _count_transactions(book.database)
    statuses = await asyncio.gather(
        *(book.database.run_read(lambda connection: campaigns.read_status(connection, "c")) for _ in range(50))
    )
    assert {status.n_items for status in statuses} == {3}
    assert 1 <= len(begun) < 10


async def test_an_error_is_only_its_own_reads(book: Any) -> None:
    book.create(n_items=3)

    def broken(connection: Connection) -> None:
        # On PostgreSQL it leaves the transaction unusable for those that share it.
        connection.execute(text("SELECT nothing FROM nowhere"))

    async def read(campaign_id: str) -> Any:
        return await book.database.run_read(lambda connection: campaigns.read_status(connection, campaign_id))

    calls: list[Any] = [read("c"), read("nobody"), book.database.run_read(broken), read("c")]
    results: tuple[Any, ...] = tuple(await asyncio.gather(*calls, return_exceptions=True))
    good, missing, bad, last = results
    assert good.n_items == last.n_items == 3
    assert isinstance(missing, NotFoundError)
    assert isinstance(bad, Exception)
    assert not isinstance(bad, NotFoundError)


async def test_a_read_sees_what_was_committed_before_it(book: Any) -> None:
    book.create(n_items=3)
    for n_free in (2, 1, 0):
        book.order("weak", 1)
        status = await book.database.run_read(lambda connection: campaigns.read_status(connection, "c"))
        assert status.n_items_free == n_free


async def test_a_caller_that_left_is_not_read_for(book: Any) -> None:
    book.create()
    done: list[str] = []

    def read(name: str) -> Any:
        return book.database.run_read(lambda _connection: done.append(name))

    left = asyncio.ensure_future(read("left"))
    await asyncio.sleep(0)
    left.cancel()
    await read("stayed")
    assert done == ["stayed"]


async def test_a_database_that_is_away_is_unavailable() -> None:
    database = Database("postgresql://nobody:secret@127.0.0.1:1/nothing")
    with pytest.raises(UnavailableError) as refusal:
        await database.run_read(lambda connection: connection.execute(text("SELECT 1")))
    assert "secret" not in str(refusal.value)
    database.close()
