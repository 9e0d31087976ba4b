"""Who visits a page, and the clients that act for them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from urllib.parse import quote, unquote

from aiohttp import web

from isocost.client import BudgetClient, QueueClient, RetryPolicy
from isocost.core.caller import Role
from isocost.core.channel import ChannelSettings
from isocost.core.errors import InvalidArgumentError, UnauthenticatedError

__all__ = [
    "BUDGET",
    "VISIT",
    "BudgetAddress",
    "Visit",
    "forget",
    "remember",
    "remembered",
    "requires_tokens",
    "visit",
]

_COOKIE = "isocost"
_COOKIE_SECONDS = int(timedelta(days=30).total_seconds())
_NAME_CHARACTERS_MAX = 128
#: Nobody waits at a page for longer; the page asks again by itself.
_RETRY = RetryPolicy(timeout=timedelta(seconds=8))


@dataclass(frozen=True, slots=True)
class BudgetAddress:
    """Where the budget service is.

    Attributes:
        address: `host:port`, or `unix:` and the path of a socket.
        channel: Encryption. Its token is not used: every visitor has one.
    """

    address: str
    channel: ChannelSettings

    @asynccontextmanager
    async def clients(self, secret: str) -> AsyncIterator[tuple[BudgetClient, QueueClient]]:
        """Clients that carry a visitor's token; "" for none."""
        channel = replace(self.channel, token=secret)
        async with (
            BudgetClient(self.address, channel=channel, retry=_RETRY) as budget,
            QueueClient(self.address, channel=channel, retry=_RETRY) as queue,
        ):
            yield budget, queue


#: The budget service of an application.
BUDGET = web.AppKey("budget", BudgetAddress)


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of somebody who is signed in.

    Attributes:
        budget, queue: Clients that carry the visitor's token.
        secret: The token; "" where the budget service asks for none.
        name: Whom the token names, or the name given at sign-in.
        role: The token's role; None where there is no token, and everything is allowed.
    """

    budget: BudgetClient
    queue: QueueClient
    secret: str
    name: str
    role: Role | None

    @property
    def is_owner(self) -> bool:
        """Whether the visitor may see campaigns, and not only answer."""
        return self.role is not Role.ANNOTATOR

    @property
    def annotator(self) -> str:
        """Whom calls name as the annotator; an annotator's token does so itself."""
        return self.name if self.is_owner else ""


#: Where the middleware puts the visit of a request.
VISIT = web.RequestKey("visit", Visit)


@asynccontextmanager
async def visit(address: BudgetAddress, *, secret: str = "", name: str = "") -> AsyncIterator[Visit]:
    """The visit of somebody with a token; or with a name, where the budget service asks for no tokens.

    Raises:
        UnauthenticatedError: where the token is not valid, or one is needed.
        InvalidArgumentError: where the service asks for no tokens, and the name cannot be one.
        UnavailableError: where the budget service is away.
    """
    if not secret.isascii() or not secret.isprintable():
        # gRPC could not even send it.
        raise UnauthenticatedError("the token holds characters that no token has; paste it anew", field="token")
    async with address.clients(secret) as (budget, queue):
        caller = await queue.get_caller()
        if caller.role is not None:
            yield Visit(budget, queue, secret, caller.principal, caller.role)
            return
        name = name.strip()
        if not 1 <= len(name) <= _NAME_CHARACTERS_MAX or not name.isprintable():
            raise InvalidArgumentError("name", f"give a name of 1 to {_NAME_CHARACTERS_MAX} printable characters")
        yield Visit(budget, queue, "", name, None)


async def requires_tokens(address: BudgetAddress) -> bool:
    """Whether the budget service asks its callers for tokens.

    Raises:
        UnavailableError: where it is away.
    """
    async with address.clients("") as (_, queue):
        try:
            await queue.get_caller()
        except UnauthenticatedError:
            return True
    return False


def remembered(request: web.Request) -> dict[str, str]:
    """What the browser keeps of a sign-in: `secret` or `name`; empty where nobody is signed in."""
    kind, _, value = unquote(request.cookies.get(_COOKIE, "")).partition(":")
    return {kind: value} if value and kind in ("secret", "name") else {}


def remember(request: web.Request, response: web.StreamResponse, visitor: Visit) -> None:
    """Signs in: the browser keeps the token where no script reads it, and no other site can post with it."""
    kept = f"secret:{visitor.secret}" if visitor.secret else f"name:{visitor.name}"
    response.set_cookie(
        _COOKIE,
        quote(kept, safe=""),
        max_age=_COOKIE_SECONDS,
        httponly=True,
        samesite="Lax",
        secure=request.secure or request.headers.get("X-Forwarded-Proto") == "https",
        path="/",
    )


def forget(response: web.StreamResponse) -> None:
    """Signs out."""
    response.del_cookie(_COOKIE, path="/")
