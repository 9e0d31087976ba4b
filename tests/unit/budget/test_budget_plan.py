"""Plans: what the policy is given, what becomes of its decision, and that both can be read again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from isocost.budget import campaigns, plans, sources
from isocost.budget.plan_inputs import PlanRequest
from isocost.core.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from isocost.core.money import Money
from isocost.economics.frontier import ObservedPoint
from isocost.economics.policy.adaptive import AdaptivePolicy
from isocost.economics.policy.decision import (
    Explanation,
    LineForecast,
    PolicyDecision,
    SourcePurchase,
)
from isocost.economics.policy.decision import TrancheValue as SourceTrancheValue
from isocost.economics.policy.inputs import PolicyInputs, SourceState
from isocost.economics.regime import Regime
from isocost.resources.campaign import Campaign
from isocost.resources.label import Purpose
from isocost.resources.plan import Decision, Plan, PlanExplanation, TrancheValue
from isocost.resources.plan_inputs import PlanInputs
from isocost.resources.task import Source, SourceKind, Task
from tests.unit.budget.observed import buy, observation, record


def make_plan(book: Any, tranche: Money | None = None, **asked: Any) -> Plan:
    with book.database.write() as connection:
        return plans.make_plan(connection, "c", PlanRequest(tranche, **asked))


def given(plan: Plan) -> PolicyInputs:
    assert plan.inputs is not None
    return plan.inputs.policy


@dataclass
class Scripted:
    """A policy that buys what a test says, and keeps what it was given."""

    purchases: tuple[SourcePurchase, ...] = ()
    explanation: Explanation | None = None
    name: str = "scripted"
    seen: list[PolicyInputs] = field(default_factory=list)

    def decide(self, inputs: PolicyInputs) -> PolicyDecision:
        self.seen.append(inputs)
        return PolicyDecision(self.purchases, "because", None, self.explanation)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    policy = Scripted()
    monkeypatch.setattr(plans, "AdaptivePolicy", lambda held_out_datasets: policy)
    return policy


def add_sources(book: Any, *some: Source) -> None:
    with book.database.write() as connection:
        for source in some:
            sources.create_source(connection, "c", source)


def fill(book: Any) -> None:
    """Two sources of each kind, labels of all, and runs on them."""
    book.create(n_items=60, budget_micros=2_000_000)
    add_sources(
        book,
        Source("weak2", SourceKind.MODEL, Money(2_000)),
        Source("human2", SourceKind.HUMAN, Money(50_000)),
    )
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


def test_the_policy_sees_what_was_bought_to_train_on(book: Any, scripted: Scripted) -> None:
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
    before = make_plan(book)
    # As nothing was observed yet, by what is bought to measure with.
    assert given(before).n_eval == 5
    (seen,) = record(book, observation("run", 8, 1))
    plan = make_plan(book, Money(200_000), target_accuracy=0.9, gain_min=0.25)
    available = 1_000_000 - 13_000 - 600_000
    assert given(plan) == PolicyInputs(
        weak=(SourceState("weak", 1_000, n_bought=9),),
        human=(SourceState("human", 100_000, n_bought=1),),
        available_micros=available,
        tranche_micros=200_000,
        n_items_free=21,
        observations=(ObservedPoint(seen.method, 8, 1, 0, 0.8, 100, "weak", "human"),),
        n_choices=2,
        target_accuracy=0.9,
        gain_min=0.25,
        n_eval=100,
    )
    assert scripted.seen == [given(before), given(plan)]
    asked_for_less = given(make_plan(book))
    assert asked_for_less.tranche_micros == available
    assert asked_for_less.target_accuracy is None
    assert asked_for_less.gain_min == PolicyInputs.__dataclass_fields__["gain_min"].default


def test_the_number_of_choices_is_the_tasks(book: Any) -> None:
    with book.database.write() as connection:
        task = Task("t", "{x}", ("a", "b", "c"))
        campaigns.create_campaign(connection, Campaign("c", task, Money(1_000_000), "strong"))
    add_sources(book, Source("weak", SourceKind.MODEL, Money(10)), Source("human", SourceKind.HUMAN, Money(100)))
    plan = make_plan(book, target_accuracy=0.4)
    assert (given(plan).n_choices, given(plan).n_eval) == (3, None)


def test_the_same_state_gives_the_same_decision_and_it_is_stored(book: Any) -> None:
    fill(book)
    first, second = make_plan(book, Money(200_000)), make_plan(book, Money(200_000))
    assert first.plan_id != second.plan_id
    for name in ("decision", "purchases", "reason", "regime", "policy", "explanation", "inputs_json"):
        assert getattr(first, name) == getattr(second, name)
    assert first.policy == "adaptive"
    with book.database.read() as connection:
        assert plans.list_plans(connection, "c") == [first, second]


@pytest.mark.parametrize(
    "asked", [{}, {"weak_source_id": "weak2", "human_source_id": "human2"}, {"target_accuracy": 0.85, "gain_min": 0.0}]
)
def test_a_stored_plan_is_made_again_from_its_inputs_alone(book: Any, asked: dict[str, Any]) -> None:
    fill(book)
    book.add_metered()
    buy(book, "metered", [101, 203, 3])
    made = make_plan(book, Money(300_000), **asked)
    with book.database.read() as connection:
        (stored,) = plans.list_plans(connection, "c")
    inputs = PlanInputs.from_json(stored.inputs_json)
    again = plans.decide(inputs, AdaptivePolicy())
    assert again.explanation is not None
    assert (stored.decision, stored.purchases, stored.reason, stored.regime, stored.policy, stored.explanation) == (
        again.decision,
        again.purchases,
        again.reason,
        again.regime,
        again.policy,
        PlanExplanation.of(again.explanation, inputs.currency_code),
    )
    assert inputs.to_json() == stored.inputs_json == made.inputs_json


def test_what_explains_a_plan_is_stored_and_listed(book: Any, scripted: Scripted) -> None:
    book.create()
    scripted.explanation = Explanation(
        (LineForecast(0.0, 0, 10, 0.71, 0.6, 0.8, 0.25), LineForecast(1.0, 1_000, 0, 0.75, 0.7, 0.8, 0.75)),
        Regime.QUANTITY_DOMINANT,
        0.7,
        (SourceTrancheValue("weak", 3, 3_000, 0.01, 0.02), SourceTrancheValue("human", 0, 0, 0.0, 0.0)),
        0.6,
        0.75,
    )
    scripted.purchases = (SourcePurchase("weak", 3, 0.01),)
    made = make_plan(book, Money(3_000))
    with book.database.read() as connection:
        assert plans.list_plans(connection, "c") == [made]
    assert made.regime is Regime.QUANTITY_DOMINANT
    assert made.explanation == PlanExplanation(
        scripted.explanation.line,
        0.7,
        (TrancheValue("weak", 3, Money(3_000), 0.01, 0.02), TrancheValue("human", 0, Money(0), 0.0, 0.0)),
        0.6,
        0.75,
    )


def test_a_policy_need_not_explain_itself(book: Any, scripted: Scripted) -> None:
    book.create()
    scripted.purchases = (SourcePurchase("weak", 2),)
    made = make_plan(book)
    assert (made.explanation, made.regime, made.policy) == (None, Regime.UNSPECIFIED, "scripted")
    with book.database.read() as connection:
        assert plans.list_plans(connection, "c") == [made]


@pytest.mark.parametrize("tranche_micros", [1_000, 99_999, 150_000, 320_000, None])
def test_a_plan_costs_at_most_the_tranche_and_what_is_available(book: Any, tranche_micros: int | None) -> None:
    fill(book)
    plan = make_plan(book, None if tranche_micros is None else Money(tranche_micros))
    available = book.balance().available.micros
    assert sum(purchase.cost.micros for purchase in plan.purchases) <= min(tranche_micros or available, available)
    assert sum(purchase.n_labels for purchase in plan.purchases) <= book.n_free()
    known = {"weak": 1_000, "weak2": 2_000, "human": 100_000, "human2": 50_000}
    for purchase in plan.purchases:
        assert purchase.n_labels > 0
        assert purchase.cost.micros == purchase.n_labels * known[purchase.source_id]
        assert book.order(purchase.source_id, purchase.n_labels).n_labels == purchase.n_labels


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


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ({"target_accuracy": 0.5}, "above that of guessing, 0.5, and below 1"),
        ({"target_accuracy": 1.0}, "below 1"),
        ({"target_accuracy": float("nan")}, "nan; must be above"),
        ({"gain_min": -0.01}, "from 0 to below 1"),
        ({"gain_min": 1.0}, "from 0 to below 1"),
        ({"gain_min": float("nan")}, "from 0 to below 1"),
    ],
)
def test_a_target_that_cannot_be_is_refused_by_name(book: Any, asked: dict[str, Any], complaint: str) -> None:
    book.create()
    with pytest.raises(InvalidArgumentError, match=complaint) as refusal:
        make_plan(book, **asked)
    assert [refusal.value.field] == list(asked)


def test_a_plan_expects_the_mean_price_of_metered_labels(book: Any, scripted: Scripted) -> None:
    book.create(budget_micros=100_000, n_items=200)
    book.add_metered()
    (before,) = given(make_plan(book, weak_source_id="metered")).weak
    assert before.price_micros == 1_000
    buy(book, "metered", [100, 101])
    buy(book, "metered", [600], Purpose.EVALUATION)
    scripted.purchases = (SourcePurchase("metered", 10, 0.1),)
    plan = make_plan(book, Money(1_520), weak_source_id="metered")
    # (150 + 152) / 2 and rounded up; the evaluation label is not trained on.
    assert given(plan).weak == (SourceState("metered", 151, n_bought=2),)
    (purchase,) = plan.purchases
    assert (purchase.source_id, purchase.n_labels, purchase.cost.micros) == ("metered", 10, 1_510)
    assert purchase.expected_gain == 0.1


def test_a_plan_buys_no_more_metered_labels_than_can_be_reserved(book: Any, scripted: Scripted) -> None:
    book.create(budget_micros=10_000, n_items=200)
    book.add_metered()
    buy(book, "metered", [1, 3])
    scripted.purchases = (SourcePurchase("metered", 100),)
    plan = make_plan(book, weak_source_id="metered")
    (purchase,) = plan.purchases
    assert (purchase.n_labels, purchase.cost.micros) == (9, 9 * 4)
    assert "reserves 9 of the metered labels at up to $0.001 each" in plan.reason
    assert book.order("metered", purchase.n_labels).n_labels == 9


def test_what_has_a_fixed_price_is_reserved_beside_metered_labels(book: Any, scripted: Scripted) -> None:
    book.create(budget_micros=207_500, n_items=200)
    book.add_metered()
    buy(book, "metered", [1, 3])
    scripted.purchases = (SourcePurchase("metered", 100), SourcePurchase("human", 2), SourcePurchase("weak", 3))
    bought = [(purchase.source_id, purchase.n_labels) for purchase in make_plan(book).purchases]
    assert bought == [("metered", 4), ("human", 2), ("weak", 3)]
    for source_id, n_labels in bought:
        # The money for all of them is there at once.
        assert book.order(source_id, n_labels).n_labels == n_labels


def test_a_plan_stops_where_not_one_metered_label_can_be_reserved(book: Any) -> None:
    book.create(budget_micros=1_001, n_items=200)
    book.add_metered()
    buy(book, "metered", [2])
    plan = make_plan(book, weak_source_id="metered")
    assert (plan.decision, plan.purchases) == (Decision.STOP, ())
    assert given(plan).weak[0].price_micros == 1_000


def test_a_plan_for_named_sources_counts_their_labels_and_runs_alone(book: Any) -> None:
    fill(book)

    def seen(**named: str) -> tuple[Any, ...]:
        inputs = given(make_plan(book, None, **named))
        states = [(state.source_id, state.n_bought, state.price_micros) for state in (*inputs.weak, *inputs.human)]
        return states, [(run.n_weak, run.n_human) for run in inputs.observations]

    weak, weak2 = ("weak", 4, 1_000), ("weak2", 6, 2_000)
    human, human2 = ("human", 1, 100_000), ("human2", 2, 50_000)
    assert seen() == ([weak, weak2, human, human2], [(4, 0), (6, 0), (0, 1), (6, 2)])
    assert seen(weak_source_id="weak2") == ([weak2, human, human2], [(6, 0), (0, 1), (6, 2)])
    assert seen(human_source_id="human") == ([weak, weak2, human], [(4, 0), (6, 0), (0, 1)])
    assert seen(weak_source_id="weak2", human_source_id="human2") == ([weak2, human2], [(6, 0), (6, 2)])


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


@pytest.mark.parametrize("text", ["", "{}", "[]", "3", '{"weak_price_micros":1,"n_weak":2}'])
def test_the_inputs_of_another_policy_are_not_taken_for_these(text: str) -> None:
    with pytest.raises(InvalidArgumentError) as refusal:
        PlanInputs.from_json(text)
    assert refusal.value.field == "inputs_json"


def test_inputs_are_written_and_read_with_all_they_may_hold() -> None:
    policy = PolicyInputs(
        weak=(SourceState("w", 3, 4, 1 / 3, 17),),
        human=(SourceState("h", 5),),
        available_micros=9,
        tranche_micros=8,
        n_items_free=7,
        observations=(ObservedPoint("m", 1, 2, 3, 0.1 + 0.2, 5, "w", "h"),),
        menu=((0, 1), (2, 3)),
        n_choices=4,
        target_accuracy=0.7,
        gain_min=0.01,
        n_eval=None,
    )
    inputs = PlanInputs(policy, {"w": 4, "h": 5}, "EUR", "claims")
    assert PlanInputs.from_json(inputs.to_json()) == inputs
