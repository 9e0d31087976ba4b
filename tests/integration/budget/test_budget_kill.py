"""The server is killed under load, again and again: nothing acknowledged is lost, nothing is paid twice."""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc

from isocost.budget.proof import verify_ledger
from isocost.core.grpc_server import open_channel
from isocost.v1 import budget_service_pb2 as pb
from isocost.v1 import budget_service_pb2_grpc, resources_pb2

N_KILLS = 4
N_ITEMS = 2_000
BATCH = 10
SERVER = """
import asyncio, sys
from isocost.budget.service import BudgetService
from isocost.budget.settings import BudgetSettings
from isocost.core.grpc_server import GrpcServer

async def main():
    service, server = BudgetService(BudgetSettings(database_url=sys.argv[1])), GrpcServer()
    await service.start()
    service.register(server.aio)
    print(await server.start("127.0.0.1:0", [service.SERVICE_NAME]), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@asynccontextmanager
async def running_server(database_url: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, Any]]:
    """A server process and a stub; the process is killed, not stopped, at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVER, database_url, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        address = (await process.stdout.readline()).decode().strip()
        async with open_channel(address) as channel:
            yield process, budget_service_pb2_grpc.BudgetServiceStub(channel)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def create_order(stub: Any) -> tuple[str, list[str]]:
    """A campaign with one order for all of its items."""
    task = resources_pb2.Task(name="claims", template="{claim}?", choices=["no", "yes"])
    price = resources_pb2.Money(currency_code="USD", micros=1_000)
    budget = resources_pb2.Money(currency_code="USD", micros=1_000 * N_ITEMS)
    campaign = resources_pb2.Campaign(campaign_id="c", task=task, budget=budget, strong_model="strong")
    source = resources_pb2.Source(source_id="weak", kind=resources_pb2.SOURCE_KIND_MODEL, unit_price=price)
    items = [resources_pb2.Item(item_id=f"i{index}", fields={"claim": "x"}) for index in range(N_ITEMS)]
    await stub.CreateCampaign(pb.CreateCampaignRequest(request_id="1", campaign=campaign))
    await stub.CreateSource(pb.CreateSourceRequest(request_id="2", campaign_id="c", source=source))
    await stub.AddItems(iter([pb.AddItemsRequest(campaign_id="c", items=items)]))
    request = pb.CreateOrderRequest(
        request_id="3",
        campaign_id="c",
        source_id="weak",
        purpose=resources_pb2.PURPOSE_TRAINING,
        n_labels=N_ITEMS,
    )
    order_id = (await stub.CreateOrder(request)).order.order_id
    export = stub.ExportOrderItems(pb.ExportOrderItemsRequest(order_id=order_id))
    return order_id, [item.item_id async for part in export for item in part.items]


async def submit(stub: Any, order_id: str, item_ids: list[str]) -> None:
    labels = [resources_pb2.Label(item_id=item_id, probabilities=[0.5, 0.5]) for item_id in item_ids]
    # The request id is the batch's own, so that a repeat after a kill is the same request.
    request = pb.SubmitLabelsRequest(request_id=f"submit/{item_ids[0]}", order_id=order_id, labels=labels)
    response = await stub.SubmitLabels(request)
    assert (response.n_accepted, response.n_duplicate) == (len(item_ids), 0)


async def submit_until_killed(
    process: asyncio.subprocess.Process, stub: Any, order_id: str, batches: list[list[str]], n_before_kill: int
) -> list[list[str]]:
    """Submits from eight workers and kills the server at an acknowledgement, with others in flight.

    Returns:
        The batches that were acknowledged.
    """
    acknowledged: list[list[str]] = []
    waiting = iter(batches)

    async def worker() -> None:
        for batch in waiting:
            try:
                await submit(stub, order_id, batch)
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.UNAVAILABLE  # noqa: PT017
                return
            acknowledged.append(batch)
            if len(acknowledged) == n_before_kill:
                process.kill()

    await asyncio.gather(*(worker() for _ in range(8)))
    return acknowledged


async def stored_item_ids(stub: Any) -> list[str]:
    export = stub.ExportLabels(pb.ExportLabelsRequest(campaign_id="c"))
    return [labelled.label.item_id async for part in export for labelled in part.labelled_items]


async def test_a_killed_server_loses_nothing_and_pays_nothing_twice(tmp_path: Path) -> None:
    chance = random.Random(2)
    database_url = f"sqlite:///{tmp_path}/budget.db"
    async with running_server(database_url) as (_, stub):
        order_id, item_ids = await create_order(stub)
    acknowledged: set[str] = set()
    unacknowledged = [item_ids[start : start + BATCH] for start in range(0, N_ITEMS, BATCH)]
    for _ in range(N_KILLS):
        async with running_server(database_url) as (process, stub):
            n_before_kill = chance.randint(5, 35)
            done = await submit_until_killed(process, stub, order_id, unacknowledged, n_before_kill)
            assert await process.wait() < 0
        assert len(done) >= n_before_kill
        acknowledged.update(item_id for batch in done for item_id in batch)
        unacknowledged = [batch for batch in unacknowledged if batch not in done]
        (proof,) = verify_ledger(database_url)
        assert proof.n_labels >= len(acknowledged)
    async with running_server(database_url) as (_, stub):
        stored = await stored_item_ids(stub)
        assert acknowledged <= set(stored)
        assert max(Counter(stored).values()) == 1
        for batch in unacknowledged:
            await submit(stub, order_id, batch)
        assert sorted(await stored_item_ids(stub)) == sorted(item_ids)
        order = (await stub.GetOrder(pb.GetOrderRequest(order_id=order_id))).order
        assert order.state == resources_pb2.ORDER_STATE_SETTLED
    (proof,) = verify_ledger(database_url)
    assert (proof.n_labels, proof.settled.micros, proof.reserved.micros) == (N_ITEMS, 1_000 * N_ITEMS, 0)
