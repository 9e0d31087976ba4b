"""What happens around every call, over real sockets."""

from __future__ import annotations

import asyncio
import io
import json
from datetime import timedelta
from typing import Any

import grpc
import pytest
import structlog
from google.protobuf.wrappers_pb2 import StringValue

from isocost.core.channel import ChannelSettings, open_channel
from isocost.core.errors import (
    InvalidArgumentError,
    IsocostError,
    LimitExceededError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
    from_rpc_error,
)
from isocost.core.logs import configure_logs
from tests.refusals import refusal_of
from tests.unit.core.conftest import Serve
from tests.unit.core.echo import KINDS, EchoService, call, call_bytes


async def refusal(channel: grpc.aio.Channel, method: str, text: str, **options: Any) -> IsocostError:
    return from_rpc_error(await refusal_of(lambda: call(channel, method, text, **options)))


@pytest.mark.parametrize("method", KINDS)
async def test_answers_and_errors_of_every_kind_of_call(serve: Serve, method: str) -> None:
    host = await serve(EchoService())
    async with open_channel(host.address) as channel:
        assert await call(channel, method, "hello") == "hello"
        error = await refusal(channel, method, "missing")
        assert isinstance(error, NotFoundError)
        assert (error.field, error.message) == ("echo_id", "there is no such echo")
        error = await refusal(channel, method, "crash")
        assert type(error) is IsocostError
        assert "INTERNAL" in str(error)
        # A defect's own words stay in the log: they may quote anything.
        assert "a defect" not in str(error)
        assert await call(channel, method, "who") == "/None/ipv4"


