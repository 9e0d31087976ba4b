"""A real budget service over gRPC on a loopback port, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from isocost.budget.service import BudgetService
from isocost.budget.settings import BudgetSettings
from isocost.core.grpc_server import ServiceHost, open_channel
from isocost.v1 import budget_service_pb2 as pb
from isocost.v1 import budget_service_pb2_grpc, queue_service_pb2_grpc, resources_pb2
from tests.postgres import PostgresServer


@dataclass
class Rig:
    """A running service: its address, its database, and stubs of the budget and of the human queue."""

    address: str
    database_url: str
    stub: Any
    queue: Any

    async def create(self, *, budget_micros: int = 1_000_000, n_items: int = 20, campaign_id: str = "c") -> None:
        """A campaign with a weak source at 1,000 micros, a human one at 100,000, and items i0, i1, ..."""
        campaign = resources_pb2.Campaign(
            campaign_id=campaign_id,
            task=resources_pb2.Task(name="claims", template="Is it true that {claim}?", choices=["no", "yes"]),
            budget=resources_pb2.Money(currency_code="USD", micros=budget_micros),
            strong_model="strong",
        )
        await self.stub.CreateCampaign(pb.CreateCampaignRequest(request_id=f"{campaign_id}/create", campaign=campaign))
        for source_id, kind, micros in (
            ("weak", resources_pb2.SOURCE_KIND_MODEL, 1_000),
            ("human", resources_pb2.SOURCE_KIND_HUMAN, 100_000),
        ):
            source = resources_pb2.Source(
                source_id=source_id, kind=kind, unit_price=resources_pb2.Money(currency_code="USD", micros=micros)
            )
            await self.stub.CreateSource(
                pb.CreateSourceRequest(request_id=f"{campaign_id}/{source_id}", campaign_id=campaign_id, source=source)
            )
        for start in range(0, n_items, 1_000):
            items = [
                resources_pb2.Item(item_id=f"i{index}", fields={"claim": f"claim {index}"})
                for index in range(start, min(start + 1_000, n_items))
            ]
            batch = pb.AddItemsRequest(request_id=f"{campaign_id}/items/{start}", campaign_id=campaign_id, items=items)
            await self.stub.AddItems(iter([batch]))

    async def add_metered(self, campaign_id: str = "c") -> None:
        """A weak source at 1.5 micros a token, of which one label costs 1,000 micros at most."""
        source = resources_pb2.Source(
            source_id="metered",
            kind=resources_pb2.SOURCE_KIND_MODEL,
            unit_price=resources_pb2.Money(currency_code="USD", micros=1_000),
            price_per_million_tokens=resources_pb2.Money(currency_code="USD", micros=1_500_000),
        )
        await self.stub.CreateSource(
            pb.CreateSourceRequest(request_id=f"{campaign_id}/metered", campaign_id=campaign_id, source=source)
        )

    async def order(self, request_id: str, source_id: str = "weak", n_labels: int = 5, **changes: Any) -> Any:
        request = pb.CreateOrderRequest(
            request_id=request_id,
            campaign_id="c",
            source_id=source_id,
            purpose=resources_pb2.PURPOSE_TRAINING,
            n_labels=n_labels,
        )
        request.MergeFrom(pb.CreateOrderRequest(**changes))
        return (await self.stub.CreateOrder(request)).order

    async def items(self, order_id: str, *, pending_only: bool = False) -> list[str]:
        request = pb.ExportOrderItemsRequest(order_id=order_id, pending_only=pending_only)
        return [item.item_id async for part in self.stub.ExportOrderItems(request) for item in part.items]

    async def balance(self) -> Any:
        return (await self.stub.GetCampaign(pb.GetCampaignRequest(campaign_id="c"))).balance


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    name = postgres.create_database()
    yield postgres.url(name)
    postgres.drop_database(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a database of this test's own."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/budget.db"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
async def rig(database_url: str) -> AsyncIterator[Rig]:
    # Small pages, so that every export takes several.
    settings = BudgetSettings(database_url=database_url, page_rows=7)
    async with ServiceHost(BudgetService(settings), "127.0.0.1:0") as host, open_channel(host.address) as channel:
        yield Rig(
            host.address,
            database_url,
            budget_service_pb2_grpc.BudgetServiceStub(channel),
            queue_service_pb2_grpc.QueueServiceStub(channel),
        )
