"""Requests to Label Studio: both kinds of key, and what each failure is called."""

from __future__ import annotations

import pytest
from aiohttp import web

from isocost.core.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    IsocostError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
)
from isocost.label_studio.server import API_KEY_FIELD, URL_FIELD, LabelStudioServer
from tests.unit.label_studio.fake_studio import serving

PERSONAL = "header.payload.signature"


async def test_a_personal_token_is_exchanged_and_again_when_its_access_has_ended() -> None:
    valid = {"token": ""}
    refreshed: list[object] = []

    async def refresh(request: web.Request) -> web.Response:
        refreshed.append(await request.json())
        valid["token"] = f"access {len(refreshed)}"
        return web.json_response({"access": valid["token"]})

    async def look(request: web.Request) -> web.Response:
        good = request.headers["Authorization"] == f"Bearer {valid['token']}"
        return web.json_response({"good": good}, status=200 if good else 401)

    app = web.Application()
    app.router.add_post("/api/token/refresh/", refresh)
    app.router.add_get("/api/look", look)
    async with serving(app) as url, LabelStudioServer(url + "/", PERSONAL) as server:
        assert await server.get("/api/look") == {"good": True}
        assert await server.get("/api/look") == {"good": True}
        assert refreshed == [{"refresh": PERSONAL}]
        valid["token"] = "another"
        assert await server.get("/api/look") == {"good": True}
        assert len(refreshed) == 2


@pytest.mark.parametrize(
    ("status", "body", "kind", "field"),
    [
        (401, {"detail": "Invalid token."}, UnauthenticatedError, API_KEY_FIELD),
        (403, {"detail": "no"}, PermissionDeniedError, API_KEY_FIELD),
        (404, {"detail": "No Project"}, NotFoundError, URL_FIELD),
        (404, "<html>", InvalidArgumentError, URL_FIELD),
        (200, "<html>", InvalidArgumentError, URL_FIELD),
        (302, "", InvalidArgumentError, URL_FIELD),
        (400, {"validation_errors": {"title": ["too long"]}}, FailedPreconditionError, ""),
        (500, {"detail": "database is locked"}, UnavailableError, URL_FIELD),
        (502, "<html>", UnavailableError, URL_FIELD),
        (429, {}, UnavailableError, URL_FIELD),
    ],
)
async def test_each_failure_has_its_name(status: int, body: object, kind: type[IsocostError], field: str) -> None:
    async def answer(request: web.Request) -> web.Response:
        if isinstance(body, str):
            return web.Response(status=status, text=body, content_type="text/html", headers={"Location": "/login"})
        return web.json_response(body, status=status)

    app = web.Application()
    app.router.add_get("/api/look", answer)
    async with serving(app) as url, LabelStudioServer(url, "legacy") as server:
        with pytest.raises(kind) as raised:
            await server.get("/api/look")
    assert raised.value.field == field


async def test_nobody_there_is_unavailable() -> None:
    async with serving(web.Application()) as url:
        pass
    async with LabelStudioServer(url, "legacy") as server:
        with pytest.raises(UnavailableError, match="does not answer"):
            await server.get("/api/look")


async def test_what_is_gone_is_deleted() -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"detail": "gone"}, status=404)

    app = web.Application()
    app.router.add_delete("/api/tasks/1/", answer)
    async with serving(app) as url, LabelStudioServer(url, "legacy") as server:
        await server.delete("/api/tasks/1/")


@pytest.mark.parametrize(("url", "key", "field"), [("here", "k", URL_FIELD), ("http://h", "", API_KEY_FIELD)])
async def test_what_is_missing_is_named(url: str, key: str, field: str) -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        LabelStudioServer(url, key)
    assert raised.value.field == field
