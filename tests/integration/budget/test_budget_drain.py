"""`isocost serve` on SIGTERM: what was begun is finished, and nothing new is."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from isocost.core.channel import open_channel
from isocost.core.errors import UnavailableError, from_rpc_error
from isocost.v1 import budget_service_pb2 as pb
from isocost.v1 import budget_service_pb2_grpc, queue_service_pb2_grpc, resources_pb2
from tests.integration.budget.conftest import Rig
from tests.integration.budget.isocost_serve import serving

SERVICE = "isocost.v1.BudgetService"


def one_item(item_id: str) -> pb.AddItemsRequest:
    return pb.AddItemsRequest(
        request_id=f"add/{item_id}",
        campaign_id="c",
        items=[resources_pb2.Item(item_id=item_id, fields={"claim": "x"})],
    )


async def n_items(rig: Rig) -> int:
    return int((await rig.stub.GetCampaign(pb.GetCampaignRequest(campaign_id="c"))).n_items)


async def begin_stream(rig: Rig) -> Any:
    """A stream of items of which the service has stored the first."""
    await rig.create(n_items=0)
    stream = rig.stub.AddItems()
    await stream.write(one_item("before"))
    async with asyncio.timeout(30):
        while await n_items(rig) == 0:  # noqa: ASYNC110 - asks another process
            await asyncio.sleep(0.01)
    return stream


async def until_not_serving(channel: grpc.aio.Channel) -> None:
    watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=SERVICE))
    async with asyncio.timeout(30):
        async for answer in watch:
            if answer.status == health_pb2.HealthCheckResponse.NOT_SERVING:
                return


def rig_on(channel: grpc.aio.Channel, address: str, database_url: str) -> Rig:
    return Rig(
        address,
        database_url,
        budget_service_pb2_grpc.BudgetServiceStub(channel),
        queue_service_pb2_grpc.QueueServiceStub(channel),
    )


async def test_sigterm_lets_a_stream_in_flight_finish(tmp_path: Path) -> None:
    database_url = f"sqlite:///{tmp_path}/budget.db"
    async with serving(database_url, DRAIN_SECONDS=60) as served, open_channel(served.address) as channel:
        rig = rig_on(channel, served.address, database_url)
        stream = await begin_stream(rig)
        served.process.send_signal(signal.SIGTERM)
        await until_not_serving(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await n_items(rig)
        assert isinstance(from_rpc_error(caught.value), UnavailableError)
        await stream.write(one_item("after"))
        await stream.done_writing()
        assert (await stream).n_added == 2
        assert await served.process.wait() == 0
    async with serving(database_url, DRAIN_SECONDS=60) as served, open_channel(served.address) as channel:
        assert await n_items(rig_on(channel, served.address, database_url)) == 2
