"""What the page refuses, and the commands that serve it, in processes of their own."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from playwright.async_api import Browser, expect

from isocost.budget.database import Database
from isocost.budget.tokens import create_token
from isocost.client import BudgetClient, QueueClient
from isocost.core.caller import Role
from isocost.core.channel import ChannelSettings
from tests.authority import Authority
from tests.integration.client.served import environment
from tests.integration.web.site import Site, Visitor, create

JSON = {"Content-Type": "application/json"}


async def _call(site: Site, method: str, path: str, *, cookie: str = "", **options: Any) -> tuple[int, str, Any]:
    headers = {**options.pop("headers", {}), **({"Cookie": cookie} if cookie else {})}
    async with (
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
        session.request(method, site.url + path, headers=headers, allow_redirects=False, **options) as answer,
    ):
        return answer.status, await answer.text(), answer.headers.copy()


async def _cookie(site: Site, **form: str) -> str:
    status, _, headers = await _call(site, "POST", "/sign-in", data=form)
    assert status == 303
    (morsel,) = SimpleCookie(headers["Set-Cookie"]).values()
    assert morsel["httponly"]
    assert morsel["samesite"] == "Lax"
    return f"{morsel.key}={morsel.coded_value}"


async def test_nothing_is_shown_to_strangers(site: Site) -> None:
    async with site.owner() as budget:
        await create(budget, n_labels=2)
    for path in ("/", "/campaigns/c", "/label/c/human", "/campaigns/c/files/labels.csv"):
        for cookie in (
            "",
            "isocost=secret%3Aisocost_guess",
            "isocost=name%3Aann",
            "isocost=%C3%A9",
            "isocost=secret%3A%C3%A9",
        ):
            status, _, headers = await _call(site, "GET", path, cookie=cookie)
            assert status == 303
            assert headers["Location"].startswith("/sign-in?next=%2F")
    status, said, _ = await _call(site, "POST", "/api/lease", json={})
    assert status == 401
    assert json.loads(said)["error"]["message"]
    # Names are no sign-in where tokens are needed.
    status, said, _ = await _call(site, "POST", "/sign-in", data={"name": "ann"})
    assert status == 403
    assert "unknown, expired or revoked" in said


async def test_no_other_site_can_act_for_a_visitor(open_site: Site) -> None:
    async with open_site.owner() as budget:
        await create(budget, n_labels=2)
    cookie = await _cookie(open_site, name="ann")
    body = {"request_id": "r", "campaign_id": "c", "source_id": "human", "n_items": 1}
    for origin in ("https://evil.example", "null"):
        status, _, _ = await _call(
            open_site, "POST", "/api/lease", cookie=cookie, json=body, headers={"Origin": origin}
        )
        assert status == 403
    # A name of another site that leads here, as a browser may be made to believe.
    status, _, _ = await _call(open_site, "GET", "/", cookie=cookie, headers={"Host": "evil.example"})
    assert status == 403
    async with open_site.owner() as budget:
        assert await budget.list_leases("c") == []
    status, _, headers = await _call(open_site, "POST", "/api/lease", cookie=cookie, json=body)
    assert status == 200
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    # After the sign-in only pages of this site are opened.
    for following in ("https://evil.example/", "//evil.example", "/\\evil.example", "evil"):
        _, _, headers = await _call(open_site, "POST", "/sign-in", data={"name": "ann", "next": following})
        assert headers["Location"] == "/"


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/api/lease", [], "body"),
        ("/api/lease", {"campaign_id": "c", "source_id": "human"}, "request_id"),
        ("/api/lease", {"request_id": "r", "campaign_id": "c", "source_id": "human", "n_items": 0}, "n_items"),
        ("/api/lease", {"request_id": "r", "campaign_id": "c", "source_id": "weak"}, "source_id"),
        ("/api/answers", {"answers": {}, "n_choices": 2}, "answers"),
        ("/api/answers", {"answers": [{"lease_id": "l", "item_id": "i", "choice": 2}], "n_choices": 2}, "choice"),
        ("/api/answers", {"answers": []}, "n_choices"),
        ("/api/extend", {"request_id": "r"}, "lease_id"),
    ],
)
async def test_a_malformed_call_is_refused_by_name(open_site: Site, path: str, body: Any, field: str) -> None:
    async with open_site.owner() as budget:
        await create(budget, n_labels=2)
    status, said, _ = await _call(open_site, "POST", path, cookie=await _cookie(open_site, name="ann"), json=body)
    assert (status, json.loads(said)["error"]["field"]) == (400, field)


async def test_errors_are_pages(open_site: Site) -> None:
    cookie = await _cookie(open_site, name="ann")
    for path in ("/campaigns/none", "/nowhere", "/campaigns/none/files/labels.doc"):
        status, said, _ = await _call(open_site, "GET", path, cookie=cookie)
        assert status == 404
        assert "Not found" in said
    status, said, _ = await _call(open_site, "POST", "/sign-in", data={"name": "a\nb"})
    assert status == 403
    assert "printable characters" in said
    assert (await _call(open_site, "GET", "/healthz"))[:2] == (200, "ok\n")


@asynccontextmanager
async def _serving(*arguments: str, **changes: str) -> AsyncIterator[dict[str, str]]:
    """A command that serves; what it says it listens on, by the words before it. Ended by SIGTERM."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from isocost.cli.app import main; main()", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=environment(**changes),
    )
    assert process.stdout is not None
    try:
        found: dict[str, str] = {}
        async for line in process.stdout:
            words, _, where = line.decode().strip().rpartition(" ")
            found[words] = where
            if words == "the page is at":
                break
        assert "the page is at" in found, "the command ended before it served the page"
        yield found
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_the_budget_service_serves_it_with_its_certificate_and_tokens(tmp_path: Path, chromium: Browser) -> None:
    """With mTLS for gRPC: browsers show no certificate, and the page reaches the service all the same."""
    authority = Authority(tmp_path, "authority")
    certificate_path, key_path = authority.issue("server")
    client_certificate, client_key = authority.issue("client")
    database_url = f"sqlite:///{tmp_path}/budget.db"
    changes = {
        "ISOCOST_BUDGET_DATABASE_URL": database_url,
        "ISOCOST_BUDGET_REQUIRE_TOKENS": "true",
        "ISOCOST_BUDGET_WEB_ADDRESS": "127.0.0.1:0",
        "ISOCOST_SERVER_CERTIFICATE_PATH": str(certificate_path),
        "ISOCOST_SERVER_KEY_PATH": str(key_path),
        "ISOCOST_SERVER_CLIENT_CA_PATH": str(authority.path),
    }
    async with _serving("serve", "budget", "--port", "0", **changes) as found:
        url = found["the page is at"]
        assert url.startswith("https://127.0.0.1:")
        database = Database(database_url)
        with database.write() as connection:
            secrets = {role: create_token(connection, role.value, role, None)[1] for role in Role}
        database.close()
        channel = ChannelSettings(
            token=secrets[Role.PIPELINE],
            ca_path=authority.path,
            certificate_path=client_certificate,
            key_path=client_key,
        )
        async with BudgetClient(found["budget listens on"], channel=channel) as budget:
            await create(budget, n_labels=1)
            context = await chromium.new_context(ignore_https_errors=True)
            ann = Visitor(Site(tmp_path, require_tokens=True, url=url), context)
            page = await ann.sign_in("/label/c/human", secret=secrets[Role.ANNOTATOR])
            await expect(page.locator("#asking")).to_be_visible()
            await page.keyboard.press("2")
            await expect(page.locator("#done-text")).to_contain_text("Thank you")
            cookies = await context.cookies()
            assert [(cookie.get("secure"), cookie.get("httpOnly")) for cookie in cookies] == [(True, True)]
            labels = [one.label async for one in budget.labels("c")]
        assert [(label.annotator, label.choice) for label in labels] == [("annotator", 1)]


