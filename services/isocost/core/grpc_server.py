"""The gRPC server that every service runs in: errors to statuses, health, graceful stop."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, Protocol, Self

import grpc
import structlog
from google.rpc import code_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from isocost.core.errors import IsocostError, to_status

__all__ = ["MESSAGE_BYTES_MAX", "GrpcServer", "Service", "ServiceHost", "open_channel"]

#: Largest message sent or received, in bytes.
MESSAGE_BYTES_MAX = 32 * 1024 * 1024
_OPTIONS = [
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
]

_log = structlog.get_logger(__name__)


class _ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Turns `IsocostError` into its status and anything unexpected into INTERNAL with a logged traceback."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler = await continuation(handler_call_details)
        if handler is None:
            return handler
        method = str(handler_call_details.method)
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(
                _guard_unary(handler.unary_unary, method), handler.request_deserializer, handler.response_serializer
            )
        if handler.stream_unary:
            return grpc.stream_unary_rpc_method_handler(
                _guard_unary(handler.stream_unary, method), handler.request_deserializer, handler.response_serializer
            )
        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(
                _guard_stream(handler.unary_stream, method), handler.request_deserializer, handler.response_serializer
            )
        return grpc.stream_stream_rpc_method_handler(
            _guard_stream(handler.stream_stream, method), handler.request_deserializer, handler.response_serializer
        )


async def _abort(context: Any, method: str, error: Exception) -> None:
    if isinstance(error, IsocostError):
        status = to_status(error)
    else:
        _log.exception("rpc_failed", method=method, exc_info=error)
        status = status_pb2.Status(
            code=code_pb2.INTERNAL, message=f"{type(error).__name__} in {method}; the service's log has the details"
        )
    await context.abort_with_status(rpc_status.to_status(status))


def _guard_unary(behaviour: Any, method: str) -> Any:
    async def guarded(request: Any, context: Any) -> Any:
        try:
            return await behaviour(request, context)
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - the edge of the service: every error becomes a status
            await _abort(context, method, error)

    return guarded


def _guard_stream(behaviour: Any, method: str) -> Any:
    async def guarded(request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            async for response in behaviour(request, context):
                yield response
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - the edge of the service: every error becomes a status
            await _abort(context, method, error)

    return guarded


class GrpcServer:
    """An aio server with the standard health service.

    Usage::

        server = GrpcServer()
        add_BudgetServiceServicer_to_server(servicer, server.aio)
        await server.start("127.0.0.1:0", ["isocost.v1.BudgetService"])
        ...
        await server.stop(grace_seconds=10.0)
    """

    def __init__(self) -> None:
        self.aio = grpc.aio.server(interceptors=[_ErrorInterceptor()], options=_OPTIONS)
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.aio)
        self.address = ""

    async def start(self, address: str, service_names: Iterable[str]) -> str:
        """Binds to `host:port` (port 0 picks a free one), reports SERVING, returns the bound address.

        Raises:
            RuntimeError: where the address is taken.
        """
        port = self.aio.add_insecure_port(address)
        await self.aio.start()
        for name in (*service_names, ""):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        self.address = f"{address.rpartition(':')[0]}:{port}"
        return self.address

    async def stop(self, grace_seconds: float) -> None:
        """Reports NOT_SERVING, lets calls in flight finish for `grace_seconds`, then ends them."""
        with contextlib.suppress(Exception):
            await self._health.enter_graceful_shutdown()
        await self.aio.stop(grace_seconds)


#: Seconds that calls in flight are given when a server stops.
GRACE_SECONDS = 5.0


class Service(Protocol):
    """What each service's `service.py` offers."""

    SERVICE_NAME: str

    def register(self, server: grpc.aio.Server) -> None:
        """Adds the servicer to a server."""

    async def start(self) -> None:
        """Opens the service's resources."""

    async def close(self) -> None:
        """Stops everything that the service started."""


class ServiceHost:
    """One service on one server."""

    def __init__(self, service: Service, address: str) -> None:
        self._service = service
        self._address = address
        self._server = GrpcServer()
        self.address = ""

    async def __aenter__(self) -> Self:
        await self._service.start()
        self._service.register(self._server.aio)
        try:
            self.address = await self._server.start(self._address, [self._service.SERVICE_NAME])
        except BaseException:
            await self._service.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(GRACE_SECONDS)
        await self._service.close()


def open_channel(address: str) -> grpc.aio.Channel:
    """A channel to one of the services, with the same message limits as the server."""
    return grpc.aio.insecure_channel(address, options=_OPTIONS)
