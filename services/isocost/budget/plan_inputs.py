"""What a plan is made from, read from the stored state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, func, select

from isocost.budget import schema
from isocost.budget.campaigns import check_currency, read_status
from isocost.budget.costs import TRAINED_ON, expected_price_micros
from isocost.budget.observations import list_observations
from isocost.budget.source_accuracy import MeasuredAccuracy, measure_sources
from isocost.budget.sources import list_sources, read_source
from isocost.core.errors import FailedPreconditionError, InvalidArgumentError
from isocost.core.money import Money
from isocost.economics.policy.inputs import PolicyInputs, SourceState
from isocost.resources.campaign import Campaign
from isocost.resources.label import Purpose
from isocost.resources.observation import Observation
from isocost.resources.plan_inputs import PlanInputs
from isocost.resources.task import Source, SourceKind

__all__ = ["PlanRequest", "read_inputs"]

_orders = schema.orders


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What a caller asks a plan for.

    Attributes:
        tranche: What the next purchase may cost at most; all that is available where None.
        weak_source_id, human_source_id: The only source of its kind to plan for, of which only its own labels and runs
            count; "" for all of the kind.
        target_accuracy: Reach it at the least cost; None for as much as what is available can buy.
        gain_min: Accuracy that the labels still to be bought must be expected to bring; None for the policy's own.
    """

    tranche: Money | None = None
    weak_source_id: str = ""
    human_source_id: str = ""
    target_accuracy: float | None = None
    gain_min: float | None = None

    def check(self, campaign: Campaign) -> None:
        """Raises where a campaign cannot have such a plan.

        Raises:
            InvalidArgumentError: names the field that is wrong.
        """
        if self.tranche is not None:
            check_currency("tranche", self.tranche, campaign)
            if self.tranche.micros <= 0:
                raise InvalidArgumentError("tranche", f"{self.tranche}; must be greater than zero, or not set")
        chance = 1 / len(campaign.task.choices)
        # Written so that NaN is refused.
        if self.target_accuracy is not None and not chance < self.target_accuracy < 1:
            raise InvalidArgumentError(
                "target_accuracy",
                f"{self.target_accuracy:g}; must be above that of guessing, {chance:.3g}, and below 1, such as 0.9",
            )
        if self.gain_min is not None and not 0 <= self.gain_min < 1:
            raise InvalidArgumentError(
                "gain_min", f"{self.gain_min:g}; must be from 0 to below 1, such as 0.005, or not set"
            )


def _planned(
    connection: Connection, campaign_id: str, every: Sequence[Source], kind: SourceKind, field: str, source_id: str
) -> list[Source]:
    """The named source alone, or all of the kind, oldest first.

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
        return [source]
    of_kind = [source for source in every if source.kind is kind]
    if not of_kind:
        raise FailedPreconditionError(
            f"campaign {campaign_id!r} has no {kind.name} source; create one before planning", field="campaign_id"
        )
    return of_kind


def _n_bought(connection: Connection, campaign_id: str) -> dict[str, int]:
    """Labels bought so far to train on, by source."""
    query = (
        select(_orders.c.source_id, func.sum(_orders.c.n_settled).label("n_settled"))
        .where(_orders.c.campaign_id == campaign_id, _orders.c.purpose.in_(TRAINED_ON))
        .group_by(_orders.c.source_id)
    )
    # PostgreSQL's sum of BIGINT is NUMERIC.
    return {row.source_id: int(row.n_settled) for row in connection.execute(query)}


def _price_micros(connection: Connection, campaign_id: str, source: Source, available_micros: int) -> int:
    """What one more label is expected to cost: its unit price where not even one could be reserved."""
    unit_micros = source.unit_price.micros
    return unit_micros if unit_micros > available_micros else expected_price_micros(connection, campaign_id, source)


def _n_eval(
    connection: Connection, campaign_id: str, human: Sequence[Source], observations: Sequence[Observation]
) -> int | None:
    """Labels that the next runs will be measured on: as many as the last run, or as are bought or awaited for it."""
    if observations:
        return observations[-1].point.n_eval
    query = select(func.coalesce(func.sum(_orders.c.n_labels - _orders.c.n_released), 0)).where(
        _orders.c.campaign_id == campaign_id,
        _orders.c.purpose == Purpose.EVALUATION.name,
        _orders.c.source_id.in_([source.source_id for source in human]),
    )
    return int(connection.execute(query).scalar_one()) or None


def read_inputs(connection: Connection, campaign: Campaign, request: PlanRequest) -> PlanInputs:
    """Everything that a plan is made from.

    Args:
        connection: A transaction.
        campaign: The campaign.
        request: What is asked for; checked.

    Raises:
        NotFoundError: where there is no such source.
        InvalidArgumentError: where a source is of the other kind.
        FailedPreconditionError: where the campaign has no MODEL or no HUMAN source.
    """
    campaign_id = campaign.campaign_id
    every = list_sources(connection, campaign_id)
    weak = _planned(connection, campaign_id, every, SourceKind.MODEL, "weak_source_id", request.weak_source_id)
    human = _planned(connection, campaign_id, every, SourceKind.HUMAN, "human_source_id", request.human_source_id)
    status = read_status(connection, campaign_id)
    available_micros = status.balance.available.micros
    n_bought = _n_bought(connection, campaign_id)
    measured = measure_sources(connection, campaign_id, every)
    names = {source.source_id for source in (*weak, *human)}
    observations = [
        observation
        for observation in list_observations(connection, campaign_id)
        if {observation.point.weak_source_id, observation.point.human_source_id} <= {*names, ""}
    ]

    def state(source: Source) -> SourceState:
        shown = measured.get(source.source_id, MeasuredAccuracy())
        return SourceState(
            source_id=source.source_id,
            price_micros=_price_micros(connection, campaign_id, source, available_micros),
            n_bought=n_bought.get(source.source_id, 0),
            accuracy=shown.accuracy,
            n_measured=shown.n_measured,
        )

    policy = PolicyInputs(
        weak=tuple(state(source) for source in weak),
        human=tuple(state(source) for source in human),
        available_micros=available_micros,
        tranche_micros=available_micros if request.tranche is None else request.tranche.micros,
        n_items_free=status.n_items_free,
        observations=tuple(observation.point for observation in observations),
        n_choices=len(campaign.task.choices),
        target_accuracy=request.target_accuracy,
        n_eval=_n_eval(connection, campaign_id, human, observations),
    )
    if request.gain_min is not None:
        policy = replace(policy, gain_min=request.gain_min)
    unit_price_micros = {source.source_id: source.unit_price.micros for source in (*weak, *human)}
    return PlanInputs(policy, unit_price_micros, campaign.budget.currency_code, campaign.task.name)
