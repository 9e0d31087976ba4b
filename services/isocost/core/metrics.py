"""Prometheus metrics of one process: the time of its calls, and what its services count."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Self

from isocost.core.errors import FailedPreconditionError, InvalidArgumentError
from isocost.core.server_settings import SERVER_ENVIRONMENT, ServerSettings

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

__all__ = ["MetricsServer", "require_telemetry"]

#: From a read out of memory to a plan or a long stream.
_BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)


def require_telemetry(purpose: str, error: ImportError) -> FailedPreconditionError:
    """The error where the telemetry libraries are wanted but not installed."""
    return FailedPreconditionError(f"{purpose} needs {error.name}, which is not installed; install isocost[telemetry]")


class MetricsServer:
    """A registry of its own, and the HTTP server on which Prometheus reads it.

    Usage::

        with MetricsServer(settings) as metrics:
            ...  # ServiceHost(service, address, settings, metrics)
            metrics.address

    Raises:
        FailedPreconditionError: where `prometheus-client` is not installed.
        InvalidArgumentError: where the address in the settings is malformed or taken.
    """

    def __init__(self, settings: ServerSettings) -> None:
        try:
            import prometheus_client  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise require_telemetry("metrics_address", error) from None
        self._settings = settings
        self._registry = prometheus_client.CollectorRegistry()
        self._seconds = prometheus_client.Histogram(
            "isocost_rpc_seconds",
            "Time from the arrival of a call to the end of its answer.",
            ["method", "code"],
            registry=self._registry,
            buckets=_BUCKETS_SECONDS,
        )
        # One look-up in place of two locks and a hash of strings.
        self._children: dict[tuple[str, str], Any] = {}
        self._server: Any = None
        self._thread: threading.Thread | None = None
        self.address = ""

    def observe(self, method: str, code: str, seconds: float) -> None:
        """Counts one call."""
        child = self._children.get((method, code))
        if child is None:
            child = self._children[method, code] = self._seconds.labels(method.lstrip("/"), code)
        child.observe(seconds)

    def add(self, collector: Collector) -> None:
        """Adds what a service counts."""
        self._registry.register(collector)

    def remove(self, collector: Collector) -> None:
        """Takes it away again."""
        self._registry.unregister(collector)

    def __enter__(self) -> Self:
        from prometheus_client import start_http_server  # noqa: PLC0415

        settings = self._settings
        host, _, port = settings.metrics_address.rpartition(":")
        try:
            self._server, self._thread = start_http_server(
                int(port),
                host.strip("[]"),
                self._registry,
                certfile=str(settings.certificate_path) if settings.client_ca_path else None,
                keyfile=str(settings.key_path) if settings.client_ca_path else None,
                client_cafile=str(settings.client_ca_path) if settings.client_ca_path else None,
                client_auth_required=settings.client_ca_path is not None,
            )
        except (OSError, ValueError, OverflowError) as error:
            raise InvalidArgumentError(
                f"{SERVER_ENVIRONMENT}METRICS_ADDRESS",
                f"{settings.metrics_address!r} cannot be listened on ({error}); give a free HOST:PORT",
            ) from None
        self.address = f"{host}:{self._server.server_port}"
        return self

    def __exit__(self, *_: object) -> None:
        assert self._thread is not None
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