@pytest.mark.parametrize("method", KINDS)
async def test_bytes_that_are_no_message_are_the_callers_fault(serve: Serve, method: str) -> None:
    host = await serve(EchoService())
    async with open_channel(host.address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call_bytes(channel, method, b"\x0a\xff")
        error = from_rpc_error(caught.value)
        assert isinstance(error, InvalidArgumentError)
        assert error.field == "request"


@pytest.mark.parametrize("method", KINDS)
async def test_a_token_tells_who_calls_and_its_role_what_they_may(serve: Serve, method: str) -> None:
    host = await serve(EchoService(with_access=True))
    async with open_channel(host.address) as channel:
        error = await refusal(channel, method, "hello")
        assert isinstance(error, UnauthenticatedError)
        assert "isocost token create" in error.message
        for header in ("Bearer unknown", "Basic secret-of-root", "secret-of-root", "Bearer "):
            assert isinstance(
                await refusal(channel, method, "hello", metadata=(("authorization", header),)), UnauthenticatedError
            )
    async with open_channel(host.address, ChannelSettings(token="secret-of-ann")) as channel:
        assert await call(channel, method, "who") == "ann/annotator/ipv4"
        error = await refusal(channel, "CreateEcho", "hello")
        assert isinstance(error, PermissionDeniedError)
        assert "use one of role admin" in error.message
    async with open_channel(host.address, ChannelSettings(token="secret-of-root")) as channel:
        assert await call(channel, "CreateEcho", "who") == "root/admin/ipv4"


async def test_bytes_of_strangers_are_not_read(serve: Serve) -> None:
    host = await serve(EchoService(with_access=True))
    async with open_channel(host.address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call_bytes(channel, "GetEcho", b"\x0a\xff")
        assert isinstance(from_rpc_error(caught.value), UnauthenticatedError)


async def test_a_principal_may_not_call_too_often(serve: Serve) -> None:
    host = await serve(EchoService(with_access=True), calls_per_second_max=0.001, burst_calls=3)
    async with open_channel(host.address, ChannelSettings(token="secret-of-ann")) as channel:
        for _ in range(3):
            assert await call(channel, "GetEcho", "x") == "x"
        error = await refusal(channel, "GetEcho", "x")
        assert isinstance(error, LimitExceededError)
        assert error.retry_after is not None
        assert timedelta(seconds=900) < error.retry_after <= timedelta(seconds=1_000)
    # Another principal on the same host has calls of its own.
    async with open_channel(host.address, ChannelSettings(token="secret-of-root")) as channel:
        assert await call(channel, "GetEcho", "x") == "x"


async def test_without_tokens_a_host_may_not_call_too_often(serve: Serve) -> None:
    host = await serve(EchoService(), calls_per_second_max=0.001, burst_calls=2)
    for _ in range(2):
        async with open_channel(host.address) as channel:
            await call(channel, "GetEcho", "x")
    async with open_channel(host.address) as channel:
        assert isinstance(await refusal(channel, "GetEcho", "x"), LimitExceededError)


async def test_those_who_guess_tokens_are_slowed_down(serve: Serve) -> None:
    host = await serve(EchoService(with_access=True), calls_per_second_max=0.001, burst_calls=2)
    async with open_channel(host.address, ChannelSettings(token="a guess")) as channel:
        refusals = [type(await refusal(channel, "GetEcho", "x")) for _ in range(3)]
    assert refusals == [UnauthenticatedError, UnauthenticatedError, LimitExceededError]


async def test_only_so_many_calls_are_in_flight(serve: Serve) -> None:
    service = EchoService()
    host = await serve(service, calls_in_flight_max=1)
    async with open_channel(host.address) as channel:
        waiting = asyncio.create_task(call(channel, "GetEcho", "wait"))
        await service.entered.wait()
        error = await refusal(channel, "GetEcho", "x")
        assert isinstance(error, LimitExceededError)
        assert error.retry_after is not None
        service.release.set()
        assert await waiting == "wait"
        assert await call(channel, "GetEcho", "x") == "x"


async def test_a_deadline_ends_the_work(serve: Serve) -> None:
    service = EchoService()
    host = await serve(service)
    async with open_channel(host.address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(channel, "GetEcho", "wait", timeout=0.2)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    async with asyncio.timeout(10):
        await service.left.wait()
    assert service.ended == ["CancelledError"]


async def test_a_caller_that_leaves_a_stream_ends_the_work(serve: Serve) -> None:
    service = EchoService()
    host = await serve(service)
    async with open_channel(host.address) as channel:
        stream = channel.unary_stream(
            "/test.Echo/ListEchoes",
            request_serializer=StringValue.SerializeToString,
            response_deserializer=StringValue.FromString,
        )(StringValue(value="endless"))
        async for _ in stream:
            break
        stream.cancel()
        async with asyncio.timeout(10):
            await service.left.wait()
    assert service.ended == ["stream"]


async def logged(serve: Serve, level: str) -> list[dict[str, Any]]:
    """The lines of a read, a mutation, a refusal and a defect."""
    stream = io.StringIO()
    configure_logs(stream, level=level)
    try:
        host = await serve(EchoService(with_access=True))
        async with open_channel(host.address, ChannelSettings(token="secret-of-root")) as channel:
            await call(channel, "GetEcho", "body-of-a-read")
            await call(channel, "CreateEcho", "body-of-a-mutation")
            await refusal(channel, "GetEcho", "missing")
            await refusal(channel, "GetEcho", "crash")
        async with open_channel(host.address, ChannelSettings(token="secret-of-nobody")) as channel:
            await refusal(channel, "GetEcho", "body-of-a-stranger")
        await host.drain()
    finally:
        structlog.reset_defaults()
    assert "secret-of" not in stream.getvalue()
    assert "body-of" not in stream.getvalue()
    assert "hunter2" not in stream.getvalue()
    return [json.loads(line) for line in stream.getvalue().splitlines()]


async def test_mutations_and_failures_are_logged_and_nothing_secret(serve: Serve) -> None:
    lines = await logged(serve, "info")
    calls = [line for line in lines if line["event"] == "rpc"]
    assert [(line["method"], line["code"], line["principal"]) for line in calls] == [
        ("/test.Echo/CreateEcho", "OK", "root"),
        ("/test.Echo/GetEcho", "NOT_FOUND", "root"),
        ("/test.Echo/GetEcho", "INTERNAL", "root"),
        ("/test.Echo/GetEcho", "UNAUTHENTICATED", ""),
    ]
    assert all(line["peer"].startswith("ipv4:127.0.0.1:") and line["seconds"] >= 0 for line in calls)
    (defect,) = (line for line in lines if line["event"] == "rpc_failed")
    assert defect["exception"][0]["exc_type"] == "ValueError"


async def test_the_level_decides_what_is_logged(serve: Serve) -> None:
    lines = await logged(serve, "debug")
    assert [line["code"] for line in lines if line["event"] == "rpc"].count("OK") == 2
    lines = await logged(serve, "error")
    assert [line["event"] for line in lines] == ["rpc_failed"]


async def test_calls_are_not_logged_where_nothing_configured_the_logs(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    host = await serve(EchoService())
    async with open_channel(host.address) as channel:
        await call(channel, "CreateEcho", "x")
    assert capsys.readouterr().out == ""


async def test_a_call_that_the_server_ends_may_be_repeated(serve: Serve) -> None:
    service = EchoService()
    host = await serve(service)
    async with open_channel(host.address) as channel:
        waiting = asyncio.create_task(refusal(channel, "CreateEcho", "wait"))
        await service.entered.wait()
        await host.drain()
        assert isinstance(await waiting, UnavailableError)
    assert service.ended == ["CancelledError"]


async def test_a_log_that_cannot_be_written_fails_no_call(serve: Serve) -> None:
    stream = io.StringIO()
    configure_logs(stream)
    stream.close()
    try:
        host = await serve(EchoService())
        async with open_channel(host.address) as channel:
            assert await call(channel, "CreateEcho", "x") == "x"
            assert isinstance(await refusal(channel, "CreateEcho", "missing"), NotFoundError)
    finally:
        structlog.reset_defaults()
