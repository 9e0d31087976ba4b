"""How often sources give the answers of people, measured on the stored labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from isocost.budget import labels, sources
from isocost.budget.plan_inputs import PlanRequest
from isocost.budget.plans import make_plan
from isocost.budget.source_accuracy import MeasuredAccuracy, measure_sources
from isocost.core.money import Money
from isocost.resources.campaign import Order, Sampling, Sharing
from isocost.resources.label import Label, Purpose, one_hot
from isocost.resources.task import Item, Source, SourceKind


def answer(book: Any, order: Order, choices: Mapping[str, int] | Sequence[int], annotator: str = "") -> dict[str, int]:
    """Answers an order's items with these choices, by item or in the order's sequence; returns them by item."""
    given = dict(choices) if isinstance(choices, Mapping) else dict(zip(book.items(order), choices, strict=True))
    some = [Label(item_id, one_hot(choice, 2), annotator) for item_id, choice in given.items()]
    with book.database.write() as connection:
        labels.submit_labels(connection, order.order_id, some)
    return given


def measure(book: Any) -> dict[str, MeasuredAccuracy]:
    with book.database.read() as connection:
        return measure_sources(connection, "c", sources.list_sources(connection, "c"))


def add(book: Any, source_id: str, kind: SourceKind) -> None:
    with book.database.write() as connection:
        sources.create_source(connection, "c", Source(source_id, kind, Money(500)))


@pytest.fixture
def pilot(book: Any) -> Order:
    """A campaign whose people have answered twelve items, all with choice 1."""
    book.create(budget_micros=100_000_000, n_items=100)
    order: Order = book.order("human", 12, purpose=Purpose.PILOT)
    answer(book, order, [1] * 12)
    return order


def test_a_weak_source_is_measured_on_the_items_that_people_have_answered(book: Any, pilot: Order) -> None:
    beside = book.order("weak", 12, purpose=Purpose.EVALUATION, items_of=pilot.order_id, sharing=Sharing.ALL)
    answer(book, beside, [1] * 9 + [0] * 3)
    # Labels of other items tell nothing.
    training = book.order("weak", 20)
    answer(book, training, [0] * 20)
    assert measure(book) == {"weak": MeasuredAccuracy(12, 9), "human": MeasuredAccuracy()}
    with book.database.write() as connection:
        plan = make_plan(connection, "c", PlanRequest())
    assert plan.inputs is not None
    (weak,), (human,) = plan.inputs.policy.weak, plan.inputs.policy.human
    assert (weak.accuracy, weak.n_measured, weak.n_bought) == (0.75, 12, 20)
    assert (human.accuracy, human.n_measured, human.n_bought) == (None, 0, 12)


@pytest.mark.parametrize(("n_measured", "accuracy"), [(9, None), (10, 1.0)])
def test_fewer_than_ten_items_say_nothing(book: Any, pilot: Order, n_measured: int, accuracy: float | None) -> None:
    beside = book.order("weak", n_measured, purpose=Purpose.EVALUATION, items_of=pilot.order_id, sharing=Sharing.ALL)
    answer(book, beside, [1] * n_measured)
    measured = measure(book)["weak"]
    assert (measured.n_measured, measured.accuracy) == (n_measured, accuracy)


def test_the_purpose_of_the_labels_makes_no_difference(book: Any, pilot: Order) -> None:
    evaluation = book.order("human", 4, purpose=Purpose.EVALUATION)
    answer(book, evaluation, [0, 0, 1, 1])
    for number, order in enumerate((pilot, evaluation)):
        purpose = (Purpose.TRAINING, Purpose.PILOT)[number]
        beside = book.order("weak", 4, purpose=purpose, items_of=order.order_id, sharing=Sharing.ALL)
        answer(book, beside, [1, 1, 1, 1])
    assert measure(book)["weak"] == MeasuredAccuracy(8, 6)


def test_what_the_oldest_human_source_says_first_is_right(book: Any, pilot: Order) -> None:
    add(book, "crowd", SourceKind.HUMAN)
    crowd = book.order("crowd", 12, purpose=Purpose.PILOT, items_of=pilot.order_id, sharing=Sharing.ALL)
    answer(book, crowd, [1] * 3 + [0] * 9)
    beside = book.order("weak", 12, purpose=Purpose.EVALUATION, items_of=pilot.order_id, sharing=Sharing.ALL)
    answer(book, beside, [1] * 11 + [0])
    assert measure(book) == {
        "weak": MeasuredAccuracy(12, 11),
        "human": MeasuredAccuracy(),
        "crowd": MeasuredAccuracy(12, 3),
    }


def test_a_label_of_another_human_source_is_right_where_the_oldest_has_none(book: Any, pilot: Order) -> None:
    assert pilot.n_labels == 12
    add(book, "crowd", SourceKind.HUMAN)
    crowd = book.order("crowd", 5, purpose=Purpose.PILOT)
    answer(book, crowd, [0] * 5)
    beside = book.order("weak", 5, purpose=Purpose.EVALUATION, items_of=crowd.order_id, sharing=Sharing.ALL)
    answer(book, beside, [0, 0, 0, 0, 1])
    measured = measure(book)
    # The crowd itself is measured against the oldest alone.
    assert (measured["weak"], measured["crowd"]) == (MeasuredAccuracy(5, 4), MeasuredAccuracy())


def test_of_several_annotators_the_first_counts(book: Any) -> None:
    book.create(n_items=30)
    order = book.order("human", 4, purpose=Purpose.PILOT, overlap=2)
    ann = answer(book, order, [1, 1], "ann")
    answer(book, order, dict.fromkeys(ann, 0), "bob")
    beside = book.order("weak", 2, purpose=Purpose.EVALUATION, items_of=order.order_id, sharing=Sharing.ALL)
    answer(book, beside, [1, 0])
    assert measure(book)["weak"] == MeasuredAccuracy(2, 1)


def test_items_chosen_for_being_uncertain_are_left_out(book: Any, pilot: Order) -> None:
    beside = book.order("weak", 12, purpose=Purpose.EVALUATION, items_of=pilot.order_id, sharing=Sharing.ALL)
    answer(book, beside, [1] * 12)
    training = book.order("weak", 15)
    items = answer(book, training, [1] * 15)
    book.score(dict.fromkeys(items, 1.0))
    uncertain = book.order(
        "human", 15, purpose=Purpose.TRAINING, sampling=Sampling.UNCERTAINTY, sharing=Sharing.SOURCES
    )
    assert set(book.items(uncertain)) & set(items)
    answer(book, uncertain, [0] * 15)
    assert measure(book)["weak"] == MeasuredAccuracy(12, 12)


def test_answers_to_gold_questions_are_left_out(book: Any, pilot: Order) -> None:
    add(book, "crowd", SourceKind.HUMAN)
    answer(book, book.order("crowd", 2, purpose=Purpose.PILOT, items_of=pilot.order_id), [1, 1])
    book.add([Item(f"gold{index}", {"claim": "x"}, gold_choice=1) for index in range(3)])
    items = answer(book, book.order("human", 3, purpose=Purpose.GOLD_QUESTION), [1] * 3)
    answer(book, book.order("crowd", 3, purpose=Purpose.GOLD_QUESTION), dict.fromkeys(items, 0))
    assert measure(book)["crowd"] == MeasuredAccuracy(2, 2)


def test_another_campaign_is_not_looked_at(book: Any, pilot: Order) -> None:
    beside = book.order("weak", 2, purpose=Purpose.EVALUATION, items_of=pilot.order_id, sharing=Sharing.ALL)
    answer(book, beside, [1, 0])
    book.create("other", n_items=100)
    order = book.order("human", 5, campaign_id="other", purpose=Purpose.PILOT)
    answer(book, order, [1] * 5)
    answer(book, book.order("weak", 5, campaign_id="other", items_of=order.order_id, sharing=Sharing.ALL), [1] * 5)
    assert measure(book)["weak"] == MeasuredAccuracy(2, 1)
