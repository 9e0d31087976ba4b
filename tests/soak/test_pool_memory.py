"""A pool of any size streams through the service without being held in memory."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from isocost.v1 import budget_service_pb2 as pb
from isocost.v1 import budget_service_pb2_grpc, resources_pb2
from tests.bench.campaign import CAMPAIGN_ID, create_campaign
from tests.budget_process import BudgetProcess, running_budget
from tests.postgres import PostgresServer

SOAK = os.environ.get("ISOCOST_SOAK") == "1"
N_ITEMS = 10_000_000 if SOAK else 20_000
BATCH_ITEMS = 2_000 if SOAK else 500
#: Few items must be long ones, so that holding them would show.
TEXT = "review " * (12 if SOAK else 1_000)
#: Caches of the database and what the allocator keeps; the items are several times as much.
GROWTH_MIB_MAX = 110
_REPORT = Path(__file__).parents[2] / "bench"


class Memory:
    """Watches a process while items stream into it."""

    def __init__(self, budget: BudgetProcess, n_items: int) -> None:
        self._budget = budget
        self._n_items = n_items
        self.first_mib = 0.0
        self.last_mib = 0.0

    def batches(self) -> Iterator[pb.AddItemsRequest]:
        for start in range(0, self._n_items, BATCH_ITEMS):
            held_mib = self._budget.held_mib
            # The first batches fill what is there whatever the pool's size.
            if start <= 10 * BATCH_ITEMS:
                self.first_mib = max(self.first_mib, held_mib)
            self.last_mib = max(self.last_mib, held_mib)
            items = [
                resources_pb2.Item(item_id=f"i{index}", fields={"text": f"{index} {TEXT}"})
                for index in range(start, min(start + BATCH_ITEMS, self._n_items))
            ]
            yield pb.AddItemsRequest(request_id=f"batch/{start}", campaign_id=CAMPAIGN_ID, items=items)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/budget.db"
        return
    postgres: PostgresServer = request.getfixturevalue("postgres")
    name = postgres.create_database()
    yield postgres.url(name)
    postgres.drop_database(name)


@pytest.mark.timeout(14_400 if SOAK else 300)
async def test_a_large_pool_is_not_held_in_memory(database_url: str, request: pytest.FixtureRequest) -> None:
    kind = request.node.callspec.params["database_url"]
    async with running_budget(database_url) as budget:
        stub: Any = budget_service_pb2_grpc.BudgetServiceStub(budget.channel)
        await create_campaign(stub, n_items=0)
        memory = Memory(budget, N_ITEMS)
        start = time.perf_counter()
        response = await stub.AddItems(memory.batches())
        seconds = time.perf_counter() - start
        assert (response.n_added, response.n_duplicate, response.n_errors) == (N_ITEMS, 0, 0)
        exported = 0
        async for part in stub.ExportItems(pb.ExportItemsRequest(campaign_id=CAMPAIGN_ID)):
            exported += len(part.items)
            memory.last_mib = max(memory.last_mib, budget.held_mib)
        assert exported == N_ITEMS
    print(f"{memory.first_mib:.0f} MiB held at first, {memory.last_mib:.0f} MiB at most, {seconds:.1f} s")
    assert memory.last_mib - memory.first_mib < GROWTH_MIB_MAX
    if SOAK:
        figures = {
            "n_items": N_ITEMS,
            "items_per_second": round(N_ITEMS / seconds),
            "server_mib_at_first": round(memory.first_mib),
            "server_mib_at_most": round(memory.last_mib),
        }
        _REPORT.mkdir(exist_ok=True)
        (_REPORT / f"pool_{kind}.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
