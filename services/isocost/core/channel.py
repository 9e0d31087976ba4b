"""Channels to the services: plain on loopback; encrypted, with a certificate or a token, elsewhere."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from isocost.core.errors import InvalidArgumentError
from isocost.core.limits import MESSAGE_BYTES_MAX

__all__ = ["ChannelSettings", "is_loopback", "open_channel"]

#: A call that waits for an answer asks after a silent server once a minute, and gives it 20 s to answer.
_KEEPALIVE_TIME_MS = 60_000
_KEEPALIVE_TIMEOUT_MS = 20_000
#: A server that restarts is found again within seconds; gRPC's own pauses grow to two minutes.
_RECONNECT_MS_MIN = 100
_RECONNECT_MS_MAX = 2_000


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
    options: list[tuple[str, Any]] = [
        ("grpc.max_send_message_length", settings.message_bytes_max),
        ("grpc.max_receive_message_length", settings.message_bytes_max),
        ("grpc.keepalive_time_ms", _KEEPALIVE_TIME_MS),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
        ("grpc.initial_reconnect_backoff_ms", _RECONNECT_MS_MIN),
        ("grpc.max_reconnect_backoff_ms", _RECONNECT_MS_MAX),
    ]
    if settings.is_encrypted:
        if settings.server_name:
            options.append(("grpc.ssl_target_name_override", settings.server_name))
        return grpc.aio.secure_channel(address, _credentials(settings), options=options)
    if not settings.token:
        return grpc.aio.insecure_channel(address, options=options)
    if not settings.insecure and not is_loopback(address.rpartition(":")[0]):
        raise InvalidArgumentError(
            "token",
            f"would travel unencrypted to {address}; use TLS (tls or ca_path), or insecure on a trusted network",
        )
    return grpc.aio.insecure_channel(address, options=options, interceptors=_token_interceptors(settings.token))


def _credentials(settings: ChannelSettings) -> grpc.ChannelCredentials:
    credentials = grpc.ssl_channel_credentials(
        root_certificates=_read("ca_path", settings.ca_path),
        private_key=_read("key_path", settings.key_path),
        certificate_chain=_read("certificate_path", settings.certificate_path),
    )
    if not settings.token:
        return credentials
    return grpc.composite_channel_credentials(credentials, grpc.access_token_call_credentials(settings.token))


def _read(name: str, path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidArgumentError(name, f"{str(path)!r} cannot be read: {error.strerror}") from None


class _Token:
    """Adds the token to a call's metadata: gRPC's own call credentials refuse a plain connection."""

    def __init__(self, token: str) -> None:
        self._header = ("authorization", f"Bearer {token}")

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


def _token_interceptors(token: str) -> list[grpc.aio.ClientInterceptor]:
    # A channel uses an interceptor for one kind of call only, so there is one for each.
    return [kind(token) for kind in (_UnaryUnaryToken, _UnaryStreamToken, _StreamUnaryToken, _StreamStreamToken)]
