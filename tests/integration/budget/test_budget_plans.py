"""Plans over gRPC: which sources they choose among, what was measured of those, and that a plan is made once."""

from __future__ import annotations

from typing import Any

import pytest

from isocost.client import BudgetClient, Label, Money, Purpose, Source, SourceKind, one_hot
from isocost.core.errors import AlreadyExistsError
from isocost.economics.policy.adaptive import AdaptivePolicy
from isocost.report.weak_source import gather_weak_sources
from isocost.resources.campaign import Order, Sharing
from isocost.resources.plan import PlanExplanation

N_PILOT = 12


async def _answer(budget: BudgetClient, order: Order, choices: list[int]) -> None:
    items = [item.item_id async for item in budget.order_items(order.order_id)]
    labels = [Label(item_id, one_hot(choice, 2)) for item_id, choice in zip(items, choices, strict=True)]
    await budget.submit_labels(f"{order.order_id}/labels", order.order_id, labels)


async def _measure(budget: BudgetClient, pilot: Order, source_id: str, choices: list[int]) -> None:
    """Labels of a source on items of the pilot, as a campaign buys them to measure it."""
    order = await budget.create_order(
        f"measure/{source_id}",
        "c",
        source_id,
        Purpose.EVALUATION,
        len(choices),
        items_of_order_id=pilot.order_id,
        sharing=Sharing.ALL,
    )
    await _answer(budget, order, choices)


async def test_a_plan_sees_of_each_weak_source_what_the_report_says(rig: Any) -> None:
    await rig.create(budget_micros=5_000_000, n_items=100)
    async with BudgetClient(rig.address) as budget:
        await budget.create_source("good", "c", Source("good", SourceKind.MODEL, Money(3_000)))
        pilot = await budget.create_order("pilot", "c", "human", Purpose.PILOT, N_PILOT)
        await _answer(budget, pilot, [index % 2 for index in range(N_PILOT)])
        await _measure(budget, pilot, "weak", [0] * N_PILOT)
        await _measure(budget, pilot, "good", [index % 2 for index in range(N_PILOT - 1)] + [0])
        plan = await budget.plan("plan", "c", Money(400_000))
        assert plan.inputs is not None
        seen = {state.source_id: (state.n_measured, state.accuracy) for state in plan.inputs.policy.weak}
        status, sources = await budget.get_campaign("c"), await budget.list_sources("c")
        said = await gather_weak_sources(budget, status.campaign, sources)
    assert seen == {weak.source.source_id: (weak.quality.n_measured, weak.quality.accuracy) for weak in said.sources}
    assert seen == {"weak": (N_PILOT, 0.5), "good": (N_PILOT, pytest.approx(11 / 12))}


async def test_a_plan_is_made_once_and_listed_with_the_numbers_behind_it(rig: Any) -> None:
    await rig.create(n_items=60)
    async with BudgetClient(rig.address) as budget:
        made = await budget.plan("plan", "c", Money(300_000), target_accuracy=0.9, gain_min=0.001)
        again = await budget.plan("plan", "c", Money(300_000), target_accuracy=0.9, gain_min=0.001)
        assert again == made
        assert await budget.list_plans("c") == [made]
        with pytest.raises(AlreadyExistsError):
            await budget.plan("plan", "c", Money(300_000), target_accuracy=0.8, gain_min=0.001)
    assert made.inputs is not None
    policy = made.inputs.policy
    assert (policy.target_accuracy, policy.gain_min, policy.tranche_micros) == (0.9, 0.001, 300_000)
    # The numbers are the policy's own, given what is stored.
    decision = AdaptivePolicy().decide(policy)
    assert decision.explanation is not None
    assert made.explanation == PlanExplanation.of(decision.explanation, "USD")
    assert (made.reason, made.regime) == (decision.reason, decision.explanation.regime)
