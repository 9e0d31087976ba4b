"""OpenTelemetry traces of calls, sent where the standard environment variables say."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from typing import Any

import grpc

from isocost.core.metrics import require_telemetry

__all__ = ["CallSpan", "Tracing"]

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
#: Where the server is at fault; the other codes tell of the caller's mistake.
_FAULTS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})


class CallSpan:
    """One call in a trace."""

    def __init__(self, span: Any) -> None:
        self._span = span

    def end(self, code: str) -> None:
        """The call ended with a status code, by name."""
        from opentelemetry.trace import StatusCode  # noqa: PLC0415 - an extra

        self._span.set_attribute("rpc.grpc.status_code", grpc.StatusCode[code].value[0])
        if code in _FAULTS:
            self._span.set_status(StatusCode.ERROR, code)
        self._span.end()


class Tracing:
    """The traces of one process. Without an endpoint in the environment it does nothing, and imports nothing.

    The interceptor of OpenTelemetry's own instrumentation is not used: around a stream it is an asynchronous
    generator, which ends in another context than it began in when the caller leaves, and says so in a traceback.

    Usage::

        tracing = Tracing("isocost-budget", ratio=0.01)
        server = GrpcServer(settings, tracing=tracing)
        ...
        await tracing.close()

    Args:
        service_name: Name in the traces, unless OTEL_SERVICE_NAME gives another.
        ratio: Share of the traces that begin here which are recorded; a caller's own decision goes first.

    Raises:
        FailedPreconditionError: where an endpoint is given, but OpenTelemetry is not installed.
    """

    def __init__(self, service_name: str, *, ratio: float) -> None:
        self._provider: Any = None
        self._tracer: Any = None
        if not any(os.environ.get(name) for name in _ENDPOINTS):
            return
        try:
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
            from opentelemetry.sdk.resources import OTELResourceDetector, Resource  # noqa: PLC0415
            from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
            from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
            from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased  # noqa: PLC0415
        except ImportError as error:
            raise require_telemetry(_ENDPOINTS[0], error) from None
        resource = Resource.create({"service.name": service_name}).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource, sampler=ParentBased(TraceIdRatioBased(ratio)))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("isocost")

    @property
    def is_on(self) -> bool:
        """Whether there is somewhere to send traces to."""
        return self._provider is not None

    def begin(self, method: str, metadata: Iterable[tuple[str, str | bytes]]) -> CallSpan:
        """The span of a call, in the caller's trace where the metadata names one; current in this task from now on."""
        from opentelemetry import context, propagate, trace  # noqa: PLC0415 - an extra

        parent = propagate.extract({key: value for key, value in metadata if isinstance(value, str)})
        service, _, name = method.lstrip("/").partition("/")
        span = self._tracer.start_span(
            method.lstrip("/"),
            parent,
            kind=trace.SpanKind.SERVER,
            attributes={"rpc.system": "grpc", "rpc.service": service, "rpc.method": name},
        )
        # Never detached: gRPC gives each call a task, and with it a context, of its own.
        context.attach(trace.set_span_in_context(span, parent))
        return CallSpan(span)

    async def close(self) -> None:
        """Sends what is recorded."""
        if self._provider is not None:
            provider, self._provider = self._provider, None
            await asyncio.to_thread(provider.shutdown)
