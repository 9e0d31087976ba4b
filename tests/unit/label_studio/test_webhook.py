"""The webhook: one in the project, however often it is registered; only Label Studio's calls count."""

from __future__ import annotations

import aiohttp
import pytest

from isocost.core.errors import InvalidArgumentError
from isocost.label_studio.webhook import Webhook
from tests.unit.label_studio.conftest import Desk, Office


async def call(url: str, headers: dict[str, str]) -> int:
    async with aiohttp.ClientSession() as session, session.post(url, headers=headers, json={"action": "x"}) as response:
        return response.status


async def test_a_call_counts_with_the_secret_that_was_told_to_label_studio(desk: Desk) -> None:
    async with Webhook("c/human", "127.0.0.1:0") as webhook:
        await desk.sync(webhook=webhook).run_once()
        (told,) = desk.studio.webhooks.values()
        assert (told["url"], told["project"]) == (webhook.url, next(iter(desk.studio.projects)))
        assert await call(told["url"], {}) == 403
        assert await call(told["url"], {**told["headers"], "X-Isocost-Secret": "guessed"}) == 403
        assert not webhook.called.is_set()
        assert await call(told["url"], told["headers"]) == 204
        assert webhook.called.is_set()


async def test_the_webhook_of_an_earlier_process_is_changed_and_others_are_left_alone(office: Office) -> None:
    say: list[str] = []
    for mark, url in (("c/human", "http://old:1/"), ("c/other", "http://other:1/"), ("c/human", "http://new:2/")):
        async with Webhook(mark, "127.0.0.1:0", url) as webhook:
            await webhook.register(office.server, 1, say.append)
    (mine, other) = office.studio.webhooks.values()
    assert (mine["url"], other["url"]) == ("http://new:2/", "http://other:1/")
    # Registered twice, as where an answer was lost.
    office.studio.webhooks[99] = {**mine, "id": 99}
    async with Webhook("c/human", "127.0.0.1:0", "http://new:3/") as webhook:
        await webhook.register(office.server, 1, say.append)
    assert sorted(each["url"] for each in office.studio.webhooks.values()) == ["http://new:3/", "http://other:1/"]
    assert say == []


async def test_a_webhook_that_label_studio_refuses_is_said_and_done_without(desk: Desk) -> None:
    desk.studio.refuses_webhooks = True
    await desk.order(1)
    async with Webhook("c/human", "127.0.0.1:0") as webhook:
        assert (await desk.sync(webhook=webhook).run_once()).n_added == 1
    assert any("SSRF_PROTECTION_ENABLED=false" in line for line in desk.said)


@pytest.mark.parametrize("address", ["here", "127.0.0.1:", ":80", "127.0.0.1:99999"])
async def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(InvalidArgumentError, match="HOST:PORT"):
        Webhook("c/human", address)


async def test_an_address_that_is_taken_is_refused() -> None:
    async with Webhook("c/human", "127.0.0.1:0") as first:
        taken = first.url.removeprefix("http://").rstrip("/")
        with pytest.raises(InvalidArgumentError, match="cannot listen"):
            await Webhook("c/human", taken).__aenter__()
