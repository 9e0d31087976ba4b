"""The pages: sign-in, what there is to do, labelling, a campaign, its ledger, and files to take away."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any, Final

import jinja2
from aiohttp import web

from isocost.client.campaign_export import ExportKind, export_campaign
from isocost.client.table_file import CSV_SUFFIX, SUFFIXES
from isocost.core.errors import (
    InvalidArgumentError,
    IsocostError,
    NotFoundError,
    UnauthenticatedError,
    UnavailableError,
)
from isocost.report.page import page_environment
from isocost.resources.task import SourceKind
from isocost.tasks.choice_keys import ChoiceKeys
from isocost.web.dashboard import LEDGER_ROWS, Evidences, ledger_rows, read_dashboard
from isocost.web.visit import BUDGET, VISIT, forget, remember, requires_tokens, visit

__all__ = ["EVIDENCES", "TEMPLATES", "render", "routes", "see_other", "templates"]

#: The templates of an application, and what it remembers of campaigns.
TEMPLATES = web.AppKey("templates", jinja2.Environment)
EVIDENCES = web.AppKey("evidences", Evidences)
#: What can be taken away.
_EXPORTS: Final = tuple(kind for kind in ExportKind if kind is not ExportKind.AUDIT)
_SUFFIXES: Final = (CSV_SUFFIX, *SUFFIXES)

routes = web.RouteTableDef()


def templates() -> jinja2.Environment:
    """The page's templates, and those of the report that they include."""
    environment = page_environment()
    assert environment.loader is not None
    environment.loader = jinja2.ChoiceLoader([jinja2.PackageLoader("isocost.web", "templates"), environment.loader])
    environment.filters["words"] = lambda member: str(member.name).lower().replace("_", " ")
    environment.filters["when"] = lambda time: "" if time is None else f"{time:%Y-%m-%d %H:%M:%S} UTC"
    return environment


def render(request: web.Request, name: str, *, status: int = 200, **values: Any) -> web.Response:
    """A page; 304 where the browser has it already."""
    template = request.app[TEMPLATES].get_template(name)
    text = template.render(visit=request.get(VISIT), status=status, **values)
    tag = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    if status == 200 and any(known.value == tag for known in request.if_none_match or ()):
        return web.Response(status=304, headers={"ETag": f'"{tag}"'})
    return web.Response(text=text, status=status, content_type="text/html", headers={"ETag": f'"{tag}"'})


def see_other(path: str) -> web.Response:
    """Sends the browser to another page."""
    return web.Response(status=303, headers={"Location": path})


@routes.get("/healthz")
async def health(_: web.Request) -> web.Response:
    """Whether the page is served; the budget service has a health check of its own."""
    return web.Response(text="ok\n")


@routes.get("/sign-in")
async def ask_sign_in(request: web.Request) -> web.Response:
    """The form."""
    return await _sign_in_page(request)


@routes.post("/sign-in")
async def sign_in(request: web.Request) -> web.StreamResponse:
    """Checks a token, or takes a name where the budget service asks for no tokens."""
    form = await request.post()
    given = {name: str(form.get(name, "")).strip() for name in ("secret", "name")}
    try:
        async with visit(request.app[BUDGET], **given) as visitor:
            response = see_other(_own_path(str(form.get("next", ""))))
            remember(request, response, visitor)
            return response
    except UnauthenticatedError:
        return await _sign_in_page(
            request, problem="This token is unknown, expired or revoked. Ask whoever gave it to you for a new one."
        )
    except InvalidArgumentError as error:
        return await _sign_in_page(request, problem=f"{error.message[0].upper()}{error.message[1:]}.")


@routes.post("/sign-out")
async def sign_out(_: web.Request) -> web.StreamResponse:
    """Makes the browser forget the token."""
    response = see_other("/sign-in")
    forget(response)
    return response


@routes.get("/")
async def home(request: web.Request) -> web.Response:
    """What waits for the visitor, and for owners the campaigns."""
    visitor = request[VISIT]
    queues = await visitor.queue.list_queues(visitor.annotator)
    campaigns = await visitor.budget.list_campaigns() if visitor.is_owner else []
    statuses = [await visitor.budget.get_campaign(campaign.campaign_id) for campaign in campaigns[::-1]]
    return render(request, "home.html.j2", queues=queues, statuses=statuses)


