"""What the labelling page calls: the human queue's calls as JSON."""

from __future__ import annotations

import json
import string
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from isocost.client.attended import ATTENDED_LEASE_DURATION, answer_request_id
from isocost.core.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError, PermissionDeniedError
from isocost.resources.label import Label, one_hot
from isocost.resources.queue import LEASE_ITEMS_MAX, Lease
from isocost.resources.task import Item, Task
from isocost.web.visit import VISIT, Visit

__all__ = ["routes"]

routes = web.RouteTableDef()


@routes.post("/api/lease")
async def lease_items(request: web.Request) -> web.Response:
    """Leases items; `{"items": []}` where nothing waits."""
    visit, body = request[VISIT], await _body(request)
    n_items = body.get("n_items", 10)
    if not isinstance(n_items, int) or not 1 <= n_items <= LEASE_ITEMS_MAX:
        raise InvalidArgumentError("n_items", f"{n_items!r}; give a whole number from 1 to {LEASE_ITEMS_MAX:,}")
    leased = await visit.queue.lease_items(
        _text(body, "request_id"),
        _text(body, "campaign_id"),
        _text(body, "source_id"),
        visit.annotator,
        n_items,
        duration=ATTENDED_LEASE_DURATION,
    )
    if leased.lease is None or leased.task is None:
        return web.json_response({"items": []})
    return web.json_response({**_lease(leased.lease), "items": [_item(leased.task, item) for item in leased.items]})


@routes.post("/api/extend")
async def extend_lease(request: web.Request) -> web.Response:
    """A heartbeat."""
    visit, body = request[VISIT], await _body(request)
    lease = await visit.queue.extend_lease(_text(body, "request_id"), _text(body, "lease_id"))
    return web.json_response(_lease(lease))


@routes.post("/api/answers")
async def answer_items(request: web.Request) -> web.Response:
    """Stores answers, each by itself: one that is not wanted any more stops no other.

    With `"release": true` the leases of the answers, and `lease_id` where it is given, are then given back. Owners are
    told what the campaign has spent, where `campaign_id` names it.
    """
    visit, body = request[VISIT], await _body(request)
    answers = body.get("answers", [])
    if not isinstance(answers, list) or not all(isinstance(answer, dict) for answer in answers):
        raise InvalidArgumentError("answers", "not a list of objects; give lease_id, item_id and choice of each")
    n_choices = body.get("n_choices")
    if not isinstance(n_choices, int) or n_choices < 2:
        raise InvalidArgumentError("n_choices", f"{n_choices!r}; give how many choices the task has")
    results = [await _answer(visit, answer, n_choices) for answer in answers]
    if body.get("release") is True:
        lease_ids = {_text(answer, "lease_id") for answer in answers}
        if "lease_id" in body:
            lease_ids.add(_text(body, "lease_id"))
        for lease_id in sorted(lease_ids):
            await visit.queue.release_lease(f"{lease_id}:release", lease_id)
    found: dict[str, Any] = {"answers": results}
    if visit.is_owner and "campaign_id" in body:
        found["money"] = await _money(visit, _text(body, "campaign_id"))
    return web.json_response(found)


@routes.get("/api/standing")
async def standing(request: web.Request) -> web.Response:
    """What waits for the visitor; for owners also what it cost."""
    visit = request[VISIT]
    campaign_id, source_id = request.query.get("campaign_id", ""), request.query.get("source_id", "")
    found: dict[str, Any] = {
        "n_waiting": 0,
        "n_awaited": 0,
        **{
            name: getattr(queue, name)
            for queue in await visit.queue.list_queues(visit.annotator)
            if (queue.campaign_id, queue.source_id) == (campaign_id, source_id)
            for name in ("n_waiting", "n_awaited")
        },
    }
    if visit.is_owner:
        found["money"] = await _money(visit, campaign_id)
        prices = {source.source_id: source.unit_price for source in await visit.budget.list_sources(campaign_id)}
        if source_id in prices:
            found["unit_price"] = str(prices[source_id])
    return web.json_response(found)


async def _money(visit: Visit, campaign_id: str) -> str:
    balance = (await visit.budget.get_campaign(campaign_id)).balance
    return f"{balance.settled} of {balance.budget} spent"


async def _answer(visit: Visit, answer: Mapping[str, Any], n_choices: int) -> dict[str, Any]:
    lease_id, item_id, choice = _text(answer, "lease_id"), _text(answer, "item_id"), answer.get("choice")
    if not isinstance(choice, int) or not 0 <= choice < n_choices:
        raise InvalidArgumentError("choice", f"{choice!r}; give the index of one of the {n_choices} choices, from 0")
    request_id = answer_request_id(lease_id, item_id)
    try:
        stored = await visit.queue.answer_items(request_id, lease_id, [Label(item_id, one_hot(choice, n_choices))])
    except (FailedPreconditionError, InvalidArgumentError, NotFoundError, PermissionDeniedError) as error:
        # Sent again it would be refused again: the page is to forget it.
        return {"item_id": item_id, "n_accepted": 0, "refused": error.message}
    return {"item_id": item_id, "n_accepted": stored.n_accepted, "lease_state": stored.lease.state.name}


def _item(task: Task, item: Item) -> dict[str, Any]:
    """An item and its question: the template's own text, and what stands in its fields, apart."""
    parts: list[dict[str, str]] = []
    for text, name, _, _ in string.Formatter().parse(task.template):
        if text:
            parts.append({"text": text})
        if name is not None:
            parts.append({"field": name, "text": item.fields.get(name, "")})
    return {"item_id": item.item_id, "question": parts}


def _lease(lease: Lease) -> dict[str, Any]:
    return {"lease_id": lease.lease_id, "state": lease.state.name}


async def _body(request: web.Request) -> dict[str, Any]:
    """The JSON object of a request.

    Raises:
        InvalidArgumentError: where it is none.
    """
    try:
        body = await request.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        body = None
    if not isinstance(body, dict):
        raise InvalidArgumentError("body", "is not a JSON object")
    return body


def _text(body: Mapping[str, Any], name: str) -> str:
    """A text of a body.

    Raises:
        InvalidArgumentError: where it is missing, empty or no text.
    """
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise InvalidArgumentError(name, "missing, or not a text; give it")
    return value
