"""Channels to the services: plain on loopback; encrypted, with a certificate or a token, elsewhere."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from isocost.core.errors import InvalidArgumentError
from isocost.core.limits import MESSAGE_BYTES_MAX

__all__ = [
    "ChannelSettings",
    "call_metadata",
    "channel_options",
    "is_loopback",
    "open_channel",
    "tls_credentials",
]

_OPTIONS: list[tuple[str, str | int]] = [
    # Callers repeat their calls themselves; gRPC's own repeats would multiply theirs.
    ("grpc.enable_retries", 0),
    # Left alone, gRPC waits up to two minutes before it looks for a server again, and fails every call meanwhile.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # What one attempt to connect may take.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    # A connection that died without a word is noticed within a minute, so that a repeat takes a new one. The server
    # hangs up on clients that ask more often than twice a minute.
    ("grpc.keepalive_time_ms", 40_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Without it gRPC gives a ping a minute, whatever the line above says.
    ("grpc.http2.ping_timeout_ms", 10_000),
]


@dataclass(frozen=True, slots=True)
class ChannelSettings:
    """How to reach a server. The default is a plain connection without a token.

    Raises:
        InvalidArgumentError: where only one of certificate and key is given.
    """

    token: str = field(default="", repr=False)
    """Secret that `isocost token create` printed; "" sends none. Never sent unencrypted beyond loopback."""
    tls: bool = False
    """Encrypt. Implied by any of the files below; alone, it trusts the authorities that gRPC ships with."""
    ca_path: Path | None = None
    """PEM certificates of the authorities that may sign the server's certificate."""
    certificate_path: Path | None = None
    """PEM certificate of this client, for servers that ask for one; needs `key_path`."""
    key_path: Path | None = None
    """PEM private key of `certificate_path`."""
    server_name: str = ""
    """Name to find in the server's certificate; "" is the address's host."""
    insecure: bool = False
    """Send the token unencrypted beyond loopback too, on a network that is trusted."""
    message_bytes_max: int = MESSAGE_BYTES_MAX
    """Largest message sent or received."""

    def __post_init__(self) -> None:
        if (self.certificate_path is None) != (self.key_path is None):
            raise InvalidArgumentError("key_path", "give both certificate_path and key_path, or neither")

    @property
    def is_encrypted(self) -> bool:
        """Whether the connection uses TLS."""
        return self.tls or self.ca_path is not None or self.certificate_path is not None


def is_loopback(host: str) -> bool:
    """Whether a host, by name or address, is this machine's loopback."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def open_channel(address: str, settings: ChannelSettings | None = None) -> grpc.aio.Channel:
    """A channel to one of the services, with the same message limit as the server.

    Usage::

        async with open_channel("127.0.0.1:7601") as channel:
            stub = BudgetServiceStub(channel)

        open_channel("budget.example.org:7601", ChannelSettings(token=secret, ca_path=Path("ca.pem")))

    Raises:
        InvalidArgumentError: where a file cannot be read, or a token would travel unencrypted beyond loopback.
    """
    settings = settings or ChannelSettings()
    interceptors = _token_interceptors(call_metadata(address, settings))
    options = channel_options(settings)
    if settings.is_encrypted:
        return grpc.aio.secure_channel(address, tls_credentials(settings), options=options, interceptors=interceptors)
    return grpc.aio.insecure_channel(address, options=options, interceptors=interceptors)


def call_metadata(address: str, settings: ChannelSettings) -> tuple[tuple[str, str], ...]:
    """What every call carries: the token, where there is one.

    Raises:
        InvalidArgumentError: where the token would travel unencrypted beyond loopback.
    """
    if not settings.token:
        return ()
    is_local = address.startswith("unix:") or is_loopback(address.rpartition(":")[0])
    if not (settings.is_encrypted or settings.insecure or is_local):
        raise InvalidArgumentError(
            "token",
            f"would travel unencrypted to {address}; use TLS (tls or ca_path), or insecure on a trusted network",
        )
    return (("authorization", f"Bearer {settings.token}"),)


def channel_options(settings: ChannelSettings) -> list[tuple[str, str | int]]:
    """gRPC's options of a channel with these settings."""
    options = [
        *_OPTIONS,
        ("grpc.max_send_message_length", settings.message_bytes_max),
        ("grpc.max_receive_message_length", settings.message_bytes_max),
    ]
    if settings.server_name:
        options.append(("grpc.ssl_target_name_override", settings.server_name))
    return options


def tls_credentials(settings: ChannelSettings) -> grpc.ChannelCredentials:
    """Whom to trust, and who we are.

    Raises:
        InvalidArgumentError: where a file cannot be read.
    """
    return grpc.ssl_channel_credentials(
        root_certificates=_read("ca_path", settings.ca_path),
        private_key=_read("key_path", settings.key_path),
        certificate_chain=_read("certificate_path", settings.certificate_path),
    )


def _read(name: str, path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidArgumentError(name, f"{str(path)!r} cannot be read: {error.strerror}") from None


class _Token:
    """Adds the token to a call's metadata: gRPC's own call credentials refuse a plain connection."""

    def __init__(self, header: tuple[str, str]) -> None:
        self._header = header

    def _with_token(self, details: grpc.aio.ClientCallDetails) -> grpc.aio.ClientCallDetails:
        return grpc.aio.ClientCallDetails(
            details.method,
            details.timeout,
            grpc.aio.Metadata(*(details.metadata or ()), self._header),
            details.credentials,
            details.wait_for_ready,
        )


class _UnaryUnaryToken(_Token, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(
        self, continuation: Any, client_call_details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        return await continuation(self._with_token(client_call_details), request)


class _UnaryStreamToken(_Token, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(
        self, continuation: Any, client_call_details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        return await continuation(self._with_token(client_call_details), request)


class _StreamUnaryToken(_Token, grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(
        self, continuation: Any, client_call_details: grpc.aio.ClientCallDetails, request_iterator: Any
    ) -> Any:
        return await continuation(self._with_token(client_call_details), request_iterator)


class _StreamStreamToken(_Token, grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(
        self, continuation: Any, client_call_details: grpc.aio.ClientCallDetails, request_iterator: Any
    ) -> Any:
        return await continuation(self._with_token(client_call_details), request_iterator)


def _token_interceptors(metadata: tuple[tuple[str, str], ...]) -> list[grpc.aio.ClientInterceptor]:
    # A channel uses an interceptor for one kind of call only, so there is one for each.
    kinds = (_UnaryUnaryToken, _UnaryStreamToken, _StreamUnaryToken, _StreamStreamToken)
    return [kind(header) for header in metadata for kind in kinds]
