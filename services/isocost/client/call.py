"""One way to make a call: a failed one raises the error that the service raised."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

import grpc
from google.protobuf.message import Message

from isocost.core.errors import IsocostError, UnavailableError, from_rpc_error

__all__ = ["MESSAGE_BYTES", "MESSAGE_ITEMS", "batches", "error_of", "message_batches", "unary", "unwrap_stream"]

#: Items, labels or examples in one message of a stream.
MESSAGE_ITEMS = 500
#: A message of a stream does not grow beyond this, well below the limit of one message, unless one element does.
MESSAGE_BYTES = 4 << 20
#: What grpc.aio says, with the code INTERNAL, where a stream breaks while it is written to.
_BROKEN_WRITE = "Internal error from Core"

_Response = TypeVar("_Response")
_Element = TypeVar("_Element")
_Message = TypeVar("_Message", bound=Message)


def batches(elements: Iterable[_Element]) -> Iterator[list[_Element]]:
    """Cuts into lists of at most `MESSAGE_ITEMS`, without holding more than one."""
    iterator = iter(elements)
    while batch := list(islice(iterator, MESSAGE_ITEMS)):
        yield batch


def message_batches(messages: Iterable[_Message], count_max: int, bytes_max: int) -> Iterator[list[_Message]]:
    """Cuts into lists of at most so many messages and bytes, or one larger message; the same are always cut alike."""
    batch: list[_Message] = []
    n_bytes = 0
    for message in messages:
        size_bytes = message.ByteSize()
        if batch and n_bytes + size_bytes > bytes_max:
            yield batch
            batch, n_bytes = [], 0
        batch.append(message)
        n_bytes += size_bytes
        if len(batch) == count_max:
            yield batch
            batch, n_bytes = [], 0
    if batch:
        yield batch


def error_of(error: grpc.RpcError) -> IsocostError:
    """What a failed call met: what the service raised, or `UnavailableError` where it cannot be reached."""
    # The service's own refusal of a stream may hide behind it; a repeat shows it.
    if error.details() == _BROKEN_WRITE:
        return UnavailableError("the connection broke while it was written to")
    return from_rpc_error(error)


async def unary(call: Awaitable[_Response]) -> _Response:
    """Awaits a call.

    Raises:
        IsocostError: what the service raised, or `UnavailableError` where it is away.
    """
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise error_of(error) from None


async def unwrap_stream(call: AsyncIterable[_Response]) -> AsyncIterator[_Response]:
    """Yields a call's responses; errors as in `unary`."""
    try:
        async for response in call:
            yield response
    except grpc.aio.AioRpcError as error:
        raise error_of(error) from None
