"""A budget service over real gRPC that answers by a script: faults on demand, and every call written down."""

from __future__ import annotations

import asyncio
import inspect
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from isocost.client import RetryPolicy
from isocost.core.errors import NotFoundError

#: Short pauses, so that tests do not wait.
QUICK = RetryPolicy(attempts_max=4, delay_first=timedelta(milliseconds=1), delay_max=timedelta(milliseconds=2))


@dataclass
class Script:
    """What the service does.

    `on[rpc]` is called with the request (of a client stream: all of them) and the number of the call, from 1. It
    returns the answer, or yields the answers; what it raises is the call's error.
    """

    address: str = ""
    on: dict[str, Callable[[Any, int], Any]] = field(default_factory=dict)
    requests: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    metadata: list[dict[str, Any]] = field(default_factory=list)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    def _begin(self, name: str, request: Any, context: Any) -> Any:
        if name not in self.on:
            raise NotFoundError(f"{name} is not in the script")
        self.metadata.append(dict(context.invocation_metadata()))
        self.requests[name].append(request)
        return self.on[name](request, len(self.requests[name]))

    async def _unary(self, name: str, request: Any, context: Any) -> Any:
        if hasattr(request, "__aiter__"):
            request = [part async for part in request]
        answer = self._begin(name, request, context)
        return await answer if inspect.isawaitable(answer) else answer

    async def _stream(self, name: str, request: Any, context: Any) -> AsyncIterator[Any]:
        copy = type(request)()
        copy.CopyFrom(request)
        try:
            for response in self._begin(name, copy, context):
                if response is None:
                    await asyncio.Event().wait()
                yield response
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    def __getattr__(self, name: str) -> Any:
        if not name[0].isupper():
            raise AttributeError(name)
        if name.startswith("Export"):

            async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
                async for response in self._stream(name, request, context):
                    yield response

            return stream

        async def unary(request: Any, context: Any) -> Any:
            return await self._unary(name, request, context)

        return unary
