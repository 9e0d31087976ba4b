"""Settings of a server, the same for each of the services."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from isocost.core.channel import is_loopback
from isocost.core.environment import read_environment
from isocost.core.errors import InvalidArgumentError
from isocost.core.limits import MESSAGE_BYTES_MAX

__all__ = ["SERVER_ENVIRONMENT", "ServerSettings", "check_exposure", "check_metrics_exposure", "read_server_settings"]

#: Prefix of the environment variables: `ISOCOST_SERVER_DRAIN_SECONDS` is `drain_seconds`.
SERVER_ENVIRONMENT = "ISOCOST_SERVER_"


class ServerSettings(BaseModel):
    """How a server listens, what it lets through, and what it tells about itself."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    certificate_path: Path | None = None
    """PEM certificate chain of the server; with `key_path` it turns TLS on. Both are read again when they change."""
    key_path: Path | None = None
    """PEM private key of `certificate_path`."""
    client_ca_path: Path | None = None
    """PEM certificates of the authorities of clients; a client without a certificate of one is refused (mTLS)."""
    message_bytes_max: int = Field(default=MESSAGE_BYTES_MAX, ge=4 * 1024)
    """Largest message received or sent; a larger one is refused as RESOURCE_EXHAUSTED."""
    calls_in_flight_max: int = Field(default=1_000, ge=1)
    """Calls served at a time; one more is refused as RESOURCE_EXHAUSTED, to be repeated."""
    calls_per_second_max: float = Field(default=0.0, ge=0)
    """Calls a second that each token, or without tokens each client's address, may make; 0 is without limit."""
    burst_calls: int = Field(default=200, ge=1)
    """Calls that a client may make at once after a pause, where `calls_per_second_max` limits it."""
    drain_seconds: float = Field(default=20.0, ge=0)
    """How long calls in flight may take to finish once the server is told to stop; Kubernetes kills after 30 s."""
    reflection: bool = True
    """Whether clients may ask for the services' descriptors (grpcurl does); with a token where those are required."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe line logged. `info` has every mutation and every failed call, `debug` every call."""
    metrics_address: str = ""
    """`host:port` on which Prometheus finds the metrics at `/metrics`; "" serves none."""
    metrics_insecure: bool = False
    """Serve metrics beyond loopback without TLS and client certificates, as where only Prometheus can reach them."""
    trace_ratio: float = Field(default=0.01, ge=0, le=1)
    """Share of the traces that begin here which are recorded; a caller's own decision goes first. Traces are sent only
    where OTEL_EXPORTER_OTLP_ENDPOINT, or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, says where to."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.certificate_path is None) != (self.key_path is None):
            raise ValueError("give both certificate_path and key_path, or neither")
        if self.client_ca_path is not None and self.certificate_path is None:
            raise ValueError("client_ca_path needs TLS: give certificate_path and key_path too")
        return self

    @property
    def uses_tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.certificate_path is not None


class _EnvironmentSettings(BaseSettings, ServerSettings):
    model_config = SettingsConfigDict(env_prefix=SERVER_ENVIRONMENT, frozen=True, extra="ignore")


def read_server_settings() -> ServerSettings:
    """The settings in the environment, `ISOCOST_SERVER_*`.

    Raises:
        InvalidArgumentError: names the variable that is wrong.
    """
    return read_environment(_EnvironmentSettings)


def check_exposure(
    name: str,
    host: str,
    settings: ServerSettings,
    *,
    requires_tokens: bool | None,
    insecure: bool,
    field: str = "--host",
) -> None:
    """Refuses to listen where strangers could call.

    Args:
        name: The service, for the message.
        host: Where it is to listen.
        settings: The server's.
        requires_tokens: Whether callers need a token; None for a service that keeps none, whose callers need a
            certificate instead.
        insecure: Whether the user takes the risk.
        field: What the host was given by, for the message.

    Raises:
        InvalidArgumentError: where the host is not loopback, and calls are not both encrypted and authenticated.
    """
    if insecure or is_loopback(host):
        return
    missing = []
    if not settings.uses_tls:
        missing.append(f"encryption ({SERVER_ENVIRONMENT}CERTIFICATE_PATH and {SERVER_ENVIRONMENT}KEY_PATH)")
    if requires_tokens is None and settings.client_ca_path is None:
        missing.append(f"client certificates ({SERVER_ENVIRONMENT}CLIENT_CA_PATH)")
    if requires_tokens is False:
        missing.append("tokens (ISOCOST_BUDGET_REQUIRE_TOKENS=true)")
    if missing:
        raise InvalidArgumentError(
            field,
            f"{host!r} is not loopback: the {name} needs {' and '.join(missing)}, "
            "or --insecure where everyone who can reach it is trusted",
        )


def check_metrics_exposure(settings: ServerSettings) -> None:
    """Refuses to show metrics where strangers could read them.

    Raises:
        InvalidArgumentError: where the address is not loopback, and neither client certificates are asked for nor
            `metrics_insecure` is set.
    """
    host = settings.metrics_address.rpartition(":")[0]
    if not settings.metrics_address or is_loopback(host) or settings.metrics_insecure or settings.client_ca_path:
        return
    raise InvalidArgumentError(
        f"{SERVER_ENVIRONMENT}METRICS_ADDRESS",
        f"{host!r} is not loopback: set {SERVER_ENVIRONMENT}CLIENT_CA_PATH, so that only clients with a certificate "
        f"read the metrics, or {SERVER_ENVIRONMENT}METRICS_INSECURE=true",
    )
