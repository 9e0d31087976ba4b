"""A scripted budget service, and pauses that are only written down."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from isocost.core.grpc_server import GrpcServer
from isocost.v1 import budget_service_pb2_grpc, queue_service_pb2_grpc
from tests.unit.client.scripted import Script


@pytest.fixture
async def script() -> AsyncIterator[Script]:
    script, server = Script(), GrpcServer()
    servicer: Any = script
    budget_service_pb2_grpc.add_BudgetServiceServicer_to_server(servicer, server.aio)
    queue_service_pb2_grpc.add_QueueServiceServicer_to_server(servicer, server.aio)
    script.address = await server.start("127.0.0.1:0", ["isocost.v1.BudgetService"])
    yield script
    await server.stop(0)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that the async client would make, in seconds; it makes none."""
    made: list[float] = []

    async def sleep(seconds: float) -> None:
        made.append(seconds)

    monkeypatch.setattr("isocost.client.repeater.sleep", sleep)
    return made