@routes.get("/label/{campaign_id}/{source_id}")
async def label(request: web.Request) -> web.Response:
    """The labelling page."""
    visitor = request[VISIT]
    campaign_id, source_id = request.match_info["campaign_id"], request.match_info["source_id"]
    queues = {
        (queue.campaign_id, queue.source_id): queue for queue in await visitor.queue.list_queues(visitor.annotator)
    }
    queue = queues.get((campaign_id, source_id))
    if queue is None:
        return render(request, "nothing.html.j2", campaign_id=campaign_id, source_id=source_id)
    keys = ChoiceKeys(queue.task.choices)
    return render(request, "label.html.j2", queue=queue, letters=keys.letters, needs_enter=keys.needs_enter)


@routes.get("/campaigns/{campaign_id}")
async def campaign(request: web.Request) -> web.Response:
    """A campaign as it is now; the page asks for it again every few seconds."""
    found = await read_dashboard(request[VISIT].budget, request.match_info["campaign_id"], request.app[EVIDENCES])
    return render(
        request,
        "campaign.html.j2",
        dashboard=found,
        campaign=found.status.campaign,
        balance=found.status.balance,
        is_human={source.source_id: source.kind is SourceKind.HUMAN for source in found.sources},
        **(found.parts or {}),
    )


@routes.get("/campaigns/{campaign_id}/ledger")
async def ledger(request: web.Request) -> web.Response:
    """The ledger, newest entries first, page by page."""
    budget, campaign_id = request[VISIT].budget, request.match_info["campaign_id"]
    status = await budget.get_campaign(campaign_id)
    before = _sequence(request.query.get("before", ""), status.n_entries + 1)
    return render(
        request,
        "ledger.html.j2",
        campaign=status.campaign,
        balance=status.balance,
        n_entries=status.n_entries,
        entries=await ledger_rows(budget, campaign_id, before, LEDGER_ROWS),
        newer=min(before + LEDGER_ROWS, status.n_entries + 1) if before <= status.n_entries else None,
        older=before - LEDGER_ROWS if before > LEDGER_ROWS + 1 else None,
    )


@routes.get("/campaigns/{campaign_id}/agreement/{source_id}")
async def agreement(request: web.Request) -> web.Response:
    """How well a source's annotators agree."""
    budget, campaign_id = request[VISIT].budget, request.match_info["campaign_id"]
    source_id = request.match_info["source_id"]
    status = await budget.get_campaign(campaign_id)
    found = await budget.get_agreement(campaign_id, source_id)
    return render(request, "agreement.html.j2", campaign=status.campaign, source_id=source_id, found=found)


@routes.get("/campaigns/{campaign_id}/files/{name}")
async def take_away(request: web.Request) -> web.StreamResponse:
    """A table as a file: `labels.csv`, `ledger.parquet`, `items.jsonl` and so on."""
    budget, campaign_id, name = request[VISIT].budget, request.match_info["campaign_id"], request.match_info["name"]
    kind, suffix = Path(name).stem, Path(name).suffix
    if kind not in _EXPORTS or suffix not in _SUFFIXES:
        raise NotFoundError(
            f"there is no file {name!r}; take one of {', '.join(_EXPORTS)}, as {' or '.join(_SUFFIXES)}"
        )
    await budget.get_campaign(campaign_id)
    with tempfile.TemporaryDirectory(prefix="isocost-") as folder:
        path = Path(folder) / name
        await export_campaign(budget, ExportKind(kind), campaign_id, request.query.get("source_id", ""), path)
        response = web.StreamResponse(
            headers={
                "Content-Disposition": f'attachment; filename="{name}"',
                "Content-Type": "application/octet-stream",
                "Content-Length": str(path.stat().st_size),
            }
        )
        await response.prepare(request)
        with path.open("rb") as file:
            while block := file.read(1 << 18):
                await response.write(block)
    await response.write_eof()
    return response


async def _sign_in_page(request: web.Request, *, problem: str = "") -> web.Response:
    try:
        needs_token = await requires_tokens(request.app[BUDGET])
    except UnavailableError as error:
        needs_token, problem = True, f"The budget service is away: {error.message}"
    except IsocostError as error:
        needs_token, problem = True, error.message
    following = _own_path(request.query.get("next", "/"))
    return render(
        request,
        "sign_in.html.j2",
        status=403 if problem else 200,
        needs_token=needs_token,
        problem=problem,
        following=following,
    )


def _own_path(path: str) -> str:
    """The path, where it is one of this site; else the home page."""
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) else "/"


def _sequence(text: str, newest: int) -> int:
    """A place in the ledger, from 1 to one above its newest entry.

    Raises:
        InvalidArgumentError: where it is no number.
    """
    if not text:
        return newest
    if not (text.isascii() and text.isdigit()):
        raise InvalidArgumentError("before", f"{text!r} is not a sequence of the ledger; give a whole number")
    return min(max(int(text), 1), newest)
