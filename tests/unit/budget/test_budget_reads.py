"""Reads by id: one statement for all that wait, each with its own answer or its own error."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import Connection, event, text

from isocost.budget import campaigns, orders
from isocost.budget.database import Database
from isocost.core.errors import UnavailableError


async def _status(book: Any, campaign_id: str = "c") -> Any:
    return await book.database.read_by_id(campaigns.load_statuses, campaign_id)


async def test_reads_that_wait_share_a_statement(book: Any) -> None:
    for campaign_id in ("a", "b", "c"):
        book.create(campaign_id, n_items=len(campaign_id) + ord(campaign_id) - ord("a"))
    order = book.order("weak", 1)
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "SELECT" in statement:
            statements.append(statement)

    event.listen(book.database._engine, "before_cursor_execute", note)
    asked = ["a", "b", "c", "nobody"] * 20
    found = await asyncio.gather(
        *(_status(book, campaign_id) for campaign_id in asked),
        book.database.read_by_id(orders.load_orders, order.order_id),
    )
    assert found.pop() == order
    assert [None if status is None else status.n_items for status in found] == [1, 2, 3, None] * 20
    assert len(statements) == 2


async def test_an_error_is_only_its_own_readers(book: Any) -> None:
    book.create(n_items=3)

    def broken(connection: Connection, _keys: Sequence[str]) -> dict[str, int]:
        # On PostgreSQL it leaves a transaction unusable for whoever shares it.
        connection.execute(text("SELECT nothing FROM nowhere"))
        return {}

    calls: list[Any] = [_status(book), book.database.read_by_id(broken, "x"), _status(book)]
    results: tuple[Any, ...] = tuple(await asyncio.gather(*calls, return_exceptions=True))
    assert results[0].n_items == results[2].n_items == 3
    assert isinstance(results[1], Exception)
    assert (await _status(book)).n_items == 3


async def test_a_read_sees_what_was_committed_before_it(book: Any) -> None:
    book.create(n_items=3)
    for n_free in (2, 1, 0):
        book.order("weak", 1)
        assert (await _status(book)).n_items_free == n_free


async def test_a_caller_that_left_is_not_read_for(book: Any) -> None:
    asked: list[str] = []

    def loader(_connection: Connection, keys: Sequence[str]) -> dict[str, str]:
        asked.extend(keys)
        return {key: key for key in keys}

    left = asyncio.ensure_future(book.database.read_by_id(loader, "left"))
    await asyncio.sleep(0)
    left.cancel()
    assert await book.database.read_by_id(loader, "stayed") == "stayed"
    assert asked == ["stayed"]


async def test_a_connection_that_died_unnoticed_costs_no_call(book: Any) -> None:
    book.create(n_items=3)
    assert (await _status(book)).n_items == 3
    if book.database._engine.dialect.name == "sqlite":
        pytest.skip("a file does not hang up")
    with book.database.write() as connection:
        kept = text("SELECT pg_terminate_backend(:pid)")
        pid = book.database._single_connection.connection.dbapi_connection.info.backend_pid
        connection.execute(kept, {"pid": pid})
    assert (await _status(book)).n_items == 3
    assert (await _status(book)).n_items == 3


async def test_a_database_that_is_away_is_unavailable() -> None:
    database = Database("postgresql://nobody:secret@127.0.0.1:1/nothing")
    with pytest.raises(UnavailableError) as refusal:
        await database.read_by_id(campaigns.load_statuses, "c")
    assert "secret" not in str(refusal.value)
    database.close()
