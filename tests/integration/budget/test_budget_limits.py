"""Calls that are too large, too many, or too late."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import grpc
import pytest
from sqlalchemy import text

from isocost.budget.database import Database
from isocost.budget.service import BudgetService
from isocost.budget.settings import BudgetSettings
from isocost.core.channel import open_channel
from isocost.core.errors import IsocostError, LimitExceededError, from_rpc_error
from isocost.core.grpc_server import ServiceHost
from isocost.core.server_settings import ServerSettings
from isocost.v1 import budget_service_pb2 as pb
from isocost.v1 import budget_service_pb2_grpc, queue_service_pb2_grpc, resources_pb2
from tests.integration.budget.conftest import Rig


@asynccontextmanager
async def served(budget: BudgetSettings, server: ServerSettings) -> AsyncIterator[Rig]:
    async with (
        ServiceHost(BudgetService(budget), "127.0.0.1:0", server) as host,
        open_channel(host.address) as channel,
    ):
        yield Rig(
            host.address,
            budget.database_url,
            budget_service_pb2_grpc.BudgetServiceStub(channel),
            queue_service_pb2_grpc.QueueServiceStub(channel),
        )


def limit(error: grpc.aio.AioRpcError) -> IsocostError:
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    return from_rpc_error(error)


async def test_a_message_too_large_is_refused_and_the_pool_stays_as_it_was(database_url: str) -> None:
    settings = ServerSettings(message_bytes_max=64 * 1024, drain_seconds=0)
    async with served(BudgetSettings(database_url=database_url), settings) as rig:
        await rig.create(n_items=3)
        items = [resources_pb2.Item(item_id=f"large{n}", fields={"claim": "x" * 1_000}) for n in range(100)]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rig.stub.AddItems(iter([pb.AddItemsRequest(request_id="large", campaign_id="c", items=items)]))
        error = limit(caught.value)
        # Unlike a budget that is spent, or a rate: nothing helps but a smaller message.
        assert isinstance(error, LimitExceededError)
        assert error.retry_after is None
        assert (await rig.stub.GetCampaign(pb.GetCampaignRequest(campaign_id="c"))).n_items == 3


async def test_calls_that_come_too_fast_are_told_when_to_come_back(database_url: str) -> None:
    settings = ServerSettings(calls_per_second_max=0.001, burst_calls=5, drain_seconds=0)
    async with served(BudgetSettings(database_url=database_url), settings) as rig:
        for _ in range(5):
            await rig.stub.ListCampaigns(pb.ListCampaignsRequest())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rig.stub.ListCampaigns(pb.ListCampaignsRequest())
        error = limit(caught.value)
        assert isinstance(error, LimitExceededError)
        assert error.retry_after is not None


@contextmanager
def blocked_writer(database_url: str) -> Iterator[None]:
    """Somebody else holds the lock that every mutation needs."""
    database = Database(database_url)
    with database.write() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("LOCK TABLE requests IN ACCESS EXCLUSIVE MODE"))
        yield
    database.close()


async def writer_thread() -> None:
    """Until the service has its thread for writes: it is made for the first mutation, which then waits for the lock."""
    while not any(thread.name.startswith("budget-write") for thread in threading.enumerate()):  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def creation(campaign_id: str) -> pb.CreateCampaignRequest:
    campaign = resources_pb2.Campaign(
        campaign_id=campaign_id,
        task=resources_pb2.Task(name="claims", template="{claim}?", choices=["no", "yes"]),
        budget=resources_pb2.Money(currency_code="USD", micros=1_000_000),
        strong_model="strong",
    )
    return pb.CreateCampaignRequest(request_id=f"{campaign_id}/create", campaign=campaign)


async def test_a_mutation_whose_caller_gave_up_before_it_began_never_happens(database_url: str) -> None:
    # One thread writes, so that what comes second waits for it in the queue.
    settings = BudgetSettings(database_url=database_url, reader_threads=1)
    async with served(settings, ServerSettings(drain_seconds=0)) as rig:
        with blocked_writer(database_url):
            first = asyncio.ensure_future(rig.stub.CreateCampaign(creation("first")))
            await asyncio.wait_for(writer_thread(), 30)
            for campaign_id in ("late1", "late2"):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await rig.stub.CreateCampaign(creation(campaign_id), timeout=0.3)
                assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await first
        # Behind everything that was ever queued.
        await rig.stub.CreateCampaign(creation("last"))
        listed = (await rig.stub.ListCampaigns(pb.ListCampaignsRequest())).campaigns
        assert [campaign.campaign_id for campaign in listed] == ["first", "last"]
        # The id of a call that never happened is free, and does what it always would have.
        await rig.stub.CreateCampaign(creation("late1"))
