"""Plans: what to buy next, decided by the policy on the stored state, and kept with everything it was given."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from isocost.budget import clock, schema
from isocost.budget.campaigns import lock_active, next_position, read_campaign
from isocost.budget.clock import time_from_us
from isocost.budget.plan_inputs import PlanRequest, read_inputs
from isocost.core.ids import canonical_json, new_id
from isocost.core.money import Money
from isocost.economics.policy.adaptive import AdaptivePolicy
from isocost.economics.policy.decision import Explanation, LineForecast, Policy, SourcePurchase, TrancheValue
from isocost.economics.regime import Regime
from isocost.resources.plan import Decision, Plan, PlanExplanation, Purchase
from isocost.resources.plan_inputs import PlanInputs

__all__ = ["Planned", "decide", "list_plans", "make_plan"]

_plans = schema.plans


@dataclass(frozen=True, slots=True)
class Planned:
    """What a plan says, without its place in the campaign.

    Attributes:
        purchases: What to buy; nothing to stop.
        reason: In words, with its numbers.
        policy: Name of the policy that decided.
        explanation: The numbers behind it; None where the policy has none.
    """

    purchases: tuple[Purchase, ...]
    reason: str
    policy: str
    explanation: Explanation | None

    @property
    def decision(self) -> Decision:
        """Whether there is something to buy."""
        return Decision.BUY if self.purchases else Decision.STOP

    @property
    def regime(self) -> Regime:
        """The most probable regime."""
        return self.explanation.regime if self.explanation else Regime.UNSPECIFIED


def _reservable(purchases: tuple[SourcePurchase, ...], inputs: PlanInputs, prices: Mapping[str, int]) -> dict[str, int]:
    """The most labels of each metered purchase that what is available can reserve beside the others.

    An order reserves the unit price, which for a metered source is above what a label is expected to cost. What has a
    fixed price is set aside first: it costs what it reserves.
    """
    units = inputs.unit_price_micros
    metered = [purchase for purchase in purchases if units[purchase.source_id] > prices[purchase.source_id]]
    left = inputs.policy.available_micros - sum(
        purchase.n_labels * units[purchase.source_id] for purchase in purchases if purchase not in metered
    )
    most: dict[str, int] = {}
    for purchase in metered:
        unit = units[purchase.source_id]
        most[purchase.source_id] = max(0, left // unit)
        left -= min(purchase.n_labels, most[purchase.source_id]) * unit
    return most


def decide(inputs: PlanInputs, policy: Policy | None = None) -> Planned:
    """What to buy next. The same inputs give the same plan, so that a stored plan can be made again from its own.

    Args:
        inputs: Everything that the plan is made from.
        policy: What decides; the adaptive policy where None.
    """
    policy = policy or AdaptivePolicy(held_out_datasets=(inputs.task_name,))
    decision = policy.decide(inputs.policy)
    prices = {source.source_id: source.price_micros for source in (*inputs.policy.weak, *inputs.policy.human)}
    most = _reservable(decision.purchases, inputs, prices)
    reason, purchases = decision.reason, []
    for purchase in decision.purchases:
        source_id, n_labels = purchase.source_id, purchase.n_labels
        if n_labels > most.get(source_id, n_labels):
            n_labels = most[source_id]
            unit_price = Money(inputs.unit_price_micros[source_id], inputs.currency_code)
            reason += (
                f"; what is available reserves {n_labels} of the {source_id} labels at up to {unit_price} each: plan "
                "again then"
            )
        if n_labels:
            cost = Money(n_labels * prices[source_id], inputs.currency_code)
            purchases.append(Purchase(source_id, n_labels, cost, purchase.expected_gain))
    return Planned(tuple(purchases), reason, policy.name, decision.explanation)


def make_plan(connection: Connection, campaign_id: str, request: PlanRequest) -> Plan:
    """Decides what to buy next, and stores the plan with its inputs. The same state gives the same decision.

    Args:
        connection: A write transaction.
        campaign_id: The campaign.
        request: What is asked for.

    Raises:
        NotFoundError: where there is no such campaign or source.
        FailedPreconditionError: where the campaign is finished, or has no MODEL or no HUMAN source.
        InvalidArgumentError: names the field of the request that is wrong: the tranche, the target, the least gain, or
            a source of the other kind.
    """
    campaign = lock_active(connection, campaign_id)
    request.check(campaign)
    inputs = read_inputs(connection, campaign, request)
    planned = decide(inputs)
    time_us = clock.now_us()
    plan = Plan(
        plan_id=new_id("plan"),
        campaign_id=campaign_id,
        decision=planned.decision,
        purchases=planned.purchases,
        reason=planned.reason,
        regime=planned.regime,
        policy=planned.policy,
        inputs_json=inputs.to_json(),
        create_time=time_from_us(time_us),
        explanation=PlanExplanation.of(planned.explanation, inputs.currency_code) if planned.explanation else None,
    )
    _store(connection, plan, planned.explanation, inputs.currency_code, time_us)
    return plan


def _store(
    connection: Connection, plan: Plan, explanation: Explanation | None, currency_code: str, time_us: int
) -> None:
    purchases = [
        {
            "source_id": purchase.source_id,
            "n_labels": purchase.n_labels,
            "cost_micros": purchase.cost.micros,
            "expected_gain": purchase.expected_gain,
        }
        for purchase in plan.purchases
    ]
    connection.execute(
        insert(_plans).values(
            plan_id=plan.plan_id,
            campaign_id=plan.campaign_id,
            position=next_position(connection, _plans, plan.campaign_id),
            decision=plan.decision.name,
            purchases_json=canonical_json(purchases),
            reason=plan.reason,
            regime=plan.regime.name,
            policy=plan.policy,
            inputs_json=plan.inputs_json,
            explanation_json=_explanation_json(explanation) if explanation else "",
            currency_code=currency_code,
            create_time_us=time_us,
        )
    )


def _explanation_json(explanation: Explanation) -> str:
    return canonical_json({**asdict(explanation), "regime": explanation.regime.name})


def _explanation(text: str) -> Explanation:
    stored = json.loads(text)
    return Explanation(
        **{
            **stored,
            "regime": Regime[stored["regime"]],
            "line": tuple(LineForecast(**forecast) for forecast in stored["line"]),
            "tranches": tuple(TrancheValue(**value) for value in stored["tranches"]),
        }
    )


def _plan(row: Row[Any]) -> Plan:
    return Plan(
        plan_id=row.plan_id,
        campaign_id=row.campaign_id,
        decision=Decision[row.decision],
        purchases=tuple(
            Purchase(
                purchase["source_id"],
                purchase["n_labels"],
                Money(purchase["cost_micros"], row.currency_code),
                purchase["expected_gain"],
            )
            for purchase in json.loads(row.purchases_json)
        ),
        reason=row.reason,
        regime=Regime[row.regime],
        policy=row.policy,
        inputs_json=row.inputs_json,
        create_time=time_from_us(row.create_time_us),
        explanation=PlanExplanation.of(_explanation(row.explanation_json), row.currency_code)
        if row.explanation_json
        else None,
    )


def list_plans(
    connection: Connection, campaign_id: str, *, after_position: int = 0, limit: int | None = None
) -> list[Plan]:
    """A campaign's next plans, oldest first; positions count from 1 without gaps.

    Raises:
        NotFoundError: where there is no such campaign.
    """
    read_campaign(connection, campaign_id)
    query = (
        select(_plans)
        .where(_plans.c.campaign_id == campaign_id, _plans.c.position > after_position)
        .order_by(_plans.c.position)
        .limit(limit)
    )
    return [_plan(row) for row in connection.execute(query)]
