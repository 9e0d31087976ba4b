"""Plans: what to buy next, decided by the policy on the stored state, and kept with everything it was given."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select

from isocost.budget import clock, schema
from isocost.budget.campaigns import check_currency, lock_active, next_position, read_campaign, read_status
from isocost.budget.clock import time_from_us
from isocost.budget.costs import TRAINED_ON, expected_price_micros
from isocost.budget.observations import list_observations
from isocost.budget.sources import list_sources, read_source
from isocost.core.errors import FailedPreconditionError, InvalidArgumentError
from isocost.core.ids import canonical_json, new_id
from isocost.core.money import Money
from isocost.economics.policy import POLICY_NAME, PolicyInputs, decide
from isocost.economics.regime import Regime
from isocost.resources.observation import Decision, Observation, Plan, Purchase
from isocost.resources.task import Source, SourceKind

__all__ = ["list_plans", "make_plan"]

_plans = schema.plans


@dataclass(frozen=True, slots=True)
class _Planned:
    """The source of one kind to plan for; of a source that the caller named, only its own labels and runs count."""

    source: Source
    is_named: bool

    def counts(self, source_id: str) -> bool:
        """Whether labels of a source of this kind count."""
        return not self.is_named or source_id == self.source.source_id


def _planned(connection: Connection, campaign_id: str, kind: SourceKind, field: str, source_id: str) -> _Planned:
    """The named source, or the oldest of the kind.

    Raises:
        NotFoundError: names `field` where the campaign has no such source.
        InvalidArgumentError: names `field` where the source is of the other kind.
        FailedPreconditionError: where none is named, and the kind is missing.
    """
    if source_id:
        source = read_source(connection, campaign_id, source_id, field=field)
        if source.kind is not kind:
            raise InvalidArgumentError(
                field, f"{source_id!r} is a {source.kind.name} source; name a {kind.name} one, or leave it empty"
            )
        return _Planned(source, is_named=True)
    first = next((source for source in list_sources(connection, campaign_id) if source.kind is kind), None)
    if first is None:
        raise FailedPreconditionError(
            f"campaign {campaign_id!r} has no {kind.name} source; create one before planning", field="campaign_id"
        )
    return _Planned(first, is_named=False)


def _n_trained_on(connection: Connection, campaign_id: str, planned: _Planned) -> int:
    """Labels of a kind bought so far to train on."""
    orders, sources = schema.orders, schema.sources
    query = (
        select(orders.c.source_id, func.sum(orders.c.n_settled).label("n_settled"))
        .join_from(
            orders,
            sources,
            (sources.c.campaign_id == orders.c.campaign_id) & (sources.c.source_id == orders.c.source_id),
        )
        .where(
            orders.c.campaign_id == campaign_id,
            orders.c.purpose.in_(TRAINED_ON),
            sources.c.kind == planned.source.kind.name,
        )
        .group_by(orders.c.source_id)
    )
    # PostgreSQL's sum of BIGINT is NUMERIC.
    return sum(int(row.n_settled) for row in connection.execute(query) if planned.counts(row.source_id))


def _price_micros(connection: Connection, campaign_id: str, source: Source, available_micros: int) -> int:
    """What one more label is expected to cost: its unit price where not even one could be reserved."""
    unit_micros = source.unit_price.micros
    return unit_micros if unit_micros > available_micros else expected_price_micros(connection, campaign_id, source)


def _policy_inputs(
    connection: Connection, campaign_id: str, *, weak: _Planned, human: _Planned, tranche: Money | None
) -> PolicyInputs:
    """Everything the policy sees, read from the stored state.

    Args:
        connection: A transaction.
        campaign_id: The campaign.
        weak, human: The sources that would be bought from.
        tranche: What the next purchase may cost at most; all that is available where None.
    """
    status = read_status(connection, campaign_id)
    available_micros = status.balance.available.micros

    def counts(observation: Observation) -> bool:
        return (not observation.n_weak or weak.counts(observation.weak_source_id)) and (
            not observation.n_human or human.counts(observation.human_source_id)
        )

    return PolicyInputs(
        weak_price_micros=_price_micros(connection, campaign_id, weak.source, available_micros),
        human_price_micros=_price_micros(connection, campaign_id, human.source, available_micros),
        available_micros=available_micros,
        tranche_micros=available_micros if tranche is None else tranche.micros,
        n_weak=_n_trained_on(connection, campaign_id, weak),
        n_human=_n_trained_on(connection, campaign_id, human),
        n_items_free=status.n_items_free,
        observations=tuple(
            observation.point for observation in list_observations(connection, campaign_id) if counts(observation)
        ),
    )


def make_plan(
    connection: Connection,
    campaign_id: str,
    tranche: Money | None = None,
    *,
    weak_source_id: str = "",
    human_source_id: str = "",
) -> Plan:
    """Decides what to buy next, and stores the plan with its inputs. The same state gives the same decision.

    Args:
        connection: A write transaction.
        campaign_id: The campaign.
        tranche: What the next purchase may cost at most; all that is available where None.
        weak_source_id, human_source_id: The sources to plan for, of whose kinds only their own labels and runs count;
            "" for the campaign's first, and the labels of all of its kind.

    Raises:
        NotFoundError: where there is no such campaign or source.
        FailedPreconditionError: where the campaign is finished, or has no MODEL or no HUMAN source.
        InvalidArgumentError: where the tranche is not above zero or not in the campaign's currency, or a source is of
            the other kind.
    """
    campaign = lock_active(connection, campaign_id)
    if tranche is not None:
        check_currency("tranche", tranche, campaign)
        if tranche.micros <= 0:
            raise InvalidArgumentError("tranche", f"{tranche}; must be greater than zero, or not set")
    weak = _planned(connection, campaign_id, SourceKind.MODEL, "weak_source_id", weak_source_id)
    human = _planned(connection, campaign_id, SourceKind.HUMAN, "human_source_id", human_source_id)
    inputs = _policy_inputs(connection, campaign_id, weak=weak, human=human, tranche=tranche)
    decision = decide(inputs)
    reason, n_weak = decision.reason, decision.n_weak
    # An order reserves the unit price, which for a metered source is above what a label is expected to cost.
    n_weak_max = inputs.available_micros // weak.source.unit_price.micros
    if n_weak > n_weak_max:
        n_weak = n_weak_max
        reason += (
            f"; what is available reserves {n_weak} of them at up to {weak.source.unit_price} each: plan again then"
        )
    purchases = tuple(
        Purchase(
            planned.source.source_id,
            n_labels,
            Money(n_labels * price_micros, campaign.budget.currency_code),
            expected_gain,
        )
        for planned, n_labels, price_micros, expected_gain in (
            (weak, n_weak, inputs.weak_price_micros, decision.weak_gain),
            (human, decision.n_human, inputs.human_price_micros, decision.human_gain),
        )
        if n_labels
    )
    time_us = clock.now_us()
    given = {
        **asdict(inputs),
        "weak_source_id": weak.source.source_id,
        "human_source_id": human.source.source_id,
    }
    if weak.source.price_per_million_tokens is not None:
        given["weak_unit_price_micros"] = weak.source.unit_price.micros
    plan = Plan(
        plan_id=new_id("plan"),
        campaign_id=campaign_id,
        decision=Decision.BUY if purchases else Decision.STOP,
        purchases=purchases,
        reason=reason,
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
