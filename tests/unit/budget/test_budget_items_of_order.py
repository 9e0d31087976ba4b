"""Orders for the items of another order: the same items, another source, nothing taken a second time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from isocost.budget.proof import verify_campaign
from isocost.core.errors import BudgetExceededError, FailedPreconditionError, InvalidArgumentError, NotFoundError
from isocost.resources.campaign import OrderState, Sampling, Sharing
from isocost.resources.label import Purpose
from isocost.resources.task import Item


@pytest.fixture
def measured(book: Any) -> Any:
    """$10, 20 items, two weak sources and a human one."""
    book.create(budget_micros=10_000_000)
    book.add_metered()
    return book


def _verify(book: Any) -> None:
    with book.database.read() as connection:
        verify_campaign(connection, "c")


def test_the_first_items_of_the_other_order_are_labelled_once_more(measured: Any) -> None:
    human = measured.order("human", 6, purpose=Purpose.EVALUATION, overlap=2)
    for annotator in ("ann", "bob"):
        measured.submit(human, measured.items(human), annotator=annotator)
    n_free = measured.n_free()
    weak = measured.order("weak", 2, purpose=Purpose.EVALUATION, items_of=human.order_id)
    assert measured.items(weak) == measured.items(human)[:2]
    assert (weak.sampling, weak.sharing, weak.items_of_order_id) == (Sampling.GIVEN, Sharing.SOURCES, human.order_id)
    assert measured.read_order(weak) == weak
    assert measured.n_free() == n_free
    assert measured.submit(weak, measured.items(weak)).order.state is OrderState.SETTLED
    _verify(measured)


def test_items_of_a_weak_order_are_asked_of_several_people(measured: Any) -> None:
    given = measured.order("weak", item_ids=["i7", "i3", "i5"])
    human = measured.order("human", 6, overlap=2, items_of=given.order_id)
    assert measured.items(human) == ["i7", "i3", "i5"]
    assert measured.lease("ann", 5) is not None
    _verify(measured)


def test_an_item_is_not_bought_twice_from_a_model(measured: Any) -> None:
    human = measured.order("human", 5)
    first = measured.order("weak", 2, items_of=human.order_id)
    second = measured.order("weak", 3, items_of=human.order_id)
    assert measured.items(first) + measured.items(second) == measured.items(human)
    with pytest.raises(
        FailedPreconditionError, match=r"1 items of order .* only 0 may be taken.*'weak' already"
    ) as refusal:
        measured.order("weak", 1, items_of=human.order_id, sharing=Sharing.ALL)
    assert refusal.value.field == "n_labels"
    assert measured.items(measured.order("metered", 5, items_of=human.order_id)) == measured.items(human)
    _verify(measured)


def test_what_was_given_up_is_left_out(measured: Any) -> None:
    human = measured.order("human", 4)
    kept, *_ = measured.items(human)
    measured.submit(human, [kept])
    measured.cancel(human)
    with pytest.raises(FailedPreconditionError, match=r"2 items of order .* only 1 may be taken"):
        measured.order("weak", 2, items_of=human.order_id)
    assert measured.items(measured.order("weak", 1, items_of=human.order_id)) == [kept]
    _verify(measured)


def test_what_has_expired_is_given_up_first(measured: Any, moving_clock: Any) -> None:
    human = measured.order("human", 2, time_to_live=timedelta(minutes=1))
    moving_clock.advance(minutes=2)
    with pytest.raises(FailedPreconditionError, match="only 0 may be taken"):
        measured.order("weak", 1, items_of=human.order_id)


def test_training_and_evaluation_stay_apart_unless_all_is_shared(measured: Any) -> None:
    pilot = measured.order("human", 2, purpose=Purpose.PILOT)
    with pytest.raises(FailedPreconditionError, match="set sharing to ALL"):
        measured.order("weak", 2, purpose=Purpose.EVALUATION, items_of=pilot.order_id)
    shared = measured.order("weak", 2, purpose=Purpose.EVALUATION, items_of=pilot.order_id, sharing=Sharing.ALL)
    assert (measured.items(shared), shared.sharing) == (measured.items(pilot), Sharing.ALL)
    _verify(measured)


def test_the_items_stay_with_the_new_order_when_the_other_is_cancelled(measured: Any) -> None:
    human = measured.order("human", 3)
    weak = measured.order("weak", 2, items_of=human.order_id)
    measured.cancel(human)
    assert measured.n_free() == 18
    assert measured.submit(weak, measured.items(weak)).n_accepted == 2
    _verify(measured)
    other = measured.order("human", 3, purpose=Purpose.TRAINING)
    assert not set(measured.items(other)) & set(measured.items(weak))
    _verify(measured)


def test_the_items_stay_with_the_other_order_when_the_new_one_is_cancelled(measured: Any) -> None:
    human = measured.order("human", 3)
    weak = measured.order("weak", 3, items_of=human.order_id)
    measured.cancel(weak)
    assert measured.n_free() == 17
    assert len(measured.items(human, pending_only=True)) == 3
    # Given up, so they may be bought once more.
    assert measured.items(measured.order("weak", 3, items_of=human.order_id)) == measured.items(human)
    _verify(measured)


def test_a_finished_campaign_gives_up_both(measured: Any) -> None:
    human = measured.order("human", 2)
    measured.order("weak", 2, items_of=human.order_id)
    measured.finish()
    assert measured.n_free() == 20
    assert measured.balance().reserved.micros == 0
    _verify(measured)


def test_gold_questions_are_asked_of_another_source_as_gold_questions(measured: Any) -> None:
    measured.add([Item("g", {"claim": "gold"}, 1)])
    gold = measured.order("human", 1, purpose=Purpose.GOLD_QUESTION)
    with pytest.raises(InvalidArgumentError, match="is for GOLD_QUESTION") as refusal:
        measured.order("weak", 1, items_of=gold.order_id)
    assert refusal.value.field == "items_of_order_id"
    with pytest.raises(InvalidArgumentError, match="only people are asked so"):
        measured.order("weak", 1, purpose=Purpose.GOLD_QUESTION, items_of=gold.order_id)


def test_money_is_checked_as_for_any_order(book: Any) -> None:
    book.create(budget_micros=200_000)
    weak = book.order("weak", 3)
    with pytest.raises(BudgetExceededError):
        book.order("human", 2, items_of=weak.order_id)
    assert book.order("human", 1, items_of=weak.order_id).n_labels == 1
    _verify(book)


@pytest.mark.parametrize(
    ("source_id", "n_labels", "choice", "field", "complaint"),
    [
        ("human", 2, {}, "items_of_order_id", "buys from 'human' as well"),
        ("weak", 4, {}, "n_labels", r"has 3 items, 1 labels each; order at most 3"),
        ("weak", 0, {}, "n_labels", "must be from 1"),
        ("weak", 2, {"sampling": Sampling.UNCERTAINTY}, "sampling", "UNCERTAINTY"),
        ("weak", 1, {"item_ids": ["i1"]}, "item_ids", "leave out one"),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    measured: Any, source_id: str, n_labels: int, choice: dict[str, Any], field: str, complaint: str
) -> None:
    human = measured.order("human", 3)
    before = measured.balance()
    with pytest.raises(InvalidArgumentError, match=complaint) as refusal:
        measured.order(source_id, n_labels, items_of=human.order_id, **choice)
    assert refusal.value.field == field
    assert measured.balance() == before


def test_the_other_order_is_one_of_the_campaign(measured: Any) -> None:
    measured.create("other")
    elsewhere = measured.order("human", 2, campaign_id="other")
    with pytest.raises(InvalidArgumentError, match="is of campaign 'other'") as refusal:
        measured.order("weak", 1, items_of=elsewhere.order_id)
    assert refusal.value.field == "items_of_order_id"
    with pytest.raises(NotFoundError, match="there is no order 'order-x'") as missing:
        measured.order("weak", 1, items_of="order-x")
    assert missing.value.field == "items_of_order_id"
