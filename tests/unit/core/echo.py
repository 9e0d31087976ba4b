"""A service of the tests' own, with a method of each of the four kinds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf.wrappers_pb2 import StringValue

from isocost.core.access import Access
from isocost.core.caller import Caller, Role, current_caller
from isocost.core.errors import NotFoundError

SECRETS = {
    "secret-of-root": Caller("root", Role.ADMIN),
    "secret-of-ann": Caller("ann", Role.ANNOTATOR),
}
KINDS = ("GetEcho", "ListEchoes", "AddEchoes", "TalkEcho")


class EchoService:
    """Answers what it is asked: `missing` and `crash` fail, `who` names the caller, `wait` waits for `release`."""

    SERVICE_NAME = "test.Echo"

    def __init__(self, *, with_access: bool = False) -> None:
        self.access = Access(self, self.allowed_roles) if with_access else None
        self.entered = asyncio.Event()
        self.release = asyncio.Event()
        self.left = asyncio.Event()
        self.ended: list[str] = []

    async def start(self) -> None:
        self.ended.clear()

    async def close(self) -> None:
        self.ended.append("closed")

    async def authenticate(self, secret: str) -> Caller | None:
        return SECRETS.get(secret)

    def allowed_roles(self, method: str) -> frozenset[Role]:
        return frozenset({Role.ADMIN}) if method.endswith("CreateEcho") else frozenset(Role)

    def register(self, server: grpc.aio.Server) -> None:
        coder: dict[str, Any] = {
            "request_deserializer": StringValue.FromString,
            "response_serializer": StringValue.SerializeToString,
        }
        handlers = {
            "GetEcho": grpc.unary_unary_rpc_method_handler(self.unary, **coder),
            "CreateEcho": grpc.unary_unary_rpc_method_handler(self.unary, **coder),
            "ListEchoes": grpc.unary_stream_rpc_method_handler(self.unary_stream, **coder),
            "AddEchoes": grpc.stream_unary_rpc_method_handler(self.stream_unary, **coder),
            "TalkEcho": grpc.stream_stream_rpc_method_handler(self.stream_stream, **coder),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(self.SERVICE_NAME, handlers),))

    async def answer(self, text: str) -> StringValue:
        if text == "missing":
            raise NotFoundError("there is no such echo", field="echo_id")
        if text == "crash":
            password = "hunter2-in-a-local"
            raise ValueError(f"a defect, not {len(password)}")
        if text == "who":
            who = current_caller()
            return StringValue(value=f"{who.principal}/{who.role}/{who.peer.partition(':')[0]}")
        if text == "wait":
            self.entered.set()
            try:
                await self.release.wait()
            except BaseException as error:
                self.ended.append(type(error).__name__)
                self.left.set()
                raise
        return StringValue(value=text)

    async def unary(self, request: StringValue, context: Any) -> StringValue:
        return await self.answer(request.value)

    async def unary_stream(self, request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        try:
            yield await self.answer(request.value)
            if request.value == "endless":
                while True:
                    yield StringValue(value="again")
                    await asyncio.sleep(0)
        finally:
            self.ended.append("stream")
            self.left.set()

    async def stream_unary(self, requests: AsyncIterator[StringValue], context: Any) -> StringValue:
        answers = [(await self.answer(request.value)).value async for request in requests]
        return StringValue(value=",".join(answers))

    async def stream_stream(self, requests: AsyncIterator[StringValue], context: Any) -> AsyncIterator[StringValue]:
        async for request in requests:
            yield await self.answer(request.value)


async def call_bytes(channel: Any, method: str, request: bytes, **options: Any) -> bytes:
    """Calls a method of any kind with one message, as bytes; the first answer."""
    path = f"/{EchoService.SERVICE_NAME}/{method}"
    if method == "ListEchoes":
        answers = [part async for part in channel.unary_stream(path)(request, **options)]
    elif method == "AddEchoes":
        answers = [await channel.stream_unary(path)(iter([request]), **options)]
    elif method == "TalkEcho":
        answers = [part async for part in channel.stream_stream(path)(iter([request]), **options)]
    else:
        answers = [await channel.unary_unary(path)(request, **options)]
    return bytes(answers[0])


async def call(channel: grpc.aio.Channel, method: str, text: str, **options: Any) -> str:
    """Calls a method of any kind with one text; the first answer."""
    answer = await call_bytes(channel, method, StringValue(value=text).SerializeToString(), **options)
    return StringValue.FromString(answer).value
