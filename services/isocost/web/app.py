"""The application: routes, and what every request goes through."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from isocost.core.channel import is_loopback
from isocost.core.errors import (
    AlreadyExistsError,
    BudgetExceededError,
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    IsocostError,
    LimitExceededError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
)
from isocost.web import labelling, pages
from isocost.web.dashboard import Evidences
from isocost.web.visit import BUDGET, VISIT, BudgetAddress, forget, remembered, visit

__all__ = ["make_app"]

_log = structlog.get_logger(__name__)
#: The largest request: some hundred answers.
_REQUEST_BYTES_MAX = 1 << 20
_PUBLIC = ("/sign-in", "/sign-out", "/healthz", "/static/")
_STATUS: dict[type[IsocostError], int] = {
    InvalidArgumentError: 400,
    UnauthenticatedError: 401,
    PermissionDeniedError: 403,
    NotFoundError: 404,
    AlreadyExistsError: 409,
    FailedPreconditionError: 409,
    BudgetExceededError: 409,
    LimitExceededError: 429,
    UnavailableError: 503,
    DeadlineExceededError: 503,
}
_HEADERS = {
    # No script but our own files, nothing from elsewhere, and no other site may show the page in a frame. Styles may be
    # inline, as the charts have theirs.
    "Content-Security-Policy": (
        "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'; "
        "form-action 'self'; base-uri 'none'; object-src 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # With a stricter one browsers would not say where a form was sent from.
    "Referrer-Policy": "same-origin",
    # The browser asks each time whether its copy is still right: the pages show money.
    "Cache-Control": "private, no-cache",
}


def make_app(budget: BudgetAddress, *, loopback_only: bool) -> web.Application:
    """The page's application.

    Args:
        budget: The budget service whose campaigns are shown.
        loopback_only: Whether only this machine's own names are answered, so that no site that a browser visits can
            reach the page under a name of its own.
    """
    app = web.Application(
        client_max_size=_REQUEST_BYTES_MAX, middlewares=[_answer_errors, _own_site(loopback_only), _signed_in]
    )
    app[BUDGET] = budget
    app[pages.TEMPLATES] = pages.templates()
    app[pages.EVIDENCES] = Evidences()
    app.add_routes(pages.routes)
    app.add_routes(labelling.routes)
    app.router.add_static("/static", Path(str(resources.files("isocost.web") / "static")))
    app.on_response_prepare.append(_set_headers)
    return app


async def _set_headers(_: web.Request, response: web.StreamResponse) -> None:
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)


@web.middleware
async def _answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors as JSON for the page's scripts, as a page for people; the sign-in page where nobody is signed in."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return _error(request, error.status, error.reason, field="")
    except UnauthenticatedError as error:
        if _is_api(request):
            return _error(request, 401, error.message, field=error.field)
        response = pages.see_other(f"/sign-in?next={quote(request.path_qs, safe='')}")
        forget(response)
        return response
    except IsocostError as error:
        return _error(request, _STATUS.get(type(error), 500), error.message, field=error.field)
    except Exception as error:  # noqa: BLE001 - a page for people, whatever happened; the log has the rest
        _log.exception("page_failed", path=request.path, error=type(error).__name__)
        return _error(request, 500, "the page could not be made; the server's log says why", field="")


def _error(request: web.Request, status: int, message: str, *, field: str) -> web.Response:
    if _is_api(request):
        content: dict[str, Any] = {"error": {"status": status, "field": field, "message": message}}
        return web.json_response(content, status=status)
    return pages.render(request, "error.html.j2", status=status, message=message, field=field)


def _is_api(request: web.Request) -> bool:
    return request.path.startswith("/api/")


def _own_site(loopback_only: bool) -> Any:
    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuses what other sites make a browser send."""
        host = urlsplit(f"//{request.host}").hostname or ""
        if loopback_only and not is_loopback(host):
            raise web.HTTPForbidden(reason=f"{host} is not a name of this machine's loopback")
        origin = request.headers.get(hdrs.ORIGIN)
        if request.method not in ("GET", "HEAD") and origin is not None and urlsplit(origin).netloc != request.host:
            raise web.HTTPForbidden(reason="The request comes from another site")
        return await handler(request)

    return check


@web.middleware
async def _signed_in(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Puts the visit into the request; raises `UnauthenticatedError` where nobody is signed in."""
    if request.path.startswith(_PUBLIC):
        return await handler(request)
    known = remembered(request)
    if not known:
        raise UnauthenticatedError("nobody is signed in; sign in first")
    try:
        async with visit(request.app[BUDGET], **known) as visitor:
            request[VISIT] = visitor
            return await handler(request)
    except InvalidArgumentError as error:
        if error.field == "name" and VISIT not in request:
            raise UnauthenticatedError("nobody is signed in; sign in first") from None
        raise
