"""The gRPC server that every service runs in: health, reflection, TLS, what guards the calls, graceful stop."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from isocost.core.access import Access
from isocost.core.calls import CallInterceptor
from isocost.core.channel import open_channel
from isocost.core.errors import InvalidArgumentError
from isocost.core.limits import MESSAGE_BYTES_MAX, RateLimiter
from isocost.core.server_settings import ServerSettings
from isocost.core.tls import server_credentials

if TYPE_CHECKING:
    from isocost.core.metrics import MetricsServer
    from isocost.core.tracing import Tracing

__all__ = ["MESSAGE_BYTES_MAX", "GrpcServer", "Service", "ServiceHost", "open_channel"]

#: Of a server in the same process as its clients, which has no load balancer to wait for.
_EMBEDDED = ServerSettings(drain_seconds=5.0)
#: What the last answers and the watchers of the health service are given once no call is in flight.
_FLUSH_SECONDS = 1.0


def _options(settings: ServerSettings) -> list[tuple[str, Any]]:
    return [
        ("grpc.max_send_message_length", settings.message_bytes_max),
        ("grpc.max_receive_message_length", settings.message_bytes_max),
        # A taken port is an error, not a port shared with whoever has it.
        ("grpc.so_reuseport", 0),
        # Clients may ask twice a minute whether the server is there, and a client that is gone is found out.
        ("grpc.http2.min_ping_interval_without_data_ms", 30_000),
        ("grpc.keepalive_time_ms", 120_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # Without it gRPC gives a ping a minute, whatever the line above says.
        ("grpc.http2.ping_timeout_ms", 20_000),
    ]


class GrpcServer:
    """An aio server with the standard health and reflection services.

    Usage::

        server = GrpcServer()
        add_BudgetServiceServicer_to_server(servicer, server.aio)
        await server.start("127.0.0.1:0", ["isocost.v1.BudgetService"])
        ...
        await server.stop(grace_seconds=10.0)

    Args:
        settings: TLS, limits; the default is plain and without limits of rate.
        access: What to ask of callers; None asks for no token.
        metrics: Where calls are counted.
        tracing: Where calls are traced.
    """

    def __init__(
        self,
        settings: ServerSettings | None = None,
        *,
        access: Access | None = None,
        metrics: MetricsServer | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self._settings = settings or _EMBEDDED
        rate = self._settings.calls_per_second_max
        self._calls = CallInterceptor(
            access=access,
            limiter=RateLimiter(rate, self._settings.burst_calls) if rate else None,
            calls_in_flight_max=self._settings.calls_in_flight_max,
            names_certificates=self._settings.client_ca_path is not None,
            observe=metrics.observe if metrics is not None else None,
            tracing=tracing,
        )
        self.aio = grpc.aio.server(interceptors=[self._calls], options=_options(self._settings))
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.aio)
        self.address = ""

    async def start(self, address: str, service_names: Iterable[str], *, socket_path: Path | None = None) -> str:
        """Binds to `host:port` (port 0 picks a free one), reports SERVING, returns the bound address.

        Args:
            address: `host:port`.
            service_names: Full names of the services, for health and reflection.
            socket_path: A Unix socket to listen on as well, unencrypted: for callers of this process.

        Raises:
            InvalidArgumentError: where the address is taken, or a file of the TLS settings cannot be used.
        """
        names = [*service_names]
        if self._settings.reflection:
            served = (*names, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(served, self.aio)
        credentials = server_credentials(self._settings) if self._settings.uses_tls else None
        try:
            if credentials is not None:
                port = self.aio.add_secure_port(address, credentials)
            else:
                port = self.aio.add_insecure_port(address)
            if socket_path is not None:
                self.aio.add_insecure_port(f"unix:{socket_path}")
        except RuntimeError:
            raise InvalidArgumentError(
                "address", f"{address} cannot be listened on; give a free port of this machine as HOST:PORT"
            ) from None
        await self.aio.start()
        for name in (*names, ""):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        self.address = f"{address.rpartition(':')[0]}:{port}"
        return self.address

    async def stop(self, grace_seconds: float) -> None:
        """Reports NOT_SERVING, refuses new calls, lets those in flight finish for `grace_seconds`, then ends them."""
        with contextlib.suppress(Exception):
            await self._health.enter_graceful_shutdown()
        # The port stays open meanwhile, so that health checks and callers are told, not left to guess.
        await self._calls.drain(grace_seconds)
        await self.aio.stop(_FLUSH_SECONDS)


class Service(Protocol):
    """What each service's `service.py` offers.

    A service may have more, which the host looks for once it is started:

    - `SERVICE_NAMES`, a tuple, where it registers more than one;
    - `access`, an `Access` or None: what it asks of its callers;
    - `collectors`, a sequence of Prometheus collectors: what it counts.
    """

    SERVICE_NAME: str

    def register(self, server: grpc.aio.Server) -> None:
        """Adds the servicer to a server."""

    async def start(self) -> None:
        """Opens the service's resources."""

    async def close(self) -> None:
        """Stops everything that the service started."""


class ServiceHost:
    """One service on one server.

    Usage::

        async with ServiceHost(BudgetService(settings), "127.0.0.1:0") as host:
            host.address

    Args:
        service: What to serve.
        address: `host:port`; port 0 picks a free one.
        settings: The server's.
        metrics: Where calls, and what the service counts, are shown.
        tracing: Where calls are traced.
        socket_path: A Unix socket to listen on as well, unencrypted but with the same access: for callers of this
            process that have no client certificate. Who can reach its folder can reach the service.
    """

    def __init__(
        self,
        service: Service,
        address: str,
        settings: ServerSettings | None = None,
        *,
        metrics: MetricsServer | None = None,
        tracing: Tracing | None = None,
        socket_path: Path | None = None,
    ) -> None:
        self._socket_path = socket_path
        self._service = service
        self._address = address
        self._settings = settings or _EMBEDDED
        self._metrics = metrics
        self._tracing = tracing
        self._stack = contextlib.AsyncExitStack()
        self._server: GrpcServer | None = None
        self.address = ""

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            await self._service.start()
            stack.push_async_callback(self._service.close)
            access: Access | None = getattr(self._service, "access", None)
            server = GrpcServer(self._settings, access=access, metrics=self._metrics, tracing=self._tracing)
            self._service.register(server.aio)
            if self._metrics is not None:
                for collector in getattr(self._service, "collectors", ()):
                    self._metrics.add(collector)
                    stack.callback(self._metrics.remove, collector)
            names = getattr(self._service, "SERVICE_NAMES", (self._service.SERVICE_NAME,))
            self.address = await server.start(self._address, names, socket_path=self._socket_path)
            self._server = server
            self._stack = stack.pop_all()
        return self

    async def drain(self) -> None:
        """Stops the server: calls in flight finish within `drain_seconds`, new ones are refused."""
        if self._server is not None:
            server, self._server = self._server, None
            await server.stop(self._settings.drain_seconds)

    async def __aexit__(self, *_: object) -> None:
        try:
            await self.drain()
        finally:
            await self._stack.aclose()