async def test_a_page_in_front_of_a_service_elsewhere(site: Site, chromium: Browser) -> None:
    async with site.owner() as budget:
        await create(budget, n_labels=3)
    async with _serving("web", "--address", site.address, "--port", "0") as found:
        context = await chromium.new_context()
        there = Visitor(Site(site.folder, require_tokens=True, url=found["the page is at"]), context)
        page = await there.sign_in(secret=site.token(Role.ANNOTATOR, "ann")[1])
        await expect(page.locator("section")).to_contain_text("3")


async def test_a_campaign_folder_is_labelled_in_the_browser(tmp_path: Path, chromium: Browser) -> None:
    from isocost.budget.service import BudgetService
    from isocost.budget.settings import BudgetSettings
    from isocost.core.grpc_server import ServiceHost

    (tmp_path / "state").mkdir()
    settings = BudgetSettings(database_url=f"sqlite:///{tmp_path}/state/budget.db")
    async with ServiceHost(BudgetService(settings), "127.0.0.1:0") as host, BudgetClient(host.address) as budget:
        await create(budget, n_labels=1)
        # Beside it, as `isocost run` may go on meanwhile.
        async with _serving("web", "--out", str(tmp_path), "--port", "0") as found:
            bob = Visitor(
                Site(tmp_path, require_tokens=False, url=found["the page is at"]), await chromium.new_context()
            )
            page = await bob.sign_in("/label/c/human", name="bob")
            await expect(page.locator("#asking")).to_be_visible()
            await page.keyboard.press("1")
            await expect(page.locator("#done-text")).to_contain_text("Thank you")
            labels = [one.label async for one in budget.labels("c")]
            assert [(label.annotator, label.choice) for label in labels] == [("bob", 0)]
            async with QueueClient(host.address) as queue:
                assert await queue.list_queues("bob") == []


@pytest.mark.parametrize(
    ("command", "web_address", "said"),
    [
        ("web", "", "--out: give either --out DIR or --address HOST:PORT"),
        ("web --out nowhere", "", "'nowhere' holds no campaign"),
        ("web --address 127.0.0.1:{port} --host 0.0.0.0", "", "--host: '0.0.0.0' is not loopback"),
        ("serve budget --port 0", "0.0.0.0:7611", "ISOCOST_BUDGET_WEB_ADDRESS: '0.0.0.0' is not loopback"),
        ("serve budget --port 0", "here", "ISOCOST_BUDGET_WEB_ADDRESS: 'here' is not HOST:PORT"),
        (
            "serve budget --port 0",
            "127.0.0.1:{port}",
            "ISOCOST_BUDGET_WEB_ADDRESS: 127.0.0.1:{port} cannot be listened on",
        ),
        ("web --address 127.0.0.1:{port} --port {port}", "", "--port: 127.0.0.1:{port} cannot be listened on"),
    ],
)
async def test_what_cannot_be_served_is_said(
    open_site: Site, tmp_path: Path, command: str, web_address: str, said: str
) -> None:
    port = open_site.address.rpartition(":")[2]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from isocost.cli.app import main; main()"),
        *command.format(port=port).split(),
        env=environment(
            ISOCOST_BUDGET_DATABASE_URL=f"sqlite:///{tmp_path}/b.db",
            ISOCOST_BUDGET_WEB_ADDRESS=web_address.format(port=port),
        ),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=tmp_path,
    )
    output, _ = await process.communicate()
    assert process.returncode == 2
    assert said.format(port=port) in " ".join(output.decode().split())
    assert "Traceback" not in output.decode()
