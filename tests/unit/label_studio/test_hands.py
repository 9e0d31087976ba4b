"""Leases: renewed while the sync runs, and leased anew after the longest time that there is."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

import pytest

from isocost.budget import clock
from isocost.label_studio.hands import LEASE_DURATION
from isocost.resources.queue import LeaseState
from tests.unit.label_studio.conftest import Desk

Advance = Callable[[timedelta], None]


@pytest.fixture
def advance(monkeypatch: pytest.MonkeyPatch) -> Advance:
    """Lets time pass for the budget service and for the sync."""
    passed = [timedelta(0)]
    now_us = clock.now_us
    monkeypatch.setattr(clock, "now_us", lambda: now_us() + clock.us_from_delta(passed[0]))
    monkeypatch.setattr("isocost.label_studio.hands.monotonic", lambda: time.monotonic() + passed[0].total_seconds())

    def go_on(delta: timedelta) -> None:
        passed[0] += delta

    return go_on


async def test_heartbeats_keep_a_lease_and_the_longest_time_ends_it(desk: Desk, advance: Advance) -> None:
    await desk.order(3)
    sync = desk.sync()
    await sync.run_once()
    tasks = set(desk.studio.tasks)
    for _ in range(40):
        advance(LEASE_DURATION * 0.5)
        await sync.run_once()
        (lease,) = await desk.budget.list_leases(desk.campaign_id)
        assert lease.state is LeaseState.OPEN
    for _ in range(20):
        advance(LEASE_DURATION * 0.5)
        await sync.run_once()
    ended, lease = await desk.budget.list_leases(desk.campaign_id)
    assert (ended.state, lease.state) == (LeaseState.EXPIRED, LeaseState.OPEN)
    # The same tasks, each with both leases; the answers come under the new one.
    assert set(desk.studio.tasks) == tasks
    assert {tuple(task["meta"]["lease_ids"]) for task in desk.tasks.values()} == {(ended.lease_id, lease.lease_id)}
    desk.studio.work(1, 3)
    assert (await sync.run_once()).n_paid == 3
    assert {each.label.lease_id async for each in desk.budget.labels(desk.campaign_id)} == {lease.lease_id}


async def test_items_of_a_sync_that_stays_away_are_free_and_its_answers_are_still_taken(
    desk: Desk, advance: Advance
) -> None:
    await desk.order(2)
    await desk.sync().run_once()
    advance(LEASE_DURATION * 2)
    desk.studio.work(1, 2)
    assert (await desk.sync().run_once()).n_paid == 2
    (lease,) = await desk.budget.list_leases(desk.campaign_id)
    assert (lease.state, lease.n_answered) == (LeaseState.EXPIRED, 2)
