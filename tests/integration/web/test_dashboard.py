"""The owner's pages in a real browser: a campaign as it changes, its ledger, its people, its files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
from playwright.async_api import Browser, expect

from isocost.client import BudgetClient, Label, Purpose, one_hot
from isocost.core.caller import Role
from isocost.core.money import Money
from isocost.economics.interval import wilson_interval
from isocost.resources.observation import Evaluation, Observation
from isocost.resources.plan import Decision
from tests.integration.web.site import Site, create, visitor


async def _submit(budget: BudgetClient, order_id: str, annotator: str = "", n_labels: int | None = None) -> None:
    items = [item.item_id async for item in budget.order_items(order_id)][:n_labels]
    labels = [Label(item_id, one_hot(n % 2, 2), annotator=annotator) for n, item_id in enumerate(items)]
    await budget.submit_labels(f"labels of {order_id} by {annotator}", order_id, labels)


async def _observe(budget: BudgetClient, run_id: str, n_weak: int, n_human: int, n_right: int) -> None:
    evaluation = Evaluation("evaluation", 100, n_right / 100, *wilson_interval(n_right / 100, 100), 0.5)
    await budget.record_observation(
        run_id,
        "c",
        Observation(
            run_id,
            "sequential_sft",
            n_weak,
            n_human,
            0,
            evaluation,
            weak_source_id="weak" if n_weak else "",
            human_source_id="human" if n_human else "",
        ),
    )


async def test_an_owner_sees_the_campaign_change_without_reloading(site: Site, chromium: Browser) -> None:
    owner = await visitor(site, chromium)
    async with site.owner() as budget:
        await create(budget)
        page = await owner.sign_in("/campaigns/c", secret=site.token(Role.PIPELINE, "nightly")[1])
        await expect(page.locator("#live")).to_have_text("live")
        await expect(page.locator("#frontier")).to_contain_text("appear here with the first run")
        await expect(page.locator("#ledger")).to_contain_text("The ledger is empty")

        weak = await budget.create_order("weak labels", "c", "weak", Purpose.TRAINING, 20)
        human = await budget.create_order("human labels", "c", "human", Purpose.TRAINING, 10)
        await expect(page.locator("#money")).to_contain_text("$5.20")
        await expect(page.locator("#orders")).to_contain_text("training")
        await _submit(budget, weak.order_id)
        await _submit(budget, human.order_id, "ann")
        await expect(page.locator("#ledger")).to_contain_text("settled $5.20, reserved $0.00")

        await _observe(budget, "run_1", 20, 0, 60)
        await expect(page.locator("#frontier svg")).to_be_visible()
        await expect(page.locator("#frontier table")).to_contain_text("60.0 %")
        await _observe(budget, "run_2", 20, 10, 80)
        await expect(page.locator("#frontier table")).to_contain_text("80.0 %")
        await expect(page.locator("#money")).to_contain_text("80.0 %")

        plan = await budget.plan("plan 1", "c")
        await expect(page.locator("#plans ol.plans li")).to_contain_text(plan.reason)
        if plan.explanation is not None and plan.explanation.line:
            details = page.locator("#plans details")
            await details.locator("summary").click()
            second = await budget.plan("plan 2", "c")
            await expect(page.locator("#plans ol.plans li")).to_have_count(2)
            assert second.decision in Decision
            # What somebody has opened stays open.
            await expect(details).to_have_attribute("open", "")
        await site.stop()
        await expect(page.locator("#live")).to_contain_text("not up to date")
        await site.start()
        await expect(page.locator("#live")).to_have_text("live")
    assert all(address.startswith(site.url) for address in owner.asked)


async def test_the_ledger_in_pages_people_and_files(site: Site, chromium: Browser, tmp_path: Path) -> None:
    async with site.owner() as budget:
        await create(budget)
        order = await budget.create_order("overlap", "c", "human", Purpose.TRAINING, 70, overlap=2)
        for annotator in ("ann", "bob"):
            await _submit(budget, order.order_id, annotator)
        await budget.create_correction("refund", "c", 2, Money(-100_000), "useless")
        n_entries = (await budget.get_campaign("c")).n_entries
    owner = await visitor(site, chromium)
    page = await owner.sign_in("/campaigns/c/ledger", secret=site.token(Role.PIPELINE, "nightly")[1])
    numbers: list[int] = []
    while True:
        cells = await page.locator("section td:first-child").all_inner_texts()
        numbers.extend(map(int, cells))
        if not await page.get_by_role("link", name="Older").count():
            break
        await page.get_by_role("link", name="Older").click()
    assert numbers == list(range(n_entries, 0, -1))
    await page.goto(f"{site.url}/campaigns/c/ledger?before=soon")
    await expect(page.get_by_role("alert")).to_contain_text("before: 'soon' is not a sequence of the ledger")

    await page.goto(f"{site.url}/campaigns/c")
    await expect(page.locator("#ledger")).to_contain_text("useless (corrects no. 2)")
    await page.click("text=how well they agree")
    await expect(page.locator("main")).to_contain_text("100.0 %")
    assert await page.locator("section td:first-child").all_inner_texts() == ["ann", "bob"]

    await page.goto(f"{site.url}/campaigns/c")
    for kind, n_rows in {"labels": 70, "items": 60, "orders": 1, "ledger": n_entries}.items():
        readers: dict[str, Callable[[Path], pl.DataFrame]] = {
            "csv": pl.read_csv,
            "jsonl": pl.read_ndjson,
            "parquet": pl.read_parquet,
        }
        for suffix, read in readers.items():
            async with page.expect_download() as download:
                await page.get_by_role("link", name=f"{kind}.{suffix}", exact=True).click()
            path = tmp_path / f"{kind}.{suffix}"
            await (await download.value).save_as(path)
            assert read(path).height == n_rows


async def test_an_annotator_sees_queues_and_nothing_else(site: Site, chromium: Browser) -> None:
    async with site.owner() as budget:
        await create(budget, n_labels=7)
    ann = await visitor(site, chromium)
    page = await ann.sign_in(secret=site.token(Role.ANNOTATOR, "ann")[1])
    assert "7" in await page.locator("section").inner_text()
    assert not await page.get_by_role("heading", name="Campaigns").count()
    for path in (
        "/campaigns/c",
        "/campaigns/c/ledger",
        "/campaigns/c/files/labels.csv",
        "/campaigns/c/agreement/human",
    ):
        await page.goto(site.url + path)
        await expect(page.get_by_role("heading", name="Not allowed")).to_be_visible()
        assert "$" not in await page.locator("main").inner_text()
    await page.get_by_role("button", name="Sign out").click()
    await page.goto(f"{site.url}/")
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    await page.fill("#secret", "isocost_" + "x" * 43)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("unknown, expired or revoked")
