"""Labelling in a real browser: keys, undo, what is held, crashes of either side. Each answer is paid once."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from playwright.async_api import Browser, Page, expect

from isocost.budget import clock
from isocost.budget.proof import verify_ledger
from isocost.client import Item, Money, Task
from isocost.core.caller import Role
from tests.integration.web.site import PRICE, Site, create, visitor


async def _item(page: Page) -> str:
    """The item that is asked."""
    await expect(page.locator("#asking")).to_be_visible()
    found = await page.locator("#question").get_attribute("data-item")
    assert found is not None
    return found


async def _press(page: Page, key: str) -> str:
    """Presses a key that ends an item; returns which, once the next is shown or nothing is left."""
    item_id = await _item(page)
    await page.keyboard.press(key)
    await page.wait_for_function(
        "item => document.getElementById('asking').hidden || document.getElementById('question').dataset.item !== item",
        arg=item_id,
    )
    return item_id


async def _given(site: Site) -> dict[tuple[str, str], int]:
    """Choices by item and annotator, each stored once, and each paid."""
    labels = await site.labels()
    given = {(one.label.item_id, one.label.annotator): one.label.choice for one in labels}
    assert len(given) == len(labels)
    (proof,) = verify_ledger(site.database_url)
    assert proof.settled == Money(len(labels) * PRICE.micros)
    return given


async def _until_given(site: Site, n_labels: int) -> dict[tuple[str, str], int]:
    async with asyncio.timeout(60):
        while len(await site.labels()) < n_labels:  # noqa: ASYNC110 - the browser sends on its own
            await asyncio.sleep(0.05)
    return await _given(site)


async def test_an_annotator_answers_by_keys_and_takes_one_back(site: Site, chromium: Browser) -> None:
    async with site.owner() as budget:
        await create(budget, n_labels=12)
    ann = await visitor(site, chromium)
    page = await ann.sign_in(secret=site.token(Role.ANNOTATOR, "ann")[1])
    await page.click("a.button.primary")
    first = await _press(page, "2")
    second = await _press(page, "n")
    skipped = await _press(page, "s")
    # The skip is taken back, but not what came before it: that is stored.
    await page.keyboard.press("u")
    assert await _item(page) == skipped
    await page.keyboard.press("u")
    await expect(page.locator("#notice")).to_contain_text("Nothing to undo")
    wrong = await _press(page, "y")
    assert wrong == skipped
    await page.keyboard.press("u")
    assert await _item(page) == wrong
    await page.keyboard.press("x")
    await page.click("#choices button >> nth=0")
    last = await _item(page)
    await page.keyboard.press("q")
    await expect(page.locator("#done-title")).to_have_text("Finished")
    assert await _given(site) == {(first, "ann"): 1, (second, "ann"): 0, (wrong, "ann"): 0}
    await expect(page.locator("#n-answered")).to_have_text("3")
    await expect(page.locator("#n-waiting")).to_have_text("9")
    # Nothing of money for annotators.
    assert await page.locator("#money").inner_text() == await page.locator("#earned").inner_text() == ""
    # What was given back waits again.
    await page.click("#again")
    rest = [await _press(page, "1") for _ in range(9)]
    assert last in rest
    await expect(page.locator("#done-title")).to_have_text("Nothing waits for you")
    await expect(page.locator("#done-text")).to_contain_text("Thank you")
    assert len(await _given(site)) == 12
    assert ann.complaints == []
    assert all(address.startswith(site.url) for address in ann.asked)


async def test_leaving_the_page_stores_what_is_held_and_gives_the_rest_back(open_site: Site, chromium: Browser) -> None:
    async with open_site.owner() as budget:
        await create(budget, n_labels=20)
    bob = await visitor(open_site, chromium)
    page = await bob.sign_in("/label/c/human", name="bob")
    done = [await _press(page, "1"), await _press(page, "2")]
    await page.reload()
    done.append(await _press(page, "2"))
    assert len(set(done)) == 3
    await page.goto(f"{open_site.url}/")
    given = await _until_given(open_site, 3)
    assert given == {(done[0], "bob"): 0, (done[1], "bob"): 1, (done[2], "bob"): 1}
    # Owners see what it cost, and nothing is in hand any more.
    await page.goto(f"{open_site.url}/campaigns/c")
    await expect(page.locator("#money")).to_contain_text("$1.50")
    await expect(page.locator("#people")).to_contain_text("Nobody has items in hand")


async def test_a_browser_that_dies_loses_nothing(open_site: Site, chromium: Browser) -> None:
    async with open_site.owner() as budget:
        await create(budget, n_labels=3)
    bob = await visitor(open_site, chromium)
    page = await bob.sign_in("/label/c/human", name="bob")
    # The page can send nothing from here on, as if its machine had lost power after the first answer.
    first = await _press(page, "2")
    await page.route("**/api/**", lambda route: route.abort())
    held = await _press(page, "2")
    await page.route("**/*", lambda route: route.abort())
    await page.close()
    assert await _given(open_site) in ({}, {(first, "bob"): 1})
    # Another annotator waits until the lease ends; the same browser gives it back, and sends what it kept.
    page = await bob.open("/label/c/human")
    await page.wait_for_selector("#asking:not([hidden])")
    given = await _until_given(open_site, 2)
    assert given == {(first, "bob"): 1, (held, "bob"): 1}
    await _press(page, "1")
    await expect(page.locator("#done-text")).to_contain_text("Thank you")
    assert len(await _given(open_site)) == 3


async def test_labelling_goes_on_while_the_service_is_away(open_site: Site, chromium: Browser) -> None:
    async with open_site.owner() as budget:
        await create(budget, n_labels=14)
    bob = await visitor(open_site, chromium)
    page = await bob.sign_in("/label/c/human", name="bob")
    await _press(page, "1")
    await open_site.stop()
    items = [await _press(page, "2") for _ in range(4)]
    await expect(page.locator("#notice")).to_contain_text("kept in this browser")
    await open_site.start()
    await expect(page.locator("#notice")).to_be_hidden()
    given = await _until_given(open_site, 4)
    assert [given[item_id, "bob"] for item_id in items[:3]] == [1, 1, 1]
    for _ in range(9):
        await _press(page, "1")
    await expect(page.locator("#done-text")).to_contain_text("Thank you")
    assert Counter((await _given(open_site)).values()) == {1: 4, 0: 10}


async def test_a_lease_that_ended_is_taken_anew(
    open_site: Site, chromium: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_site.owner() as budget:
        await create(budget, n_labels=4)
    bob = await visitor(open_site, chromium)
    page = await bob.sign_in("/label/c/human", name="bob")
    await _item(page)
    later_us = clock.now_us() + 121_000_000
    monkeypatch.setattr(clock, "now_us", lambda: later_us)
    ann = await visitor(open_site, chromium)
    other = await ann.sign_in("/label/c/human", name="ann")
    await _press(other, "1")
    # His answers come after the end of his lease, and she has all items.
    await _press(page, "2")
    await _press(page, "2")
    await expect(page.locator("#notice")).to_contain_text("not taken and not paid")
    given = await _given(open_site)
    assert all(annotator == "ann" for _, annotator in given)


async def test_one_tab_at_a_time(open_site: Site, chromium: Browser) -> None:
    async with open_site.owner() as budget:
        await create(budget, n_labels=4)
    bob = await visitor(open_site, chromium)
    page = await bob.sign_in("/label/c/human", name="bob")
    await _item(page)
    second = await bob.open("/label/c/human")
    await expect(second.locator("#notice")).to_contain_text("open in another tab")
    await page.close()
    await second.reload()
    await _item(second)


async def test_many_choices_are_answered_with_enter_and_texts_are_only_texts(
    open_site: Site, chromium: Browser
) -> None:
    task = Task("many", "<b>{title}</b>\n{text}", choices=tuple(f"choice {n} <i>" for n in range(12)))
    items = [Item("i1", {"title": "<script>document.title='owned'</script>", "text": "a\n  b & <img src=x onerror=1>"})]
    async with open_site.owner() as budget:
        await create(budget, task=task, items=items, n_labels=1)
    bob = await visitor(open_site, chromium)
    page = await bob.sign_in("/label/c/human", name="bob")
    await _item(page)
    shown = await page.locator("#question").inner_text()
    assert shown == "<b><script>document.title='owned'</script></b>\na\n  b & <img src=x onerror=1>"
    for key in ("1", "3", "Enter"):
        await page.keyboard.press(key)
    await expect(page.locator("#notice")).to_contain_text("no choice with this number")
    for key in ("1", "5", "Backspace", "2", "Enter"):
        await page.keyboard.press(key)
    await expect(page.locator("#done")).to_be_visible()
    assert await _given(open_site) == {("i1", "bob"): 11}
    assert bob.complaints == []


async def test_a_token_that_is_revoked_ends_the_session_and_keeps_the_answers(site: Site, chromium: Browser) -> None:
    async with site.owner() as budget:
        await create(budget, n_labels=5)
    token_id, secret = site.token(Role.ANNOTATOR, "ann")
    ann = await visitor(site, chromium)
    page = await ann.sign_in("/label/c/human", secret=secret)
    first = await _press(page, "2")
    site.revoke(token_id)
    await page.keyboard.press("2")
    await page.wait_for_url(f"{site.url}/sign-in?next=*")
    assert await _given(site) == {}
    await page.fill("#secret", site.token(Role.ANNOTATOR, "ann")[1])
    await page.keyboard.press("Enter")
    await _item(page)
    given = await _until_given(site, 1)
    assert given[first, "ann"] == 1
