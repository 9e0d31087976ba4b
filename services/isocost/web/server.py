"""Serving the page: address, encryption, graceful stop."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from types import TracebackType
from typing import Self

import structlog
from aiohttp import web

from isocost.core.channel import is_loopback
from isocost.core.errors import InvalidArgumentError
from isocost.core.server_settings import ServerSettings
from isocost.core.tls import page_context
from isocost.web.app import make_app
from isocost.web.visit import BudgetAddress

__all__ = ["WebServer"]

_log = structlog.get_logger(__name__)
#: How often a renewed certificate is looked for.
_RENEWAL_SECONDS = 60.0
#: What requests in flight may take once the server stops: each is short.
_DRAIN_SECONDS = 5.0


class WebServer:
    """The page of annotators and owners, on an HTTP server.

    Usage::

        async with WebServer("127.0.0.1:7611", BudgetAddress("127.0.0.1:7601", ChannelSettings())) as page:
            page.url

    Args:
        address: `host:port`; port 0 picks a free one.
        budget: The budget service whose campaigns are shown.
        settings: The server's certificate and key, where it has them; browsers show no certificate of their own, so
            `client_ca_path` is not asked of them.

    Raises:
        InvalidArgumentError: where the address is malformed or taken, or a file of the certificate cannot be used.
    """

    def __init__(self, address: str, budget: BudgetAddress, settings: ServerSettings | None = None) -> None:
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65_535:
            raise InvalidArgumentError("web_address", f"{address!r} is not HOST:PORT; give for example 127.0.0.1:7611")
        self._host, self._port = host.strip("[]"), int(port)
        self._settings = settings or ServerSettings()
        self._app = make_app(budget, loopback_only=is_loopback(self._host))
        self._context: ssl.SSLContext | None = None
        self._stack = contextlib.AsyncExitStack()
        self.url = ""

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            if self._settings.uses_tls:
                self._context = page_context(self._settings)
            runner = web.AppRunner(self._app, access_log=None, shutdown_timeout=_DRAIN_SECONDS)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            site = web.TCPSite(runner, self._host, self._port, ssl_context=self._context)
            try:
                await site.start()
            except OSError as error:
                raise InvalidArgumentError(
                    "web_address",
                    f"{self._host}:{self._port} cannot be listened on ({error.strerror}); give a free port of this "
                    "machine",
                ) from None
            port = runner.addresses[0][1]
            host = f"[{self._host}]" if ":" in self._host else self._host
            self.url = f"{'https' if self._context else 'http'}://{host}:{port}"
            if self._context is not None:
                renewal = asyncio.create_task(self._renew())
                stack.callback(renewal.cancel)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _renew(self) -> None:
        """Serves a certificate that was renewed meanwhile; new connections get it."""
        while True:
            await asyncio.sleep(_RENEWAL_SECONDS)
            try:
                page_context(self._settings, self._context)
            except InvalidArgumentError as error:
                # Half of the files renewed: the old certificate serves until they belong together again.
                _log.warning("certificates_unreadable", error=error.message)
