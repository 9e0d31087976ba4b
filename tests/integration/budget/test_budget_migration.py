"""A database made by the previous revision: nothing of it is lost, and the service goes on from there."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import alembic.command
import grpc
import pytest
from alembic.config import Config
from sqlalchemy import Boolean, Connection, MetaData, insert, select

import isocost.budget
from isocost.budget.database import Database
from isocost.budget.proof import verify_ledger
from isocost.budget.service import BudgetService
from isocost.budget.settings import BudgetSettings
from isocost.core.grpc_server import ServiceHost, open_channel
from isocost.v1 import budget_service_pb2 as pb
from isocost.v1 import budget_service_pb2_grpc, queue_service_pb2_grpc, resources_pb2
from isocost.v1 import queue_service_pb2 as queue_pb
from tests.postgres import PostgresServer

#: Every row that the service of revision 0001 left: orders settled, cancelled and open, an observation, a plan.
ROWS = Path(__file__).with_name("revision_0001.json")
#: Each table after those it refers to.
TABLES = (
    "campaigns",
    "sources",
    "orders",
    "items",
    "labels",
    "order_items",
    "ledger_entries",
    "observations",
    "plans",
    "requests",
)
OPEN_ORDER = "order-01a20790-9add-73da-9a99-e5f32cd07967"
Rows = dict[str, list[dict[str, Any]]]


def stored(value: Any) -> Any:
    return bytes.fromhex(value["hex"]) if isinstance(value, dict) else value


def read_rows() -> Rows:
    found: Rows = json.loads(ROWS.read_text(encoding="utf-8"))
    return {table: [{name: stored(value) for name, value in row.items()} for row in found[table]] for table in TABLES}


def migrate_to(connection: Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(isocost.budget.__path__[0]) / "migrations"))
    config.attributes["connection"] = connection
    alembic.command.upgrade(config, revision)


def reflect(connection: Connection) -> MetaData:
    metadata = MetaData()
    metadata.reflect(connection)
    return metadata


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """A database without any tables."""
    name = postgres.create_database(migrated=False)
    yield postgres.url(name)
    postgres.drop_database(name)


@pytest.fixture
def old_database_url(database_url: str) -> str:
    """A database that revision 0001 made and filled."""
    with closing(Database(database_url)) as database, database.write() as connection:
        migrate_to(connection, "0001")
        tables = reflect(connection).tables
        for name, rows in read_rows().items():
            booleans = [column.name for column in tables[name].c if isinstance(column.type, Boolean)]
            connection.execute(
                insert(tables[name]), [{**row, **{flag: bool(row[flag]) for flag in booleans}} for row in rows]
            )
    return database_url


@pytest.fixture
async def channel(old_database_url: str) -> AsyncIterator[grpc.aio.Channel]:
    """The service of today on the old database."""
    service = BudgetService(BudgetSettings(database_url=old_database_url))
    async with ServiceHost(service, "127.0.0.1:0") as host, open_channel(host.address) as opened:
        yield opened


def test_no_row_is_lost_or_changed(old_database_url: str) -> None:
    database = Database(old_database_url)
    database.migrate()
    with database.read() as connection:
        tables = reflect(connection).tables
        old = read_rows()
        # Which order has taken an item stands in tables of its own now.
        owners = {row["item_id"]: row.pop("order_id") for row in old["items"]}
        free, taken = tables["free_items"].c, tables["taken_items"].c
        placed = [*connection.execute(select(taken.item_id, taken.order_id))]
        placed += [(item_id, None) for item_id in connection.execute(select(free.item_id)).scalars()]
        assert sorted(map(tuple, placed)) == sorted(owners.items())
        for name, rows in old.items():
            columns = [tables[name].c[column] for column in rows[0]]
            found = [dict(row) for row in connection.execute(select(*columns)).mappings()]
            assert sorted(found, key=str) == sorted(rows, key=str), name
    database.close()
    (proof,) = verify_ledger(old_database_url)
    assert (proof.n_entries, proof.n_orders, proof.n_labels) == (17, 3, 13)
    assert (proof.settled.micros, proof.reserved.micros) == (1_110_000, 30_000)


async def test_what_was_there_has_a_fixed_price_and_new_sources_may_be_metered(
    old_database_url: str, channel: grpc.aio.Channel
) -> None:
    stub: Any = budget_service_pb2_grpc.BudgetServiceStub(channel)
    listed = await stub.ListSources(pb.ListSourcesRequest(campaign_id="reviews"))
    assert not any(source.HasField("price_per_million_tokens") for source in listed.sources)
    old = (await stub.GetOrder(pb.GetOrderRequest(order_id=OPEN_ORDER))).order
    assert (old.HasField("price_per_million_tokens"), old.items_of_order_id) == (False, "")
    metered = resources_pb2.Source(
        source_id="metered",
        kind=resources_pb2.SOURCE_KIND_MODEL,
        unit_price=resources_pb2.Money(currency_code="USD", micros=10_000),
        price_per_million_tokens=resources_pb2.Money(currency_code="USD", micros=1_000_000),
    )
    await stub.CreateSource(pb.CreateSourceRequest(request_id="m", campaign_id="reviews", source=metered))
    request = pb.CreateOrderRequest(
        request_id="o",
        campaign_id="reviews",
        source_id="metered",
        purpose=resources_pb2.PURPOSE_TRAINING,
        n_labels=1,
        items_of_order_id=OPEN_ORDER,
    )
    order = (await stub.CreateOrder(request)).order
    export = stub.ExportOrderItems(pb.ExportOrderItemsRequest(order_id=order.order_id))
    labels = [
        resources_pb2.Label(item_id=item.item_id, probabilities=[0.25, 0.75], prompt_tokens=77)
        async for part in export
        for item in part.items
    ]
    await stub.SubmitLabels(pb.SubmitLabelsRequest(request_id="s", order_id=order.order_id, labels=labels))
    (proof,) = verify_ledger(old_database_url)
    assert (proof.n_labels, proof.settled.micros) == (14, 1_110_000 + 77)


async def test_a_request_of_before_still_gets_its_first_answer(channel: grpc.aio.Channel) -> None:
    stub: Any = budget_service_pb2_grpc.BudgetServiceStub(channel)
    answers = {row["request_id"]: row["response"] for row in read_rows()["requests"]}
    buying = pb.CreateOrderRequest(
        request_id="7",
        campaign_id="reviews",
        source_id="weak",
        purpose=resources_pb2.PURPOSE_TRAINING,
        n_labels=6,
        sampling=resources_pb2.SAMPLING_RANDOM,
    )
    assert await stub.CreateOrder(buying) == pb.CreateOrderResponse.FromString(answers["7"])
    labels = [resources_pb2.Label(item_id=item_id, probabilities=[0.25, 0.75]) for item_id in ("r12", "r8", "r7")]
    submitting = pb.SubmitLabelsRequest(request_id="7/s", order_id=OPEN_ORDER, labels=labels)
    assert await stub.SubmitLabels(submitting) == pb.SubmitLabelsResponse.FromString(answers["7/s"])
    buying.n_labels = 5
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await stub.CreateOrder(buying)
    assert refusal.value.code() is grpc.StatusCode.ALREADY_EXISTS


async def test_the_open_order_is_settled_and_new_ones_are_bought(
    old_database_url: str, channel: grpc.aio.Channel
) -> None:
    stub: Any = budget_service_pb2_grpc.BudgetServiceStub(channel)
    queue: Any = queue_service_pb2_grpc.QueueServiceStub(channel)
    export = stub.ExportOrderItems(pb.ExportOrderItemsRequest(order_id=OPEN_ORDER, pending_only=True))
    pending = [item.item_id async for part in export for item in part.items]
    assert pending == ["r0", "r1", "r35"]
    labels = [resources_pb2.Label(item_id=item_id, probabilities=[0.25, 0.75]) for item_id in pending]
    settled = await stub.SubmitLabels(pb.SubmitLabelsRequest(request_id="s", order_id=OPEN_ORDER, labels=labels))
    assert (settled.n_accepted, settled.order.state) == (3, resources_pb2.ORDER_STATE_SETTLED)
    bought = await stub.CreateOrder(
        pb.CreateOrderRequest(
            request_id="o",
            campaign_id="reviews",
            source_id="human",
            purpose=resources_pb2.PURPOSE_EVALUATION,
            n_labels=4,
            overlap=2,
        )
    )
    assert bought.balance.reserved.micros == 4 * 500_000
    taken = {row["item_id"] for row in read_rows()["items"] if row["order_id"]}
    leased = await queue.LeaseItems(
        queue_pb.LeaseItemsRequest(
            request_id="l", campaign_id="reviews", source_id="human", annotator="ann", n_items=10
        )
    )
    assert len(leased.items) == 2
    assert not taken & {item.item_id for item in leased.items}
    answers = [resources_pb2.Label(item_id=item.item_id, probabilities=[0, 1]) for item in leased.items]
    answered = await queue.AnswerItems(
        queue_pb.AnswerItemsRequest(request_id="a", lease_id=leased.lease.lease_id, labels=answers)
    )
    assert answered.lease.state == resources_pb2.LEASE_STATE_ANSWERED
    (proof,) = verify_ledger(old_database_url)
    assert (proof.n_orders, proof.n_labels, proof.reserved.micros) == (4, 18, 2 * 500_000)


async def test_a_plan_of_before_has_no_numbers_behind_it_and_a_new_one_has(channel: grpc.aio.Channel) -> None:
    stub: Any = budget_service_pb2_grpc.BudgetServiceStub(channel)
    (row,) = read_rows()["plans"]
    made = (await stub.Plan(pb.PlanRequest(request_id="plan", campaign_id="reviews"))).plan
    first, second = (await stub.ListPlans(pb.ListPlansRequest(campaign_id="reviews"))).plans
    assert (first.plan_id, first.policy, first.reason) == (row["plan_id"], row["policy"], row["reason"])
    assert (first.inputs_json, first.HasField("explanation")) == (row["inputs_json"], False)
    assert second == made
    assert made.HasField("explanation")
