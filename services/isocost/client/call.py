"""One way to make a call: a failed one raises the error that the service raised."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

import grpc

from isocost.core.errors import from_rpc_error

__all__ = ["MESSAGE_ITEMS", "batches", "unary", "unwrap_stream"]

#: Items, labels or examples in one message of a stream.
MESSAGE_ITEMS = 500

_Response = TypeVar("_Response")
_Element = TypeVar("_Element")


def batches(elements: Iterable[_Element]) -> Iterator[list[_Element]]:
    """Cuts into lists of at most `MESSAGE_ITEMS`, without holding more than one."""
    iterator = iter(elements)
    while batch := list(islice(iterator, MESSAGE_ITEMS)):
        yield batch


async def unary(call: Awaitable[_Response]) -> _Response:
    """Awaits a call.

    Raises:
        IsocostError: what the service raised, or `UnavailableError` where it is away.
    """
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from None


async def unwrap_stream(call: AsyncIterable[_Response]) -> AsyncIterator[_Response]:
    """Yields a call's responses; errors as in `unary`."""
    try:
        async for response in call:
            yield response
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from None
