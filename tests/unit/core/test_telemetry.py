"""Metrics as Prometheus reads them, and traces as a collector gets them."""

from __future__ import annotations

import asyncio
import ssl
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from isocost.core.channel import open_channel
from isocost.core.errors import FailedPreconditionError, InvalidArgumentError
from isocost.core.grpc_server import ServiceHost
from isocost.core.metrics import MetricsServer
from isocost.core.server_settings import ServerSettings
from isocost.core.tracing import Tracing
from tests.authority import Authority
from tests.unit.core.echo import EchoService, call

ENDLESS: Any = StringValue(value="endless").SerializeToString()


def scrape(address: str) -> dict[str, float]:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as response:
        text = response.read().decode()
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class CountingService(EchoService):
    class Echoes(Collector):
        def collect(self) -> Iterable[Metric]:
            yield GaugeMetricFamily("test_echoes", "Echoes.", value=7.0)

    collectors = (Echoes(),)


async def test_calls_are_counted_by_method_and_code() -> None:
    with MetricsServer(ServerSettings(metrics_address="127.0.0.1:0")) as metrics:
        service = CountingService()
        async with ServiceHost(service, "127.0.0.1:0", metrics=metrics) as host:
            async with open_channel(host.address) as channel:
                for _ in range(3):
                    await call(channel, "GetEcho", "x")
                await call(channel, "ListEchoes", "x")
                with pytest.raises(grpc.aio.AioRpcError):
                    await call(channel, "GetEcho", "missing")
                with pytest.raises(grpc.aio.AioRpcError):
                    await call(channel, "GetEcho", "crash")
                with pytest.raises(grpc.aio.AioRpcError):
                    await call(channel, "GetEcho", "wait", timeout=0.1)
                await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
                await asyncio.wait_for(service.left.wait(), 10)
            await host.drain()
            shown = scrape(metrics.address)
        counts = {name: value for name, value in shown.items() if name.startswith("isocost_rpc_seconds_count")}
        assert counts == {
            "isocost_rpc_seconds_count[('code', 'OK'), ('method', 'test.Echo/GetEcho')]": 3,
            "isocost_rpc_seconds_count[('code', 'OK'), ('method', 'test.Echo/ListEchoes')]": 1,
            "isocost_rpc_seconds_count[('code', 'NOT_FOUND'), ('method', 'test.Echo/GetEcho')]": 1,
            "isocost_rpc_seconds_count[('code', 'INTERNAL'), ('method', 'test.Echo/GetEcho')]": 1,
            "isocost_rpc_seconds_count[('code', 'DEADLINE_EXCEEDED'), ('method', 'test.Echo/GetEcho')]": 1,
        }
        assert shown["test_echoes[]"] == 7
        # What a service counts goes with it.
        assert "test_echoes[]" not in scrape(metrics.address)


async def test_a_metrics_address_that_cannot_be_used_is_named() -> None:
    with MetricsServer(ServerSettings(metrics_address="127.0.0.1:0")) as metrics:
        for address in (metrics.address, "127.0.0.1", "127.0.0.1:http", "127.0.0.1:70000"):
            with (
                pytest.raises(InvalidArgumentError, match="ISOCOST_SERVER_METRICS_ADDRESS"),
                MetricsServer(ServerSettings(metrics_address=address)),
            ):
                pass


def test_metrics_beyond_loopback_are_read_with_a_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    certificate_path, key_path = authority.issue("server")
    settings = ServerSettings(
        metrics_address="127.0.0.1:0",
        certificate_path=certificate_path,
        key_path=key_path,
        client_ca_path=authority.path,
    )
    context = ssl.create_default_context(cafile=str(authority.path))
    with MetricsServer(settings) as metrics:
        with pytest.raises(OSError, match=r"certificate required|EOF occurred|reset"):
            urllib.request.urlopen(f"https://{metrics.address}/metrics", timeout=10, context=context)
        context.load_cert_chain(*authority.issue("prometheus"))
        with urllib.request.urlopen(f"https://{metrics.address}/metrics", timeout=10, context=context) as response:
            assert b"isocost_rpc_seconds" in response.read()


class TraceCollector:
    """Keeps the spans that it is sent."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.service_names: set[str] = set()

    async def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - the wire's name
        for resource in request.resource_spans:
            self.service_names |= {
                pair.value.string_value for pair in resource.resource.attributes if pair.key == "service.name"
            }
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TraceCollector]:
    collector, server = TraceCollector(), grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    yield collector
    await server.stop(None)


async def traced_calls(tracing: Tracing, **options: Any) -> None:
    async with (
        ServiceHost(EchoService(), "127.0.0.1:0", tracing=tracing) as host,
        open_channel(host.address) as channel,
    ):
        await call(channel, "GetEcho", "x", **options)
        await call(channel, "ListEchoes", "x", **options)
        with pytest.raises(grpc.aio.AioRpcError):
            await call(channel, "GetEcho", "missing", **options)
        await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    await tracing.close()


async def test_every_call_but_health_checks_gives_a_span(collector: TraceCollector) -> None:
    await traced_calls(Tracing("isocost-test", ratio=1.0))
    assert collector.service_names == {"isocost-test"}
    codes = sorted(
        (span.name, attribute.value.int_value)
        for span in collector.spans
        for attribute in span.attributes
        if attribute.key == "rpc.grpc.status_code"
    )
    assert codes == [("test.Echo/GetEcho", 0), ("test.Echo/GetEcho", 5), ("test.Echo/ListEchoes", 0)]


async def test_a_caller_that_leaves_ends_its_span(collector: TraceCollector, caplog: pytest.LogCaptureFixture) -> None:
    tracing, service = Tracing("isocost-test", ratio=1.0), EchoService()
    async with ServiceHost(service, "127.0.0.1:0", tracing=tracing) as host, open_channel(host.address) as channel:
        stream: Any = channel.unary_stream("/test.Echo/ListEchoes")(ENDLESS)
        async for _ in stream:
            break
        stream.cancel()
        async with asyncio.timeout(10):
            await service.left.wait()
    await tracing.close()
    assert [span.name for span in collector.spans] == ["test.Echo/ListEchoes"]
    assert caplog.records == []


async def test_the_caller_decides_whether_its_trace_is_recorded(collector: TraceCollector) -> None:
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    tracing = Tracing("isocost-test", ratio=0.0)
    await traced_calls(tracing, metadata=(("traceparent", f"00-{trace_id}-b7ad6b7169203331-01"),))
    assert len(collector.spans) == 3
    assert {span.trace_id.hex() for span in collector.spans} == {trace_id}


async def test_a_ratio_of_nothing_records_nothing(collector: TraceCollector) -> None:
    await traced_calls(Tracing("isocost-test", ratio=0.0))
    assert collector.spans == []


async def test_without_an_endpoint_nothing_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    tracing = Tracing("isocost-test", ratio=1.0)
    assert not tracing.is_on
    await tracing.close()


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(FailedPreconditionError, match=r"install isocost\[telemetry\]"):
        Tracing("isocost-test", ratio=1.0)
    with pytest.raises(FailedPreconditionError, match=r"install isocost\[telemetry\]"):
        MetricsServer(ServerSettings(metrics_address="127.0.0.1:0"))
