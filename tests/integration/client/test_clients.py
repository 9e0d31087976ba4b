"""Both clients against a real service: every call, with domain objects only."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from isocost.budget.proof import verify_ledger
from isocost.client import BudgetClient, QueueClient, SyncBudgetClient, SyncQueueClient
from isocost.core.errors import AlreadyExistsError, BudgetExceededError, NotFoundError, UnavailableError
from isocost.core.money import Money
from isocost.economics.interval import wilson_interval
from isocost.resources.campaign import CampaignState, EntryKind, OrderState, Sampling, Sharing
from isocost.resources.label import Label, Purpose, one_hot
from isocost.resources.observation import Evaluation, Observation
from isocost.resources.pool import ItemState
from isocost.resources.queue import LeaseState
from isocost.resources.task import Item
from tests.integration.client.running import HUMAN, WEAK, Running, campaign, items
from tests.unit.client.scripted import QUICK


def _observation() -> Observation:
    low, high = wilson_interval(0.75, 4)
    evaluation = Evaluation("evaluation", 4, 0.75, low, high, 0.5)
    return Observation("run", "weak_sft", 10, 0, 0, evaluation, weak_source_id="weak")


async def test_a_campaign_with_every_call(running: Running) -> None:
    async with BudgetClient(running.address) as budget, QueueClient(running.address) as queue:
        assert (await budget.create_campaign("r1", campaign())).state is CampaignState.ACTIVE
        assert [await budget.create_source(f"r2/{each.source_id}", "c", each) for each in (WEAK, HUMAN)] == [
            WEAK,
            HUMAN,
        ]
        assert await budget.list_sources("c") == [WEAK, HUMAN]
        pool = items(60)
        gold = [Item(f"g{number}", {"claim": f"known {number}"}, number % 2) for number in range(4)]
        added = await budget.add_items("r3", "c", [*pool, *gold, Item("bad", {"other": "x"})])
        assert (added.n_added, added.n_duplicate, added.n_errors) == (64, 0, 1)
        assert [(error.item_id, error.index) for error in added.errors] == [("bad", 64)]
        assert await budget.add_items("r3", "c", [*pool, *gold, Item("bad", {"other": "x"})]) == added
        again = await budget.add_items("r4", "c", pool)
        assert (again.n_added, again.n_duplicate) == (0, 60)

        # Orders by uncertainty, at random, of given items, with several annotators, with an end.
        assert await budget.score_items("r5", "c", {item.item_id: float(n) for n, item in enumerate(pool)}) == 60
        weak = await budget.create_order("r6", "c", "weak", Purpose.TRAINING, 10, sampling=Sampling.UNCERTAINTY)
        ordered = [item async for item in budget.order_items(weak.order_id)]
        assert {item.item_id for item in ordered} == {item.item_id for item in pool[50:]}
        rest = [item async for item in budget.order_items(weak.order_id, after_item_id=ordered[3].item_id)]
        assert rest == ordered[4:]
        labels = [Label(item.item_id, (0.125, 0.875), "model", "small@1", 11, 0.5) for item in ordered]
        submitted = await budget.submit_labels("r7", weak.order_id, labels)
        assert (submitted.n_accepted, submitted.order.state) == (10, OrderState.SETTLED)
        shared = await budget.create_order(
            "r8", "c", "human", Purpose.TRAINING, item_ids=[ordered[0].item_id], sharing=Sharing.SOURCES
        )
        assert (shared.sampling, shared.sharing, shared.n_labels) == (Sampling.GIVEN, Sharing.SOURCES, 1)
        overlapping = await budget.create_order(
            "r9", "c", "human", Purpose.EVALUATION, 8, overlap=2, time_to_live=timedelta(hours=1)
        )
        assert (overlapping.n_items, overlapping.overlap) == (4, 2)
        assert overlapping.create_time is not None
        assert overlapping.expire_time == overlapping.create_time + timedelta(hours=1)
        questions = await budget.create_order("r10", "c", "human", Purpose.GOLD_QUESTION, 4)
        open_order = await budget.create_order("r11", "c", "human", Purpose.TRAINING, 3)
        assert (await budget.cancel_order("r12", open_order.order_id)).state is OrderState.CANCELLED
        ids = [order.order_id for order in (weak, shared, overlapping, questions, open_order)]
        assert [order.order_id for order in await budget.list_orders("c")] == ids
        with pytest.raises(BudgetExceededError):
            await budget.create_order("r13", "c", "human", Purpose.TRAINING, 200, overlap=10)

        await _answer_everything(budget, queue)
        pool_now = [item async for item in budget.items("c")]
        assert await budget.list_items("c") == pool_now
        assert len(pool_now) == 64
        assert len(await budget.list_items("c", state=ItemState.GOLD_QUESTION)) == 4
        free = [item async for item in budget.items("c", state=ItemState.FREE, after_item_id=pool[5].item_id)]
        assert all(item.state is ItemState.FREE and item.item.item_id > pool[5].item_id for item in free)

        assert (await budget.record_observation("r20", "c", _observation())).cost == Money(10_000)
        assert [each.run_id for each in await budget.list_observations("c")] == ["run"]
        plan = await budget.plan("r21", "c", Money(100_000))
        assert await budget.list_plans("c") == [plan]
        assert [point.cost for point in await budget.get_frontier("c")] == [Money(10_000)]
        assert (await budget.finish_campaign("r22", "c")).state is CampaignState.FINISHED
        assert [each.campaign_id for each in await budget.list_campaigns()] == ["c"]
        audit = await budget.list_audit_entries("c")
        assert {"CreateCampaign", "AddItems", "CreateOrder", "LeaseItems", "AnswerItems"} <= {e.method for e in audit}
        assert len({entry.request_id for entry in audit}) == len(audit)
    (proof,) = verify_ledger(running.database_url)
    assert proof.reserved == Money(0)


async def _answer_everything(budget: BudgetClient, queue: QueueClient) -> None:
    """Two annotators answer all that waits; the second is wrong about one item, which is refunded."""
    for name in ("ann", "ben"):
        leased = await queue.lease_items(f"lease/{name}", "c", "human", name, 20, duration=timedelta(minutes=5))
        assert leased.lease is not None
        assert leased.task == campaign().task
        assert all(item.gold_choice is None for item in leased.items)
        async with queue.keep_lease(leased.lease):
            extended = await queue.extend_lease(f"extend/{name}", leased.lease.lease_id)
        assert extended.state is LeaseState.OPEN
        answers = [Label(item.item_id, one_hot(1, 2)) for item in leased.items]
        answered = await queue.answer_items(f"answer/{name}", leased.lease.lease_id, answers)
        assert (answered.n_accepted, answered.lease.state) == (len(answers), LeaseState.ANSWERED)
    nothing = await queue.lease_items("lease/nothing", "c", "human", "ann")
    assert nothing.lease is None
    leases = await budget.list_leases("c")
    assert [lease.annotator for lease in leases] == ["ann", "ben"]
    assert await budget.list_leases("c", annotator="ben") == leases[1:]
    report = await budget.get_agreement("c", "human")
    assert report.agreement.n_items == 4
    assert report.agreement.pairwise_agreement == 1
    assert [record.annotator for record in report.annotators] == ["ann", "ben"]
    consensus = [each async for each in budget.consensus("c", "human", purposes=[Purpose.EVALUATION])]
    assert [(each.n_labels, each.share_agreeing) for each in consensus] == [(2, 1.0)] * 4

    labels = [labelled.label async for labelled in budget.labels("c")]
    assert [label.sequence for label in labels] == list(range(1, len(labels) + 1))
    tail = [labelled.label async for labelled in budget.labels("c", after_sequence=10)]
    assert tail == labels[10:]
    by_weak = [labelled.label async for labelled in budget.labels("c", source_id="weak", purposes=[Purpose.TRAINING])]
    assert by_weak == labels[:10]
    entries = [entry async for entry in budget.ledger("c")]
    assert [entry.sequence for entry in entries] == list(range(1, len(entries) + 1))
    assert [entry async for entry in budget.ledger("c", after_sequence=5)] == entries[5:]
    paid = next(entry for entry in reversed(entries) if entry.kind is EntryKind.SETTLE)
    before = (await budget.get_campaign("c")).balance
    corrected = await budget.create_correction("refund", "c", paid.sequence, Money(-paid.amount.micros), "spam")
    assert corrected.entry.corrects_sequence == paid.sequence
    assert corrected.balance.settled == Money(before.settled.micros - paid.amount.micros)


async def test_a_lease_that_is_given_back_waits_for_others(running: Running) -> None:
    await running.create()
    async with BudgetClient(running.address) as budget, QueueClient(running.address) as queue:
        await budget.create_order("o", "c", "human", Purpose.TRAINING, 3)
        leased = await queue.lease_items("l1", "c", "human", "ann")
        assert leased.lease is not None
        released = await queue.release_lease("back", leased.lease.lease_id)
        assert released.state is LeaseState.RELEASED
        other = await queue.lease_items("l2", "c", "human", "ben")
        assert {item.item_id for item in other.items} == {item.item_id for item in leased.items}


def _sync_pipeline(address: str) -> int:
    with SyncBudgetClient(address) as budget, SyncQueueClient(address) as queue:
        budget.create_campaign("r1", campaign())
        for source in (WEAK, HUMAN):
            budget.create_source(source.source_id, "c", source)
        pool = items(1_200)
        added = budget.add_items("r2", "c", iter(pool))
        assert (added.n_added, added.n_errors) == (1_200, 0)
        order = budget.create_order("r3", "c", "weak", Purpose.TRAINING, 30)
        ordered = list(budget.order_items(order.order_id))
        budget.submit_labels("r4", order.order_id, [Label(item.item_id, (0.5, 0.5)) for item in ordered])
        budget.create_order("r5", "c", "human", Purpose.TRAINING, 2)
        leased = queue.lease_items("r6", "c", "human", "ann")
        assert leased.lease is not None
        with queue.keep_lease(leased.lease, every=timedelta(milliseconds=5)) as kept:
            answers = [Label(item.item_id, one_hot(0, 2)) for item in leased.items]
            queue.answer_items("r7", leased.lease.lease_id, answers)
        # A heartbeat that comes after the last answer finds the lease ended.
        assert kept.error is None or "ANSWERED" in str(kept.error)
        with pytest.raises(AlreadyExistsError):
            budget.create_order("r3", "c", "weak", Purpose.TRAINING, 31)
        assert len(list(budget.labels("c"))) == 32
        assert [entry.sequence for entry in budget.ledger("c")] == list(range(1, 35))
        assert len(budget.list_items("c")) == 1_200
        return budget.get_campaign("c").balance.settled.micros


async def test_a_pipeline_without_asyncio(running: Running) -> None:
    assert await asyncio.to_thread(_sync_pipeline, running.address) == 30 * 1_000 + 2 * 100_000
    verify_ledger(running.database_url)


async def test_a_stream_that_the_service_refuses_raises_its_reason(running: Running) -> None:
    """The refusal comes while the client is still sending."""
    async with BudgetClient(running.address) as budget:
        for attempt in range(5):
            with pytest.raises(NotFoundError, match="nowhere"):
                await budget.add_items(f"r{attempt}", "nowhere", items(8_000))


async def test_a_server_that_is_away_is_a_clear_error() -> None:
    async with BudgetClient("127.0.0.1:1", retry=QUICK) as budget:
        with pytest.raises(UnavailableError, match="attempt 4 of 4"):
            await budget.list_campaigns()
