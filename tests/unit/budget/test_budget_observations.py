"""Observations and the frontier."""

from __future__ import annotations

from typing import Any

import pytest

from isocost.budget import observations, sources
from isocost.core.errors import AlreadyExistsError, InvalidArgumentError, NotFoundError
from isocost.core.money import Money
from isocost.resources.label import Purpose
from isocost.resources.observation import Observation
from isocost.resources.task import Source, SourceKind
from tests.unit.budget.observed import buy, evaluation, observation, record


def test_an_observation_costs_what_its_labels_cost(book: Any) -> None:
    book.create()
    test = evaluation(name="gold")
    (stored,) = record(book, observation("run", 50, 3, test=test))
    assert stored.cost == Money(50 * 1_000 + 3 * 100_000)
    with book.database.read() as connection:
        assert observations.list_observations(connection, "c") == [stored]
    assert stored.test == test
    with pytest.raises(AlreadyExistsError, match="'run' is recorded already"):
        record(book, observation("run", 50, 3))


@pytest.mark.parametrize(
    ("bad", "error", "field"),
    [
        (observation("r", 1, 0, weak_source_id="nobody"), NotFoundError, "observation.weak_source_id"),
        (observation("r", 1, 0, weak_source_id="human"), InvalidArgumentError, "observation.weak_source_id"),
        (observation("r", 10**9 + 1, 0), InvalidArgumentError, "observation.n_weak"),
        (observation("", 1, 0), InvalidArgumentError, "observation.run_id"),
        (observation("r", 1, 0, test=evaluation(auroc=float("nan"))), InvalidArgumentError, "observation.test.auroc"),
    ],
)
def test_a_bad_observation_is_refused_by_name(book: Any, bad: Observation, error: type[Any], field: str) -> None:
    book.create()
    with pytest.raises(error) as refusal:
        record(book, bad)
    assert refusal.value.field == field


def test_the_frontier_averages_seeds_and_drops_what_is_beaten(book: Any) -> None:
    book.create()
    record(
        book,
        observation("a", 100, 0, 0.60),
        observation("b", 100, 0, 0.70),
        observation("c", 0, 2, 0.64),
        observation("d", 0, 5, 0.90),
    )
    with book.database.read() as connection:
        points = observations.frontier(connection, "c")
    assert [(point.cost.micros, point.n_seeds) for point in points] == [(100_000, 2), (500_000, 1)]
    assert points[0].accuracy == pytest.approx(0.65)
    assert points[0].accuracy_low < 0.65 < points[0].accuracy_high


def test_the_frontier_prices_each_source_by_itself(book: Any) -> None:
    book.create()
    with book.database.write() as connection:
        sources.create_source(connection, "c", Source("dear", SourceKind.MODEL, Money(9_000)))
    record(book, observation("a", 10, 0, 0.6), observation("b", 10, 0, 0.7, weak_source_id="dear"))
    with book.database.read() as connection:
        points = observations.frontier(connection, "c")
    assert [(point.cost.micros, point.accuracy) for point in points] == [(10_000, 0.6), (90_000, 0.7)]


def test_metered_labels_cost_what_the_first_of_them_were_settled_at(book: Any) -> None:
    book.create(n_items=40)
    book.add_metered()
    buy(book, "metered", [100, 200], Purpose.PILOT)
    buy(book, "metered", [600], Purpose.EVALUATION)
    buy(book, "metered", [300, 401])
    seen = record(
        book,
        observation("a", 3, 2, 0.8, weak_source_id="metered"),
        observation("b", 4, 0, 0.7, weak_source_id="metered"),
        observation("c", 4, 0, 0.6, weak_source_id="metered"),
    )
    assert [each.cost.micros for each in seen if each.cost] == [150 + 300 + 450 + 200_000, 1_502, 1_502]
    buy(book, "metered", [500])
    with book.database.read() as connection:
        points = observations.frontier(connection, "c")
    assert [(point.cost.micros, point.n_seeds) for point in points] == [(1_502, 2), (200_900, 1)]


def test_no_more_metered_labels_are_costed_than_were_bought(book: Any) -> None:
    book.create()
    book.add_metered()
    buy(book, "metered", [100, 200])
    with pytest.raises(InvalidArgumentError, match=r"has 2 labels to train on.*at most 2") as refusal:
        record(book, observation("run", 3, 0, weak_source_id="metered"))
    assert refusal.value.field == "observation.n_weak"
