"""Buying and settling labels through the API, beside inserting the same rows straight into the same database."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from sqlalchemy import Connection, Table, select

from isocost.budget import schema
from isocost.budget.database import Database
from isocost.v1 import budget_service_pb2 as pb
from isocost.v1 import budget_service_pb2_grpc, resources_pb2
from tests.bench.campaign import create_campaign, order_labels
from tests.budget_process import running_budget

__all__ = ["measure_settling"]

_N_LABELS = 10_000
_BATCH_ROWS = 1_000
#: Rows that a purchase and its labels are made of, each table after those it refers to.
_BOUGHT = (schema.orders, schema.labels, schema.order_items, schema.ledger_entries)

_Rows = Sequence[Mapping[str, Any]]


def _insert(connection: Connection, table: Table, rows: _Rows) -> None:
    """The driver's own executemany, without anything around it."""
    names = list(rows[0])
    mark = "?" if connection.dialect.name == "sqlite" else "%s"
    statement = f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({', '.join(mark for _ in names)})"
    connection.exec_driver_sql(statement, [tuple(row.values()) for row in rows])


def _batches(rows: Sequence[Any]) -> Iterator[Any]:
    for start in range(0, len(rows), _BATCH_ROWS):
        yield rows[start : start + _BATCH_ROWS]


async def _buy_and_settle(database_url: str) -> float:
    """Seconds for one order and its labels in batches, every call answered before the next is made."""
    async with running_budget(database_url) as budget:
        stub: Any = budget_service_pb2_grpc.BudgetServiceStub(budget.channel)
        await create_campaign(stub, n_items=_N_LABELS)
        start = time.perf_counter()
        order_id = await order_labels(stub, "order", _N_LABELS)
        seconds = time.perf_counter() - start
        export = stub.ExportOrderItems(pb.ExportOrderItemsRequest(order_id=order_id))
        item_ids = [item.item_id async for part in export for item in part.items]
        requests = [
            pb.SubmitLabelsRequest(
                request_id=f"submit/{batch[0]}",
                order_id=order_id,
                labels=[resources_pb2.Label(item_id=item_id, probabilities=[0.25, 0.75]) for item_id in batch],
            )
            for batch in _batches(item_ids)
        ]
        start = time.perf_counter()
        for request in requests:
            await stub.SubmitLabels(request)
        return seconds + time.perf_counter() - start


def _stored_rows(database: Database, table: Table) -> _Rows:
    with database.read() as connection:
        return [dict(row) for row in connection.execute(select(table)).mappings()]


def _insert_straight(bought_url: str, empty_url: str) -> float:
    """Seconds for copying the bought rows, one commit a batch; what they refer to is copied before."""
    bought, copy = Database(bought_url), Database(empty_url)
    try:
        copy.migrate()
        for table in (schema.campaigns, schema.sources, schema.items):
            with copy.write() as connection:
                _insert(connection, table, _stored_rows(bought, table))
        pending = [(table, batch) for table in _BOUGHT for batch in _batches(_stored_rows(bought, table))]
        start = time.perf_counter()
        for table, batch in pending:
            with copy.write() as connection:
                _insert(connection, table, batch)
        return time.perf_counter() - start
    finally:
        bought.close()
        copy.close()


async def measure_settling(new_url: Callable[[], str], *, n_rounds: int = 5) -> dict[str, float]:
    """Both ways, in turns.

    Args:
        new_url: Makes empty databases of one kind.
        n_rounds: Times each.

    Returns:
        Medians over the rounds of the seconds, and of the ratio within each round.
    """
    through_api, straight = [], []
    for _ in range(n_rounds):
        bought_url = new_url()
        through_api.append(await _buy_and_settle(bought_url))
        straight.append(_insert_straight(bought_url, new_url()))
    return {
        "settle_seconds": round(median(through_api), 3),
        "insert_seconds": round(median(straight), 3),
        "settle_ratio": round(median(x / y for x, y in zip(through_api, straight, strict=True)), 2),
    }
