"""Health, reflection, limits of size, and the way a server stops."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from isocost.core.channel import ChannelSettings, open_channel
from isocost.core.errors import (
    InvalidArgumentError,
    LimitExceededError,
    UnauthenticatedError,
    UnavailableError,
    from_rpc_error,
)
from isocost.core.grpc_server import ServiceHost
from tests.refusals import refusal_of
from tests.unit.core.conftest import Serve
from tests.unit.core.echo import EchoService, call

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def health(channel: grpc.aio.Channel, service: str = "") -> int:
    stub = health_pb2_grpc.HealthStub(channel)
    return int((await stub.Check(health_pb2.HealthCheckRequest(service=service))).status)


async def reflected(channel: grpc.aio.Channel) -> list[str]:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    answers = [answer async for answer in stub.ServerReflectionInfo(iter([request]))]
    return [service.name for service in answers[0].list_services_response.service]


async def test_health_is_told_to_everyone(serve: Serve) -> None:
    # Even where callers need tokens, and where none may call: those who ask are the ones who would restart the server.
    service = EchoService(with_access=True)
    host = await serve(service, calls_per_second_max=0.001, burst_calls=1, calls_in_flight_max=1)
    async with open_channel(host.address) as channel:
        for name in ("", "test.Echo", ""):
            assert await health(channel, name) == SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health(channel, "test.Other")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_reflection_names_the_services(serve: Serve) -> None:
    host = await serve(EchoService())
    async with open_channel(host.address) as channel:
        assert set(await reflected(channel)) == {
            "test.Echo",
            "grpc.health.v1.Health",
            "grpc.reflection.v1alpha.ServerReflection",
        }


async def test_reflection_needs_a_token_where_calls_do(serve: Serve) -> None:
    host = await serve(EchoService(with_access=True))
    async with open_channel(host.address) as channel:
        refusal = await refusal_of(lambda: reflected(channel))
        assert isinstance(from_rpc_error(refusal), UnauthenticatedError)
    async with open_channel(host.address, ChannelSettings(token="secret-of-ann")) as channel:
        assert "test.Echo" in await reflected(channel)


async def test_reflection_can_be_switched_off(serve: Serve) -> None:
    host = await serve(EchoService(), reflection=False)
    async with open_channel(host.address) as channel:
        assert (await refusal_of(lambda: reflected(channel))).code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_message_too_large_is_a_limit(serve: Serve) -> None:
    host = await serve(EchoService(), message_bytes_max=8 * 1024)
    async with open_channel(host.address) as channel:
        assert await call(channel, "GetEcho", "x" * 4 * 1024) == "x" * 4 * 1024
        for method in ("GetEcho", "AddEchoes"):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(channel, method, "x" * 9 * 1024)
            error = from_rpc_error(caught.value)
            assert isinstance(error, LimitExceededError)
            assert error.retry_after is None


async def test_an_answer_too_large_for_the_caller_is_a_limit(serve: Serve) -> None:
    host = await serve(EchoService())
    async with open_channel(host.address, ChannelSettings(message_bytes_max=100)) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(channel, "GetEcho", "x" * 100)
        assert isinstance(from_rpc_error(caught.value), LimitExceededError)


async def test_a_server_that_stops_finishes_what_it_began(serve: Serve) -> None:
    service = EchoService()
    host = await serve(service, drain_seconds=60.0)
    async with open_channel(host.address) as channel:
        watcher = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=""))
        states = aiter(watcher)
        assert (await anext(states)).status == SERVING
        waiting = asyncio.create_task(call(channel, "CreateEcho", "wait"))
        await service.entered.wait()
        draining = asyncio.create_task(host.drain())
        assert (await anext(states)).status == NOT_SERVING
        assert await health(channel, "test.Echo") == NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(channel, "GetEcho", "x")
        assert isinstance(from_rpc_error(caught.value), UnavailableError)
        async with open_channel(host.address) as late:
            assert await health(late) == NOT_SERVING
        assert not draining.done()
        service.release.set()
        assert await waiting == "wait"
        await draining
    assert service.ended == []


async def test_a_call_longer_than_the_grace_is_ended(serve: Serve) -> None:
    service = EchoService()
    host = await serve(service, drain_seconds=0.05)
    async with open_channel(host.address) as channel:
        waiting = asyncio.create_task(call(channel, "TalkEcho", "wait"))
        await service.entered.wait()
        await host.drain()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await waiting
        assert isinstance(from_rpc_error(caught.value), UnavailableError)


async def test_an_address_that_is_taken_is_named_and_the_service_closed(serve: Serve) -> None:
    host = await serve(EchoService())
    second = EchoService()
    with pytest.raises(InvalidArgumentError, match="cannot be listened on"):
        async with ServiceHost(second, host.address):
            pass
    assert second.ended == ["closed"]
