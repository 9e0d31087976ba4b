"""Metered sources, orders for the items of another order, and plans for named sources, over gRPC."""

from __future__ import annotations

from typing import Any

from isocost.budget.proof import verify_ledger
from isocost.client.budget import BudgetClient
from isocost.core.money import Money
from isocost.economics.interval import wilson_interval
from isocost.resources.campaign import EntryKind, OrderState, Sampling, Sharing
from isocost.resources.label import Label, Purpose
from isocost.resources.observation import Evaluation, Observation
from isocost.resources.task import Source, SourceKind


async def test_a_weak_source_is_measured_against_human_labels_and_bought_from(rig: Any) -> None:
    await rig.create(n_items=200)
    metered = Source("metered", SourceKind.MODEL, Money(1_000), "small", Money(1_500_000))
    async with BudgetClient(rig.address) as budget:
        assert await budget.create_source("source", "c", metered) == metered
        assert (await budget.list_sources("c"))[-1] == metered

        human = await budget.create_order("human", "c", "human", Purpose.EVALUATION, 3)
        items = [item.item_id async for item in budget.order_items(human.order_id)]
        await budget.submit_labels("human/labels", human.order_id, [Label(item_id, (0.0, 1.0)) for item_id in items])
        measured = await budget.create_order(
            "measured", "c", "metered", Purpose.EVALUATION, 2, items_of_order_id=human.order_id
        )
        again = await budget.create_order(
            "measured", "c", "metered", Purpose.EVALUATION, 2, items_of_order_id=human.order_id
        )
        assert again == measured == await budget.get_order(measured.order_id)
        assert (measured.price_per_million_tokens, measured.unit_price) == (Money(1_500_000), Money(1_000))
        assert (measured.items_of_order_id, measured.sampling) == (human.order_id, Sampling.GIVEN)
        assert measured.sharing is Sharing.SOURCES
        assert [item.item_id async for item in budget.order_items(measured.order_id)] == items[:2]
        labels = [Label(item_id, (0.25, 0.75), prompt_tokens=101) for item_id in items[:2]]
        done = await budget.submit_labels("measured/labels", measured.order_id, labels)
        assert (done.n_accepted, done.order.state) == (2, OrderState.SETTLED)
        await budget.submit_labels("measured/labels", measured.order_id, labels)
        assert (await budget.get_campaign("c")).n_items_free == 197

        bought = await budget.create_order("bought", "c", "metered", Purpose.TRAINING, 4)
        to_label = [item.item_id async for item in budget.order_items(bought.order_id)]
        for number, tokens in ((0, (100, 200)), (2, (300, 401))):
            part = [
                Label(item_id, (0.25, 0.75), prompt_tokens=n)
                for item_id, n in zip(to_label[number:][:2], tokens, strict=True)
            ]
            await budget.submit_labels(f"bought/{number}", bought.order_id, part)
        moves = [(entry.kind, entry.amount.micros) async for entry in budget.ledger("c")]
        assert moves[-7:] == [
            (EntryKind.RESERVE, 4_000),
            (EntryKind.SETTLE, 150),
            (EntryKind.SETTLE, 300),
            (EntryKind.RELEASE, 1_550),
            (EntryKind.SETTLE, 450),
            (EntryKind.SETTLE, 602),
            (EntryKind.RELEASE, 948),
        ]

        low, high = wilson_interval(0.75, 3)
        shown = Evaluation("evaluation", 3, 0.75, low, high, 0.5)
        seen = Observation("run", "weak_sft", 3, 0, 0, shown, weak_source_id="metered")
        assert (await budget.record_observation("run", "c", seen)).cost == Money(900)
        assert [point.cost for point in await budget.get_frontier("c")] == [Money(900)]
        plan = await budget.plan("plan", "c", Money(3_760), weak_source_id="metered", human_source_id="human")
        # The mean of 1,502 micros over four labels, rounded up.
        assert plan.inputs is not None
        (weak,), (people,) = plan.inputs.policy.weak, plan.inputs.policy.human
        assert (weak.source_id, weak.price_micros, weak.n_bought, weak.n_measured) == ("metered", 376, 4, 2)
        assert (people.source_id, people.price_micros) == ("human", 100_000)
        assert plan.inputs.unit_price_micros == {"metered": 1_000, "human": 100_000}
        assert sum(part.cost.micros for part in plan.purchases) <= 3_760
    (proof,) = verify_ledger(rig.database_url, "c")
    assert (proof.n_labels, proof.settled.micros, proof.reserved.micros) == (9, 300_000 + 2 * 152 + 1_502, 0)
