"""What runs showed, and the frontier over it."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from isocost.budget import clock, schema
from isocost.budget.campaigns import lock_campaign, next_position, read_campaign
from isocost.budget.clock import time_from_us
from isocost.budget.costs import cost_micros
from isocost.budget.sources import read_source
from isocost.budget.validation import check_count, check_text
from isocost.core.errors import AlreadyExistsError, InvalidArgumentError
from isocost.core.ids import canonical_json, check_id
from isocost.core.money import MICROS_MAX, Money
from isocost.economics.frontier import CostedPoint, ObservedPoint, average_seeds, pareto
from isocost.resources.observation import Evaluation, FrontierPoint, Observation
from isocost.resources.task import SourceKind

__all__ = ["frontier", "list_observations", "record_observation"]

_observations = schema.observations


def _check_evaluation(name: str, evaluation: Evaluation) -> None:
    check_text(f"observation.{name}.name", evaluation.name, required=True, bytes_max=512)
    check_count(f"observation.{name}.n_eval", evaluation.n_eval, minimum=1)
    if not (math.isfinite(evaluation.auroc) and 0 <= evaluation.auroc <= 1):
        raise InvalidArgumentError(f"observation.{name}.auroc", f"{evaluation.auroc}; must be from 0 to 1")


def _check(observation: Observation) -> None:
    check_id("observation.run_id", observation.run_id)
    check_text("observation.method", observation.method, required=True, bytes_max=512)
    check_count("observation.n_weak", observation.n_weak)
    check_count("observation.n_human", observation.n_human)
    _check_evaluation("evaluation", observation.evaluation)
    if observation.test is not None:
        _check_evaluation("test", observation.test)


def _cost_micros(connection: Connection, campaign_id: str, observation: Observation) -> int:
    """Price of the labels trained on.

    Raises:
        NotFoundError: names the source that the campaign does not have.
        InvalidArgumentError: where a source is of the other kind, a metered one has fewer labels, or the cost is out of
            range.
    """
    micros = 0
    for name, kind, count, source_id in (
        ("weak", SourceKind.MODEL, observation.n_weak, observation.weak_source_id),
        ("human", SourceKind.HUMAN, observation.n_human, observation.human_source_id),
    ):
        if not source_id:
            continue
        field = f"observation.{name}_source_id"
        source = read_source(connection, campaign_id, source_id, field=field)
        if source.kind is not kind:
            raise InvalidArgumentError(field, f"{source_id!r} is a {source.kind.name} source")
        micros += cost_micros(connection, campaign_id, source, count, field=f"observation.n_{name}")
    if micros > MICROS_MAX:
        raise InvalidArgumentError("observation.n_weak", "the labels cost more than any budget")
    return micros


def record_observation(connection: Connection, campaign_id: str, observation: Observation) -> Observation:
    """Stores what a run showed, with the price of the labels it was trained on.

    Raises:
        NotFoundError: where there is no such campaign or source.
        AlreadyExistsError: where the run's observation is there already.
        InvalidArgumentError: names the field that is wrong.
    """
    _check(observation)
    campaign = lock_campaign(connection, campaign_id)
    taken = select(_observations.c.run_id).where(
        _observations.c.campaign_id == campaign_id, _observations.c.run_id == observation.run_id
    )
    if connection.execute(taken).first() is not None:
        raise AlreadyExistsError(
            f"the observation of run {observation.run_id!r} is recorded already", field="observation.run_id"
        )
    time_us = clock.now_us()
    cost = Money(_cost_micros(connection, campaign_id, observation), campaign.budget.currency_code)
    connection.execute(
        insert(_observations).values(
            campaign_id=campaign_id,
            run_id=observation.run_id,
            position=next_position(connection, _observations, campaign_id),
            method=observation.method,
            n_weak=observation.n_weak,
            n_human=observation.n_human,
            seed=observation.seed,
            weak_source_id=observation.weak_source_id,
            human_source_id=observation.human_source_id,
            evaluation_json=canonical_json(asdict(observation.evaluation)),
            test_json=canonical_json(asdict(observation.test)) if observation.test else "",
            cost_micros=cost.micros,
            currency_code=cost.currency_code,
            create_time_us=time_us,
        )
    )
    return replace(observation, cost=cost, create_time=time_from_us(time_us))


def _observation(row: Row[Any]) -> Observation:
    return Observation(
        run_id=row.run_id,
        method=row.method,
        n_weak=row.n_weak,
        n_human=row.n_human,
        seed=row.seed,
        evaluation=Evaluation(**json.loads(row.evaluation_json)),
        test=Evaluation(**json.loads(row.test_json)) if row.test_json else None,
        weak_source_id=row.weak_source_id,
        human_source_id=row.human_source_id,
        cost=Money(row.cost_micros, row.currency_code),
        create_time=time_from_us(row.create_time_us),
    )


def list_observations(
    connection: Connection, campaign_id: str, *, after_position: int = 0, limit: int | None = None
) -> list[Observation]:
    """A campaign's next observations, oldest first; positions count from 1 without gaps.

    Raises:
        NotFoundError: where there is no such campaign.
    """
    read_campaign(connection, campaign_id)
    query = (
        select(_observations)
        .where(_observations.c.campaign_id == campaign_id, _observations.c.position > after_position)
        .order_by(_observations.c.position)
        .limit(limit)
    )
    return [_observation(row) for row in connection.execute(query)]


def frontier(connection: Connection, campaign_id: str) -> list[FrontierPoint]:
    """The Pareto set of cost and accuracy over a campaign's observations, cheapest first.

    Seeds are averaged among runs whose labels came from the same sources. A mix of them costs what it did when its runs
    were recorded: neither prices nor the labels that come first ever change.

    Raises:
        NotFoundError: where there is no such campaign.
    """
    currency_code = read_campaign(connection, campaign_id).budget.currency_code
    groups: dict[tuple[str, str], list[ObservedPoint]] = defaultdict(list)
    micros: dict[tuple[str, str, int, int], int] = {}
    for observation in list_observations(connection, campaign_id):
        n_weak, n_human, cost = observation.n_weak, observation.n_human, observation.cost
        assert cost is not None, f"the observation of run {observation.run_id} has no cost"
        sources = (observation.weak_source_id if n_weak else "", observation.human_source_id if n_human else "")
        groups[sources].append(observation.point)
        micros[*sources, n_weak, n_human] = cost.micros
    points: list[CostedPoint] = []
    for sources, group in groups.items():
        points += [
            replace(point, cost_micros=micros[*sources, point.n_weak, point.n_human])
            # A price alone does not tell what labels of a metered source cost.
            for point in average_seeds(group, weak_price_micros=0, human_price_micros=0)
        ]
    return [FrontierPoint.of(point, currency_code) for point in pareto(points)]
