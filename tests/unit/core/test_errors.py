from __future__ import annotations

import grpc
import pytest
from google.rpc import error_details_pb2

from isocost.core.errors import (
    AlreadyExistsError,
    BudgetExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    IsocostError,
    NotFoundError,
    UnavailableError,
    from_rpc_error,
    to_status,
)
from isocost.core.grpc_server import GrpcServer, open_channel
from isocost.v1 import trainer_service_pb2 as pb
from isocost.v1 import trainer_service_pb2_grpc

ERRORS = [
    InvalidArgumentError("spec.seed", "negative"),
    NotFoundError("no such run"),
    AlreadyExistsError("taken"),
    FailedPreconditionError("not now"),
    BudgetExceededError("too dear"),
    UnavailableError("away"),
]


class _Raising(trainer_service_pb2_grpc.TrainerServiceServicer):
    """Implements two calls; the generated servicer answers the others with UNIMPLEMENTED."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def GetRun(self, request: pb.GetRunRequest, context: object) -> pb.GetRunResponse:  # noqa: N802
        raise self._error

    async def WatchRun(self, request: pb.WatchRunRequest, context: object):  # type: ignore[no-untyped-def]  # noqa: N802
        yield pb.WatchRunResponse()
        raise self._error


async def _drain(stub: trainer_service_pb2_grpc.TrainerServiceAsyncStub) -> None:
    async for _ in stub.WatchRun(pb.WatchRunRequest()):
        pass


async def _failure(error: Exception, *, stream: bool) -> IsocostError:
    server = GrpcServer()
    trainer_service_pb2_grpc.add_TrainerServiceServicer_to_server(_Raising(error), server.aio)  # type: ignore[abstract]
    address = await server.start("127.0.0.1:0", [])
    try:
        async with open_channel(address) as channel:
            stub = trainer_service_pb2_grpc.TrainerServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await (_drain(stub) if stream else stub.GetRun(pb.GetRunRequest()))
            return from_rpc_error(caught.value)
    finally:
        await server.stop(0)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_an_error_crosses_the_wire_unchanged(error: IsocostError, stream: bool) -> None:
    received = await _failure(error, stream=stream)
    assert type(received) is type(error)
    assert (received.message, received.field) == (error.message, error.field)


async def test_a_bug_becomes_internal_and_keeps_its_details_to_itself() -> None:
    received = await _failure(ZeroDivisionError("secret"), stream=False)
    assert "INTERNAL" in str(received)
    assert "secret" not in str(received)


async def test_a_server_that_is_away_is_unavailable() -> None:
    async with open_channel("127.0.0.1:1") as channel:
        stub = trainer_service_pb2_grpc.TrainerServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetRun(pb.GetRunRequest(), timeout=20)
    assert isinstance(from_rpc_error(caught.value), UnavailableError)


def test_status_carries_the_field_violation() -> None:
    status = to_status(InvalidArgumentError("item.fields", "empty"))
    detail = error_details_pb2.BadRequest()
    assert status.details[0].Unpack(detail)
    assert [(v.field, v.description) for v in detail.field_violations] == [("item.fields", "empty")]
