"""Orders beyond the plain one: overlap, expiry, uncertainty, sharing."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from isocost.budget import pool
from isocost.budget.proof import verify_campaign
from isocost.core.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from isocost.resources.campaign import EntryKind, OrderState, Sampling, Sharing
from isocost.resources.label import Purpose
from isocost.resources.pool import ItemState


def _verify(book: Any) -> None:
    with book.database.read() as connection:
        verify_campaign(connection, "c")


def test_overlap_asks_several_annotators_for_each_item(book: Any) -> None:
    book.create()
    order = book.order("human", 6, overlap=3)
    assert (order.n_items, order.n_labels) == (2, 6)
    first, second = book.items(order)
    assert book.balance().reserved.micros == 600_000
    assert book.n_free() == 18
    for annotator in ("ann", "bob", "cid"):
        assert book.submit(order, [first], annotator=annotator).n_accepted == 1
    assert book.submit(order, [first], annotator="ann").n_duplicate == 1
    with pytest.raises(FailedPreconditionError, match=r"labelled in this order by 'ann', 'bob', 'cid'.*3 labels"):
        book.submit(order, [first], annotator="dan")
    assert book.items(order, pending_only=True) == [second]
    book.submit(order, [second], annotator="ann")
    done = book.cancel(order)
    assert (done.n_settled, done.n_released, done.state) == (4, 2, OrderState.CANCELLED)
    # Answered by one annotator, so it stays the order's.
    assert book.n_free() == 18
    _verify(book)


@pytest.mark.parametrize(
    ("source_id", "n_labels", "choice", "field"),
    [
        ("human", 5, {"overlap": 2}, "n_labels"),
        ("human", 2, {"overlap": 101}, "overlap"),
        ("weak", 2, {"overlap": 2}, "overlap"),
        ("weak", 1, {"purpose": Purpose.GOLD_QUESTION}, "purpose"),
        ("human", 2, {"time_to_live": timedelta(0)}, "time_to_live"),
        ("human", 3, {"item_ids": ["i1"], "overlap": 2}, "n_labels"),
    ],
)
def test_an_order_that_cannot_be_is_refused_by_name(
    book: Any, source_id: str, n_labels: int, choice: dict[str, Any], field: str
) -> None:
    book.create()
    with pytest.raises(InvalidArgumentError) as refusal:
        book.order(source_id, n_labels, **choice)
    assert refusal.value.field == field
    assert book.n_free() == 20


def test_an_order_expires_and_its_money_and_items_are_free_again(book: Any, moving_clock: Any) -> None:
    book.create()
    order = book.order("human", 3, time_to_live=timedelta(hours=1))
    answered, late, _ = book.items(order)
    book.submit(order, [answered])
    moving_clock.advance(hours=1)
    with pytest.raises(FailedPreconditionError, match="expired at"):
        book.submit(order, [late])
    assert book.submit(order, [answered]).n_duplicate == 1
    assert book.expire() == (2, 0)
    assert book.expire() == (0, 0)
    after = book.read_order(order)
    assert (after.state, after.n_settled, after.n_released) == (OrderState.EXPIRED, 1, 2)
    assert (book.balance().settled.micros, book.balance().reserved.micros) == (100_000, 0)
    assert book.n_free() == 19
    assert book.entries()[-1].kind is EntryKind.EXPIRE
    _verify(book)


def test_what_has_expired_pays_for_a_new_order_at_once(book: Any, moving_clock: Any) -> None:
    book.create(budget_micros=300_000)
    book.order("human", 3, time_to_live=timedelta(minutes=1))
    moving_clock.advance(minutes=2)
    assert book.order("human", 3).n_labels == 3
    _verify(book)


def test_the_most_uncertain_items_come_first(book: Any) -> None:
    book.create()
    book.score({"i3": 0.2, "i9": 0.9, "i5": 0.9, "i7": 0.1})
    book.score({"i7": 0.95})
    by_shuffle = sorted(["i5", "i9"], key=lambda item_id: pool.shuffle_key("c", item_id))
    assert book.items(book.order("human", 3, sampling=Sampling.UNCERTAINTY)) == ["i7", *by_shuffle]
    with pytest.raises(FailedPreconditionError, match=r"2 items with an uncertainty.*only 1.*ScoreItems"):
        book.order("human", 2, sampling=Sampling.UNCERTAINTY)
    with pytest.raises(NotFoundError, match="'i99' is not in the pool") as refusal:
        book.score({"i1": 0.5, "i99": 0.5})
    assert refusal.value.field == "scores[1].item_id"


def test_shared_items_get_labels_of_several_sources(book: Any) -> None:
    book.create(budget_micros=10_000_000)
    weak = book.order("weak", 12)
    evaluation = book.order("human", 8, purpose=Purpose.EVALUATION)
    assert book.n_free() == 0
    with pytest.raises(FailedPreconditionError, match="only 0 of the pool are free"):
        book.order("human", 1)
    shared = book.order("human", 2, sharing=Sharing.SOURCES)
    # In shuffle order among all that may be shared, so the weak order's first; never an evaluation item.
    assert book.items(shared) == book.items(weak)[:2]
    with pytest.raises(FailedPreconditionError, match="11 items are asked for, but only 10"):
        book.order("human", 11, sharing=Sharing.SOURCES)
    with pytest.raises(FailedPreconditionError, match="is taken by order"):
        book.order("human", item_ids=[book.items(evaluation)[0]], sharing=Sharing.SOURCES)
    anything = book.order("weak", 8, sharing=Sharing.ALL)
    assert set(book.items(anything)) == set(book.items(evaluation))
    book.submit(shared, book.items(shared))
    book.submit(weak, book.items(weak))
    _verify(book)


def test_a_shared_item_passes_to_the_next_holder(book: Any) -> None:
    book.create(n_items=2)
    weak = book.order("weak", 2)
    shared = book.order("human", 2, sharing=Sharing.SOURCES)
    book.cancel(weak)
    assert book.n_free() == 0
    with book.database.read() as connection:
        found = pool.pool_items(connection, "c", after_item_id="", limit=10, state=ItemState.ORDERED)
    assert {item.order_id for item in found} == {shared.order_id}
    _verify(book)
    book.cancel(shared)
    assert book.n_free() == 2
    _verify(book)


def test_a_source_is_never_paid_twice_for_one_annotators_answer(book: Any) -> None:
    book.create(n_items=2)
    first = book.order("human", 2)
    book.submit(first, ["i0"], annotator="ann")
    second = book.order("human", item_ids=["i0"], sharing=Sharing.ALL)
    with pytest.raises(FailedPreconditionError, match=r"'ann' has answered 'i0' for this source in order"):
        book.submit(second, ["i0"], annotator="ann")
    assert book.submit(second, ["i0"], annotator="bob").n_accepted == 1
    with pytest.raises(FailedPreconditionError, match="taken"):
        book.order("weak", item_ids=["i0"])
    _verify(book)


def test_items_are_listed_by_where_they_stand(book: Any) -> None:
    book.create(n_items=4)
    book.score({"i2": 0.5})
    order = book.order("weak", item_ids=["i1"])

    def listed(state: ItemState | None = None, after: str = "", limit: int = 10) -> list[str]:
        with book.database.read() as connection:
            found = pool.pool_items(connection, "c", after_item_id=after, limit=limit, state=state)
        return [item.item.item_id for item in found]

    assert listed() == ["i0", "i1", "i2", "i3"]
    assert listed(after="i1", limit=1) == ["i2"]
    assert listed(ItemState.FREE) == ["i0", "i2", "i3"]
    assert listed(ItemState.ORDERED) == ["i1"]
    assert listed(ItemState.GOLD_QUESTION) == []
    with book.database.read() as connection:
        _, taken, scored, _ = pool.pool_items(connection, "c", after_item_id="", limit=10)
    assert (taken.state, taken.order_id, taken.uncertainty) == (ItemState.ORDERED, order.order_id, None)
    assert (scored.state, scored.order_id, scored.uncertainty) == (ItemState.FREE, "", 0.5)
