"""TLS of a server: its certificate, read again when it is renewed, and the authorities of its clients."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import grpc
import structlog

from isocost.core.errors import InvalidArgumentError
from isocost.core.server_settings import SERVER_ENVIRONMENT, ServerSettings

__all__ = ["page_context", "server_credentials"]

_log = structlog.get_logger(__name__)


class _Certificates:
    """The files, and when they last changed."""

    def __init__(self, settings: ServerSettings) -> None:
        assert settings.certificate_path is not None
        assert settings.key_path is not None
        self._paths: dict[str, Path] = {"KEY_PATH": settings.key_path, "CERTIFICATE_PATH": settings.certificate_path}
        if settings.client_ca_path is not None:
            self._paths["CLIENT_CA_PATH"] = settings.client_ca_path
        self._changed: list[tuple[int, int]] = []

    def read(self) -> Any:
        """The files as gRPC wants them.

        Raises:
            OSError: where one cannot be read, or they do not belong together: `ssl.SSLError` is one.
        """
        changed = self._changes()
        # gRPC itself would only say that it cannot bind, or refuse every client.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._paths["CERTIFICATE_PATH"], self._paths["KEY_PATH"], password="")
        if "CLIENT_CA_PATH" in self._paths:
            context.load_verify_locations(self._paths["CLIENT_CA_PATH"])
        key, certificate, *client_ca = (path.read_bytes() for path in self._paths.values())
        configuration = grpc.ssl_server_certificate_configuration(
            [(key, certificate)], root_certificates=client_ca[0] if client_ca else None
        )
        self._changed = changed
        return configuration

    def read_first(self) -> Any:
        """As `read`.

        Raises:
            InvalidArgumentError: names the file that cannot be read, or is not what it should be.
        """
        for name, path in self._paths.items():
            try:
                path.read_bytes()
            except OSError as error:
                raise InvalidArgumentError(
                    f"{SERVER_ENVIRONMENT}{name}", f"{str(path)!r} cannot be read: {error.strerror}"
                ) from None
        try:
            return self.read()
        except ssl.SSLError as error:
            raise InvalidArgumentError(
                f"{SERVER_ENVIRONMENT}CERTIFICATE_PATH",
                f"the files are not a PEM certificate, its unencrypted key and authorities ({error})",
            ) from None

    def read_changed(self) -> Any:
        """The renewed certificates, or None; called by gRPC before each handshake, on a thread of its own."""
        try:
            return None if self._changes() == self._changed else self.read()
        except OSError as error:
            # Half of them renewed: the old certificate serves until the files belong together again.
            _log.warning("certificates_unreadable", error=str(error))
            return None

    def _changes(self) -> list[tuple[int, int]]:
        return [(status.st_mtime_ns, status.st_ino) for status in map(Path.stat, self._paths.values())]


def server_credentials(settings: ServerSettings) -> grpc.ServerCredentials:
    """The credentials of a server whose settings name a certificate.

    Raises:
        InvalidArgumentError: names the file that cannot be read, or is not what it should be.
    """
    certificates = _Certificates(settings)
    return grpc.dynamic_ssl_server_credentials(
        certificates.read_first(),
        certificates.read_changed,
        require_client_authentication=settings.client_ca_path is not None,
    )


def page_context(settings: ServerSettings, context: ssl.SSLContext | None = None) -> ssl.SSLContext:
    """The certificate of a server whose settings name one, for pages that browsers open.

    Args:
        settings: With `certificate_path` and `key_path`.
        context: One to put the files into once more, as they may have been renewed; None for a new one.

    Raises:
        InvalidArgumentError: names the file that cannot be read, or is not what it should be.
    """
    # Both files are tried apart from the context in use: it is never left with half of them.
    _Certificates(settings).read_first()
    assert settings.certificate_path is not None
    context = context or ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(settings.certificate_path, settings.key_path, password="")
    return context
