"""Plans: what to buy next, decided by the policy on the stored state, and kept with everything it was given."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select

from isocost.budget import clock, schema
from isocost.budget.campaigns import check_currency, lock_active, next_position, read_campaign, read_status
from isocost.budget.clock import time_from_us
from isocost.budget.observations import list_observations
from isocost.budget.sources import list_sources
from isocost.core.errors import FailedPreconditionError, InvalidArgumentError
from isocost.core.ids import canonical_json, new_id
from isocost.core.money import Money
from isocost.economics.policy import POLICY_NAME, PolicyInputs, decide
from isocost.economics.regime import Regime
from isocost.resources.label import Purpose
from isocost.resources.observation import Decision, Plan, Purchase
from isocost.resources.task import Source, SourceKind

__all__ = ["list_plans", "make_plan", "policy_inputs"]

_plans = schema.plans
#: Labels of these purposes are trained on.
_TRAINED_ON = (Purpose.TRAINING.name, Purpose.PILOT.name)


def _first_sources(connection: Connection, campaign_id: str) -> tuple[Source, Source]:
    """The oldest MODEL and the oldest HUMAN source.

    Raises:
        FailedPreconditionError: names the kind that is missing.
    """
    sources = list_sources(connection, campaign_id)
    found: list[Source] = []
    for kind in (SourceKind.MODEL, SourceKind.HUMAN):
        source = next((source for source in sources if source.kind is kind), None)
        if source is None:
            raise FailedPreconditionError(
                f"campaign {campaign_id!r} has no {kind.name} source; create one before planning", field="campaign_id"
            )
        found.append(source)
    return found[0], found[1]


def _n_trained_on(connection: Connection, campaign_id: str) -> dict[SourceKind, int]:
    """Labels bought so far to train on, by kind of source."""
    orders, sources = schema.orders, schema.sources
    query = (
        select(sources.c.kind, func.sum(orders.c.n_settled).label("n_settled"))
        .join_from(
            orders,
            sources,
            (sources.c.campaign_id == orders.c.campaign_id) & (sources.c.source_id == orders.c.source_id),
        )
        .where(orders.c.campaign_id == campaign_id, orders.c.purpose.in_(_TRAINED_ON))
        .group_by(sources.c.kind)
    )
    # PostgreSQL's sum of BIGINT is NUMERIC.
    return {SourceKind[row.kind]: int(row.n_settled) for row in connection.execute(query)}


def policy_inputs(
    connection: Connection, campaign_id: str, *, weak: Source, human: Source, tranche: Money | None
) -> PolicyInputs:
    """Everything the policy sees, read from the stored state.

    Args:
        connection: A transaction.
        campaign_id: The campaign.
        weak, human: The sources that would be bought from.
        tranche: What the next purchase may cost at most; all that is available where None.
    """
    status = read_status(connection, campaign_id)
    n_trained_on = _n_trained_on(connection, campaign_id)
    available_micros = status.balance.available.micros
    return PolicyInputs(
        weak_price_micros=weak.unit_price.micros,
        human_price_micros=human.unit_price.micros,
        available_micros=available_micros,
        tranche_micros=available_micros if tranche is None else tranche.micros,
        n_weak=n_trained_on.get(SourceKind.MODEL, 0),
        n_human=n_trained_on.get(SourceKind.HUMAN, 0),
        n_items_free=status.n_items_free,
        observations=tuple(observation.point for observation in list_observations(connection, campaign_id)),
    )


def make_plan(connection: Connection, campaign_id: str, tranche: Money | None = None) -> Plan:
    """Decides what to buy next, and stores the plan with its inputs. The same state gives the same decision.

    Raises:
        NotFoundError: where there is no such campaign.
        FailedPreconditionError: where the campaign is finished, or has no MODEL or no HUMAN source.
        InvalidArgumentError: where the tranche is not above zero or not in the campaign's currency.
    """
    campaign = lock_active(connection, campaign_id)
    if tranche is not None:
        check_currency("tranche", tranche, campaign)
        if tranche.micros <= 0:
            raise InvalidArgumentError("tranche", f"{tranche}; must be greater than zero, or not set")
    weak, human = _first_sources(connection, campaign_id)
    inputs = policy_inputs(connection, campaign_id, weak=weak, human=human, tranche=tranche)
    decision = decide(inputs)
    purchases = tuple(
        Purchase(
            source.source_id,
            n_labels,
            Money(n_labels * source.unit_price.micros, campaign.budget.currency_code),
            expected_gain,
        )
        for source, n_labels, expected_gain in (
            (weak, decision.n_weak, decision.weak_gain),
            (human, decision.n_human, decision.human_gain),
        )
        if n_labels
    )
    time_us = clock.now_us()
    given = {**asdict(inputs), "weak_source_id": weak.source_id, "human_source_id": human.source_id}
    plan = Plan(
        plan_id=new_id("plan"),
        campaign_id=campaign_id,
        decision=Decision.BUY if purchases else Decision.STOP,
        purchases=purchases,
        reason=decision.reason,
        regime=decision.regime,
        policy=POLICY_NAME,
        inputs_json=canonical_json(given),
        create_time=time_from_us(time_us),
    )
    _store(connection, plan, campaign.budget.currency_code, time_us)
    return plan


def _store(connection: Connection, plan: Plan, currency_code: str, time_us: int) -> None:
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
            currency_code=currency_code,
            create_time_us=time_us,
        )
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
