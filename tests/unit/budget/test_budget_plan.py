"""Observations, the policy's inputs, and the frontier."""

from __future__ import annotations

import json
from typing import Any

import pytest

from isocost.budget import campaigns, observations, plans, sources
from isocost.core.errors import AlreadyExistsError, FailedPreconditionError, InvalidArgumentError, NotFoundError
from isocost.core.money import Money
from isocost.economics.interval import wilson_interval
from isocost.resources.campaign import Campaign
from isocost.resources.label import Purpose
from isocost.resources.observation import Decision, Evaluation, Observation, Plan
from isocost.resources.task import Source, SourceKind, Task


def evaluation(accuracy: float = 0.8, auroc: float = 0.9, name: str = "evaluation") -> Evaluation:
    low, high = wilson_interval(accuracy, 100)
    return Evaluation(name, 100, accuracy, low, high, auroc)


def observation(run_id: str, n_weak: int, n_human: int, accuracy: float = 0.8, **changes: Any) -> Observation:
    fields: dict[str, Any] = {
        "weak_source_id": "weak" if n_weak else "",
        "human_source_id": "human" if n_human else "",
        **changes,
    }
    return Observation(run_id, "sequential_sft", n_weak, n_human, 0, evaluation(accuracy), **fields)


def record(book: Any, *some: Observation) -> list[Observation]:
    with book.database.write() as connection:
        return [observations.record_observation(connection, "c", each) for each in some]


def make_plan(book: Any, tranche: Money | None = None, **named: str) -> Plan:
    with book.database.write() as connection:
        return plans.make_plan(connection, "c", tranche, **named)


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


def test_the_policy_sees_what_was_bought_to_train_on(book: Any) -> None:
    book.create(n_items=40)
    for source_id, n_labels, purpose in (
        ("weak", 6, Purpose.TRAINING),
        ("weak", 2, Purpose.PILOT),
        ("human", 1, Purpose.PILOT),
        ("human", 2, Purpose.EVALUATION),
        ("human", 3, Purpose.EVALUATION),
    ):
        order = book.order(source_id, n_labels, purpose=purpose)
        book.submit(order, book.items(order))
    open_order = book.order("weak", 5)
    book.submit(open_order, book.items(open_order)[:1])
    (seen,) = record(book, observation("run", 8, 1))
    plan = make_plan(book, Money(200_000))
    given = json.loads(plan.inputs_json)
    available = 1_000_000 - 13_000 - 600_000
    assert given == {
        "weak_price_micros": 1_000,
        "human_price_micros": 100_000,
        "available_micros": available,
        "tranche_micros": 200_000,
        "n_weak": 9,
        "n_human": 1,
        "n_items_free": 21,
        "observations": [{"method": seen.method, "n_weak": 8, "n_human": 1, "seed": 0, "accuracy": 0.8, "n_eval": 100}],
        "weak_source_id": "weak",
        "human_source_id": "human",
    }
    assert make_plan(book).inputs_json == plan.inputs_json.replace(
        '"tranche_micros":200000', f'"tranche_micros":{available}'
    )


def test_the_same_state_gives_the_same_decision_and_it_is_stored(book: Any) -> None:
    book.create()
    first, second = make_plan(book, Money(100_000)), make_plan(book, Money(100_000))
    assert first.decision is Decision.BUY
    assert (first.purchases, first.reason, first.inputs_json) == (
        second.purchases,
        second.reason,
        second.inputs_json,
    )
    (purchase,) = first.purchases
    assert purchase.cost.micros <= 100_000
    assert purchase.source_id in ("weak", "human")
    with book.database.read() as connection:
        assert plans.list_plans(connection, "c") == [first, second]


def test_a_plan_without_money_stops(book: Any) -> None:
    book.create(budget_micros=20_000)
    order = book.order("weak", 20)
    book.submit(order, book.items(order))
    plan = make_plan(book)
    assert (plan.decision, plan.purchases) == (Decision.STOP, ())
    assert plan.reason.startswith("stop")


@pytest.mark.parametrize("kind", list(SourceKind))
def test_a_plan_needs_both_kinds_of_source(book: Any, kind: SourceKind) -> None:
    with book.database.write() as connection:
        task = Task("t", "{x}", ("a", "b"))
        campaigns.create_campaign(connection, Campaign("c", task, Money(10), "strong"))
        sources.create_source(connection, "c", Source("only", kind, Money(1)))
    missing = "HUMAN" if kind is SourceKind.MODEL else "MODEL"
    with pytest.raises(FailedPreconditionError, match=f"no {missing} source"):
        make_plan(book)


@pytest.mark.parametrize("tranche", [Money(0), Money(-1), Money(5, "EUR")])
def test_a_bad_tranche_is_refused(book: Any, tranche: Money) -> None:
    book.create()
    with pytest.raises(InvalidArgumentError) as refusal:
        make_plan(book, tranche)
    assert refusal.value.field == "tranche"


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


