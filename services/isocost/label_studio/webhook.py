"""The webhook: Label Studio calls when somebody has answered, so that nobody waits for the next look.

A call carries nothing but the news that there is something; Label Studio makes it once, while the person waits.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Callable
from typing import Self

from aiohttp import web

from isocost.core.errors import FailedPreconditionError, InvalidArgumentError
from isocost.label_studio.server import LabelStudioServer

__all__ = ["WEBHOOK_ADDRESS_FIELD", "Webhook"]

WEBHOOK_ADDRESS_FIELD = "webhook_address"
#: Headers of a call: whose webhook it is, by which it is found again, and what proves that Label Studio calls.
_MARK, _SECRET = "X-Isocost-Source", "X-Isocost-Secret"
_ACTIONS = ["ANNOTATION_CREATED", "ANNOTATIONS_CREATED", "ANNOTATION_UPDATED"]
#: Calls are answered without reading what they say.
_BODY_BYTES_MAX = 1 << 20


class Webhook:
    """A small HTTP server that sets an event when it is called with the right secret.

    Args:
        mark: Whose webhook it is; one webhook a mark is kept in a project.
        address: host:port to listen at; port 0 for a free one.
        url: How Label Studio reaches it; "" for the address itself.

    Raises:
        InvalidArgumentError: where the address is none.
    """

    def __init__(self, mark: str, address: str, url: str = "") -> None:
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65_535:
            raise InvalidArgumentError(WEBHOOK_ADDRESS_FIELD, f"{address!r} is no address; give HOST:PORT")
        self._mark = mark
        self._host = host.strip("[]")
        self._port = int(port)
        self._url = url
        # A new one for each process: it is told to Label Studio, and kept nowhere else.
        self._secret = secrets.token_urlsafe(32)
        self._runner: web.AppRunner | None = None
        #: Set when Label Studio has called.
        self.called = asyncio.Event()

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=_BODY_BYTES_MAX)
        app.router.add_post("/{path:.*}", self._take)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise InvalidArgumentError(
                WEBHOOK_ADDRESS_FIELD, f"cannot listen at {self._host}:{self._port}: {error.strerror}; give another"
            ) from None
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def url(self) -> str:
        """How Label Studio reaches it."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return self._url or f"http://{host}:{self._port}/"

    async def register(self, server: LabelStudioServer, project_id: int, say: Callable[[str], None]) -> None:
        """Tells Label Studio to call; the webhook of an earlier process is changed, and more of them are deleted.

        Where Label Studio refuses the URL, that is said: looking every now and then does without.
        """
        body = {
            "project": project_id,
            "url": self.url,
            "headers": {_MARK: self._mark, _SECRET: self._secret},
            "send_payload": False,
            "send_for_all_actions": False,
            "actions": _ACTIONS,
            "is_active": True,
        }
        webhooks = await server.get("/api/webhooks/", {"project": str(project_id)})
        own = [each for each in webhooks if (each.get("headers") or {}).get(_MARK) == self._mark]
        try:
            if own:
                await server.patch(f"/api/webhooks/{own[0]['id']}/", body)
            else:
                await server.post("/api/webhooks/", body)
        except FailedPreconditionError as error:
            say(
                f"no webhook, so answers come with the next look: {error.message} (Label Studio calls loopback and "
                "private addresses with SSRF_PROTECTION_ENABLED=false only)"
            )
        for each in own[1:]:
            await server.delete(f"/api/webhooks/{each['id']}/")

    async def _take(self, request: web.Request) -> web.Response:
        if not hmac.compare_digest(request.headers.get(_SECRET, "").encode(), self._secret.encode()):
            return web.Response(status=403)
        self.called.set()
        return web.Response(status=204)
