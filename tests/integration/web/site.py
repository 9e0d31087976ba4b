"""The page and its budget service in this process, and a browser that opens it."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from isocost.budget.database import Database
from isocost.budget.service import BudgetService
from isocost.budget.settings import BudgetSettings
from isocost.budget.tokens import create_token, revoke_token
from isocost.client import BudgetClient, Campaign, Item, Money, Purpose, Source, SourceKind, Task
from isocost.core.caller import Role
from isocost.core.channel import ChannelSettings
from isocost.core.grpc_server import ServiceHost
from isocost.resources.label import LabelledItem
from isocost.resources.task import Item as PoolItem
from isocost.web.server import WebServer
from isocost.web.visit import BudgetAddress

#: How long a page may take, on a machine with other work; nothing waits so long where all is well.
_TIMEOUT_MS = 60_000
expect.set_options(timeout=_TIMEOUT_MS)

TASK = Task("reviews", "Review: {text}\nIs this review positive? Answer:", choices=(" no", " yes"))
PRICE = Money.parse("0.50")
#: Without the latter, Chromium looks for hosts beyond this machine by itself.
CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass
class Site:
    """A budget service and its page, which may be stopped and started again at the same address."""

    folder: Path
    require_tokens: bool
    url: str = ""
    address: str = ""
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _port: int = 0

    @property
    def database_url(self) -> str:
        return f"sqlite:///{self.folder}/budget.db"

    async def start(self) -> None:
        socket_path = self.folder / "budget.sock"
        socket_path.unlink(missing_ok=True)
        settings = BudgetSettings(
            database_url=self.database_url, require_tokens=self.require_tokens, token_cache_seconds=0.0
        )
        async with AsyncExitStack() as stack:
            host = ServiceHost(BudgetService(settings), "127.0.0.1:0", socket_path=socket_path)
            self.address = (await stack.enter_async_context(host)).address
            budget = BudgetAddress(f"unix:{socket_path}", ChannelSettings())
            page = await stack.enter_async_context(WebServer(f"127.0.0.1:{self._port}", budget))
            self.url = page.url
            self._port = int(page.url.rpartition(":")[2])
            self._stack = stack.pop_all()

    async def stop(self) -> None:
        await self._stack.aclose()

    def token(self, role: Role, name: str) -> tuple[str, str]:
        """Id and secret of a new token."""
        database = Database(self.database_url)
        try:
            with database.write() as connection:
                return create_token(connection, name, role, None)
        finally:
            database.close()

    def revoke(self, token_id: str) -> None:
        database = Database(self.database_url)
        try:
            with database.write() as connection:
                revoke_token(connection, token_id)
        finally:
            database.close()

    @asynccontextmanager
    async def owner(self) -> AsyncIterator[BudgetClient]:
        """A client that may do everything."""
        token = self.token(Role.ADMIN, "owner")[1] if self.require_tokens else ""
        async with BudgetClient(self.address, channel=ChannelSettings(token=token)) as budget:
            yield budget

    async def labels(self) -> list[LabelledItem]:
        async with self.owner() as budget:
            return [label async for label in budget.labels("c")]


async def create(
    budget: BudgetClient, *, task: Task = TASK, items: Sequence[Item] = (), n_labels: int = 0, overlap: int = 1
) -> None:
    """The campaign c with a weak and a human source, and an order of human labels where their number is given."""
    await budget.create_campaign("create", Campaign("c", task, budget=Money.parse("50"), strong_model="strong"))
    await budget.create_source("human", "c", Source("human", SourceKind.HUMAN, unit_price=PRICE))
    await budget.create_source("weak", "c", Source("weak", SourceKind.MODEL, unit_price=Money.parse("0.01"), model="m"))
    pool = items or [PoolItem(f"r{n:02}", {"text": f"It is number {n}."}) for n in range(60)]
    await budget.add_items("items", "c", pool)
    if n_labels:
        await budget.create_order("order", "c", "human", Purpose.TRAINING, n_labels, overlap=overlap)


def find_chromium() -> str:
    """The browser; skips where there is none, unless ISOCOST_TEST_CHROMIUM=required."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        reason = "Chromium is not installed (apt-get install chromium)"
        if os.environ.get("ISOCOST_TEST_CHROMIUM") == "required":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@dataclass
class Visitor:
    """Somebody's browser. What its pages complain about is kept, and so is every address that they ask."""

    site: Site
    context: BrowserContext
    complaints: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    async def open(self, path: str = "/") -> Page:
        """A new tab."""
        page = await self.context.new_page()
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        page.on("request", lambda request: self.asked.append(request.url))
        await page.goto(self.site.url + path)
        return page

    async def sign_in(self, path: str = "/", *, secret: str = "", name: str = "") -> Page:
        """A new tab, signed in."""
        page = await self.open(path)
        await page.fill("#secret" if secret else "#name", secret or name)
        await page.click("button.primary")
        await page.wait_for_url(self.site.url + path)
        return page


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=find_chromium(), args=list(CHROMIUM_FLAGS))
        try:
            yield chromium
        finally:
            await chromium.close()


async def visitor(site: Site, chromium: Browser, **options: Any) -> Visitor:
    context = await chromium.new_context(viewport={"width": 1200, "height": 900}, **options)
    context.set_default_timeout(_TIMEOUT_MS)
    return Visitor(site, context)
