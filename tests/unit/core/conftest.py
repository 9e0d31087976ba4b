"""A running server of the tests' own service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from isocost.core.grpc_server import ServiceHost
from isocost.core.server_settings import ServerSettings
from tests.unit.core.echo import EchoService

Serve = Callable[..., Awaitable[ServiceHost]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Serves a service with settings, until the test ends."""
    async with AsyncExitStack() as stack:

        async def start(service: EchoService, **settings: object) -> ServiceHost:
            values = {"drain_seconds": 0.0, **settings}
            host = ServiceHost(service, "127.0.0.1:0", ServerSettings.model_validate(values))
            return await stack.enter_async_context(host)

        yield start
