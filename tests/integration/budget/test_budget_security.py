"""Who may call what, over real sockets and on both databases."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory

from isocost.budget import clock
from isocost.budget.database import Database
from isocost.budget.service import BudgetService
from isocost.budget.settings import BudgetSettings
from isocost.budget.tokens import create_token, revoke_token
from isocost.core.caller import Role
from isocost.core.channel import ChannelSettings, open_channel
from isocost.core.grpc_server import ServiceHost
from isocost.v1 import budget_service_pb2 as pb
from isocost.v1 import budget_service_pb2_grpc, queue_service_pb2, queue_service_pb2_grpc, resources_pb2
from isocost.v1 import queue_service_pb2 as queue_pb
from tests.authority import Authority
from tests.integration.budget.conftest import Rig
from tests.integration.budget.isocost_serve import COMMAND, serving

METHODS = [
    (service.full_name, method)
    for service in (
        pb.DESCRIPTOR.services_by_name["BudgetService"],
        queue_service_pb2.DESCRIPTOR.services_by_name["QueueService"],
    )
    for method in service.methods
]
(LIST_CAMPAIGNS,) = (method for method in METHODS if method[1].name == "ListCampaigns")
UNAUTHENTICATED, PERMISSION_DENIED = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED


@dataclass
class Guarded:
    """A service that asks for tokens, and its database."""

    address: str
    database_url: str
    database: Database

    def token(self, role: Role, name: str = "", *, expire_time_us: int | None = None) -> tuple[str, str]:
        with self.database.write() as connection:
            return create_token(connection, name or f"{role.value}-1", role, expire_time_us)

    @asynccontextmanager
    async def connect(self, secret: str) -> AsyncIterator[tuple[grpc.aio.Channel, Rig]]:
        async with open_channel(self.address, ChannelSettings(token=secret)) as channel:
            budget = budget_service_pb2_grpc.BudgetServiceStub(channel)
            queue = queue_service_pb2_grpc.QueueServiceStub(channel)
            yield channel, Rig(self.address, self.database_url, budget, queue)


@pytest.fixture
async def guarded(database_url: str) -> AsyncIterator[Guarded]:
    settings = BudgetSettings(database_url=database_url, require_tokens=True, token_cache_seconds=0)
    database = Database(database_url)
    async with ServiceHost(BudgetService(settings), "127.0.0.1:0") as host:
        yield Guarded(host.address, database_url, database)
    database.close()


async def outcome(channel: Any, service: str, method: Any) -> grpc.StatusCode:
    """The status of a call with an empty message."""
    response = message_factory.GetMessageClass(method.output_type)
    path, coder = f"/{service}/{method.name}", {"response_deserializer": response.FromString}
    try:
        if method.client_streaming:
            await channel.stream_unary(path, **coder)(iter([b""]))
        elif method.server_streaming:
            [part async for part in channel.unary_stream(path, **coder)(b"")]
        else:
            await channel.unary_unary(path, **coder)(b"")
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def test_every_method_asks_for_a_token(guarded: Guarded) -> None:
    async with open_channel(guarded.address) as channel:
        assert {await outcome(channel, *method) for method in METHODS} == {UNAUTHENTICATED}


@pytest.mark.parametrize("role", list(Role))
async def test_a_role_may_call_its_methods_and_no_others(guarded: Guarded, role: Role) -> None:
    async with guarded.connect(guarded.token(role)[1]) as (channel, _):
        outcomes = {method.name: await outcome(channel, service, method) for service, method in METHODS}
    queue = {method.name for service, method in METHODS if service == "isocost.v1.QueueService"}
    refused = {
        Role.ADMIN: set(),
        Role.PIPELINE: {"CreateCorrection", "ListAuditEntries"},
        Role.ANNOTATOR: set(outcomes) - queue,
    }[role]
    assert {name for name, code in outcomes.items() if code is PERMISSION_DENIED} == refused
    assert UNAUTHENTICATED not in outcomes.values()


async def test_a_revoked_token_and_an_expired_one_end(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    hour_us = clock.us_from_delta(timedelta(hours=1))
    token_id, secret = guarded.token(Role.PIPELINE)
    _, expiring = guarded.token(Role.PIPELINE, expire_time_us=clock.now_us() + hour_us)
    request = pb.ListCampaignsRequest()
    async with guarded.connect(secret) as (_, first), guarded.connect(expiring) as (_, second):
        await first.stub.ListCampaigns(request)
        await second.stub.ListCampaigns(request)
        with guarded.database.write() as connection:
            revoke_token(connection, token_id)
        later_us = clock.now_us() + hour_us
        monkeypatch.setattr(clock, "now_us", lambda: later_us)
        for rig in (first, second):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await rig.stub.ListCampaigns(request)
            assert caught.value.code() is UNAUTHENTICATED
            assert "isocost token create" in str(caught.value.details())


async def test_an_annotator_answers_in_the_own_name(guarded: Guarded) -> None:
    async with guarded.connect(guarded.token(Role.PIPELINE)[1]) as (_, rig):
        await rig.create()
        await rig.order("order", "human", n_labels=3)
        assert (await rig.queue.GetCaller(queue_pb.GetCallerRequest())).role == "pipeline"
    lease_request = queue_pb.LeaseItemsRequest(request_id="lease", campaign_id="c", source_id="human", n_items=2)
    async with guarded.connect(guarded.token(Role.ANNOTATOR, "ann1")[1]) as (_, rig):
        who = await rig.queue.GetCaller(queue_pb.GetCallerRequest())
        assert (who.principal, who.role) == ("ann1", "annotator")
        (queue,) = (await rig.queue.ListQueues(queue_pb.ListQueuesRequest())).queues
        assert (queue.campaign_id, queue.source_id, queue.n_waiting) == ("c", "human", 3)
        leased = await rig.queue.LeaseItems(lease_request)
        lease = leased.lease
        assert lease.annotator == "ann1"
        label = resources_pb2.Label(item_id=leased.items[0].item_id, probabilities=[0, 1], annotator="ann2")
        with pytest.raises(grpc.aio.AioRpcError, match="'ann2' is not you") as caught:
            await rig.queue.AnswerItems(
                queue_pb.AnswerItemsRequest(request_id="for another", lease_id=lease.lease_id, labels=[label])
            )
        assert caught.value.code() is PERMISSION_DENIED
        forged = queue_pb.LeaseItemsRequest(
            request_id="forged", campaign_id="c", source_id="human", n_items=1, annotator="ann2"
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rig.queue.LeaseItems(forged)
        assert caught.value.code() is PERMISSION_DENIED
    async with guarded.connect(guarded.token(Role.ANNOTATOR, "ann2")[1]) as (_, rig):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rig.queue.ReleaseLease(queue_pb.ReleaseLeaseRequest(request_id="theirs", lease_id=lease.lease_id))
        assert caught.value.code() in (PERMISSION_DENIED, grpc.StatusCode.NOT_FOUND)


async def test_the_audit_log_names_who_called(guarded: Guarded) -> None:
    async with guarded.connect(guarded.token(Role.PIPELINE, "nightly")[1]) as (_, rig):
        await rig.create()
    async with guarded.connect(guarded.token(Role.ADMIN)[1]) as (_, rig):
        entries = (await rig.stub.ListAuditEntries(pb.ListAuditEntriesRequest())).entries
    assert entries[0].method == "CreateCampaign"
    assert {(entry.principal, entry.role) for entry in entries} == {("nightly", "pipeline")}
    assert all(entry.peer.startswith("ipv4:127.0.0.1:") for entry in entries)


async def test_a_server_beyond_loopback_with_everything_on(tmp_path: Path) -> None:
    database_url = f"sqlite:///{tmp_path}/budget.db"
    authority = Authority(tmp_path, "authority")
    certificate_path, key_path = authority.issue("server")
    command = (sys.executable, "-c", COMMAND, "token", "create", "--database-url", database_url)
    made = subprocess.run(  # noqa: ASYNC221 - nothing else runs yet
        [*command, "--role", "pipeline", "--name", "nightly", "--days", "1"], capture_output=True, text=True, check=True
    )
    secret = made.stdout.strip()
    settings = {"CERTIFICATE_PATH": certificate_path, "KEY_PATH": key_path}
    async with serving(database_url, host="0.0.0.0", require_tokens=True, **settings) as served:
        address = served.address.replace("0.0.0.0", "127.0.0.1")
        for given, code in ((secret, grpc.StatusCode.OK), ("", UNAUTHENTICATED)):
            async with open_channel(address, ChannelSettings(ca_path=authority.path, token=given)) as channel:
                assert await outcome(channel, *LIST_CAMPAIGNS) is code
        async with open_channel(address) as channel:
            assert await outcome(channel, *LIST_CAMPAIGNS) is grpc.StatusCode.UNAVAILABLE
