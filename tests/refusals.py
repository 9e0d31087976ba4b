"""The status with which a server refuses a stream."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest

__all__ = ["refusal_of"]

#: What grpc.aio says instead of the server's status where the server ends a stream while the client is still writing.
_LOST_STATUS = "Internal error from Core"
_ATTEMPTS_MAX = 20


async def refusal_of(call: Callable[[], Awaitable[Any]]) -> grpc.aio.AioRpcError:
    """Makes a call that the server refuses until grpc.aio tells how."""
    for _ in range(_ATTEMPTS_MAX):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call()
        if caught.value.details() != _LOST_STATUS:
            return caught.value
    raise AssertionError(f"grpc.aio lost the status {_ATTEMPTS_MAX} times")