def buy(book: Any, source_id: str, prompt_tokens: list[int], purpose: Purpose = Purpose.TRAINING) -> None:
    """Labels of a metered source, 1.5 micros a token."""
    order = book.order(source_id, len(prompt_tokens), purpose=purpose)
    book.submit(order, book.items(order), prompt_tokens=prompt_tokens)


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


def test_a_plan_expects_the_mean_price_of_metered_labels(book: Any) -> None:
    book.create(budget_micros=100_000, n_items=200)
    book.add_metered()
    before = json.loads(make_plan(book, weak_source_id="metered").inputs_json)
    assert (before["weak_price_micros"], before["weak_unit_price_micros"]) == (1_000, 1_000)
    buy(book, "metered", [100, 101])
    buy(book, "metered", [600], Purpose.EVALUATION)
    plan = make_plan(book, Money(1_520), weak_source_id="metered")
    # (150 + 152) / 2 and rounded up; the evaluation label is not trained on.
    assert json.loads(plan.inputs_json)["weak_price_micros"] == 151
    (purchase,) = plan.purchases
    assert (purchase.source_id, purchase.n_labels, purchase.cost.micros) == ("metered", 10, 1_510)


def test_a_plan_buys_no_more_metered_labels_than_can_be_reserved(book: Any) -> None:
    book.create(budget_micros=10_000, n_items=200)
    book.add_metered()
    buy(book, "metered", [1, 3])
    plan = make_plan(book, weak_source_id="metered")
    (purchase,) = plan.purchases
    assert (purchase.n_labels, purchase.cost.micros) == (9, 9 * 4)
    assert "reserves 9 of them at up to $0.001 each" in plan.reason
    assert book.order("metered", purchase.n_labels).n_labels == 9


def test_a_plan_stops_where_not_one_metered_label_can_be_reserved(book: Any) -> None:
    book.create(budget_micros=1_001, n_items=200)
    book.add_metered()
    buy(book, "metered", [2])
    plan = make_plan(book, weak_source_id="metered")
    assert (plan.decision, plan.purchases) == (Decision.STOP, ())
    assert json.loads(plan.inputs_json)["weak_price_micros"] == 1_000


def test_a_plan_for_named_sources_counts_their_labels_and_runs_alone(book: Any) -> None:
    book.create(n_items=60)
    with book.database.write() as connection:
        for source in (
            Source("weak2", SourceKind.MODEL, Money(2_000)),
            Source("human2", SourceKind.HUMAN, Money(50_000)),
        ):
            sources.create_source(connection, "c", source)
    for source_id, n_labels in (("weak", 4), ("weak2", 6), ("human", 1), ("human2", 2)):
        order = book.order(source_id, n_labels)
        book.submit(order, book.items(order))
    record(
        book,
        observation("a", 4, 0),
        observation("b", 6, 0, weak_source_id="weak2"),
        observation("c", 0, 1),
        observation("d", 6, 2, weak_source_id="weak2", human_source_id="human2"),
    )

    def seen(**named: str) -> tuple[Any, ...]:
        given = json.loads(make_plan(book, None, **named).inputs_json)
        names = ("weak_source_id", "n_weak", "weak_price_micros", "human_source_id", "n_human", "human_price_micros")
        runs = [(run["n_weak"], run["n_human"]) for run in given["observations"]]
        return (*(given[name] for name in names), runs)

    every = [(4, 0), (6, 0), (0, 1), (6, 2)]
    assert seen() == ("weak", 10, 1_000, "human", 3, 100_000, every)
    assert seen(weak_source_id="weak2") == ("weak2", 6, 2_000, "human", 3, 100_000, [(6, 0), (0, 1), (6, 2)])
    assert seen(human_source_id="human") == ("weak", 10, 1_000, "human", 1, 100_000, [(4, 0), (6, 0), (0, 1)])
    assert seen(weak_source_id="weak2", human_source_id="human2") == (
        ("weak2", 6, 2_000, "human2", 2, 50_000, [(6, 0), (6, 2)])
    )


@pytest.mark.parametrize(
    ("named", "error", "complaint"),
    [
        ({"weak_source_id": "human"}, InvalidArgumentError, "'human' is a HUMAN source; name a MODEL one"),
        ({"human_source_id": "weak"}, InvalidArgumentError, "'weak' is a MODEL source; name a HUMAN one"),
        ({"weak_source_id": "nobody"}, NotFoundError, "no source 'nobody'"),
        ({"human_source_id": "nobody"}, NotFoundError, "no source 'nobody'"),
    ],
)
def test_a_plan_for_a_source_that_cannot_be_is_refused(
    book: Any, named: dict[str, str], error: type[Any], complaint: str
) -> None:
    book.create()
    with pytest.raises(error, match=complaint) as refusal:
        make_plan(book, None, **named)
    assert [refusal.value.field] == list(named)
