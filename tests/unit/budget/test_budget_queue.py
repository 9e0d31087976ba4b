"""The human queue: leases, late answers, gold questions, counts of annotators."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from isocost.budget import annotators, leases, schema
from isocost.budget.proof import verify_campaign
from isocost.budget.queue import GoldRule, LeaseRequest, answer_items
from isocost.budget.waiting import list_queues
from isocost.core.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from isocost.resources.campaign import OrderState
from isocost.resources.label import Label, Purpose
from isocost.resources.queue import LeaseState
from isocost.resources.task import Item


def _verify(book: Any) -> None:
    with book.database.read() as connection:
        verify_campaign(connection, "c")


def _ids(leased: Any) -> list[str]:
    return [item.item_id for item in leased.items]


def test_a_lease_hands_out_each_item_once(book: Any) -> None:
    book.create()
    order = book.order("human", 4)
    ann, bob = book.lease("ann", 3), book.lease("bob", 3)
    assert sorted(_ids(ann) + _ids(bob)) == sorted(book.items(order))
    assert book.lease("cid") is None
    assert book.items(order, pending_only=True) == []
    assert (ann.lease.n_items, bob.lease.n_items) == (3, 1)
    assert ann.task.choices == ("no", "yes")
    done = book.answer(ann.lease, _ids(ann))
    assert (done.n_accepted, done.lease.state) == (3, LeaseState.ANSWERED)
    assert book.answer(ann.lease, _ids(ann)[:1]).n_duplicate == 1
    assert book.balance().settled.micros == 300_000
    assert book.read_order(order).state is OrderState.OPEN
    book.answer(bob.lease, _ids(bob))
    assert book.read_order(order).state is OrderState.SETTLED
    _verify(book)


def test_oldest_order_first_and_only_of_the_source(book: Any) -> None:
    book.create()
    book.order("weak", 5)
    first, second = book.order("human", 2), book.order("human", 2, purpose=Purpose.EVALUATION)
    assert sorted(_ids(book.lease("ann", 2))) == sorted(book.items(first))
    assert sorted(_ids(book.lease("ann", 9))) == sorted(book.items(second))
    with pytest.raises(InvalidArgumentError, match="is a model"):
        book.lease("ann", source_id="weak")
    with pytest.raises(NotFoundError, match="no source 'nobody'"):
        book.lease("ann", source_id="nobody")


def test_an_annotator_gets_an_item_once_whatever_the_overlap(book: Any) -> None:
    book.create()
    order = book.order("human", 6, overlap=3)
    ann = book.lease("ann")
    assert sorted(_ids(ann)) == sorted(book.items(order))
    assert book.lease("ann") is None
    book.answer(ann.lease, _ids(ann))
    assert book.lease("ann") is None
    for annotator in ("bob", "cid"):
        leased = book.lease(annotator)
        assert sorted(_ids(leased)) == sorted(book.items(order))
        book.answer(leased.lease, _ids(leased))
    assert book.read_order(order).state is OrderState.SETTLED
    _verify(book)


def test_a_lease_expires_unless_it_is_extended(book: Any, moving_clock: Any) -> None:
    book.create()
    book.order("human", 2)
    ann = book.lease("ann", duration=timedelta(minutes=10))
    moving_clock.advance(minutes=9)
    assert book.extend(ann.lease).expire_time == ann.lease.expire_time + timedelta(minutes=9)
    moving_clock.advance(minutes=9)
    assert book.lease("bob") is None
    moving_clock.advance(minutes=1)
    bob = book.lease("bob")
    assert sorted(_ids(bob)) == sorted(_ids(ann))
    assert book.read_lease(ann.lease).state is LeaseState.EXPIRED
    with pytest.raises(FailedPreconditionError, match="is EXPIRED; lease items anew"):
        book.extend(ann.lease)
    with pytest.raises(FailedPreconditionError, match="handed to another") as refusal:
        book.answer(ann.lease, _ids(ann))
    assert refusal.value.field == "labels[0].item_id"
    _verify(book)


def test_heartbeats_keep_a_lease_for_a_day_at_most(book: Any, moving_clock: Any) -> None:
    book.create()
    book.order("human", 1)
    lease = book.lease("ann", duration=timedelta(hours=20)).lease
    moving_clock.advance(hours=19)
    assert book.extend(lease).expire_time == lease.create_time + leases.LEASE_AGE_MAX


def test_a_late_answer_is_taken_while_nobody_else_has_the_item(book: Any, moving_clock: Any) -> None:
    book.create()
    book.order("human", 2)
    ann = book.lease("ann", duration=timedelta(minutes=1))
    moving_clock.advance(minutes=5)
    book.expire()
    done = book.answer(ann.lease, _ids(ann)[:1])
    assert (done.n_accepted, done.lease.state, done.lease.n_answered) == (1, LeaseState.EXPIRED, 1)
    bob = book.lease("bob")
    assert _ids(bob) == _ids(ann)[1:]
    _verify(book)


def test_a_released_lease_gives_its_items_back(book: Any) -> None:
    book.create()
    order = book.order("human", 3)
    ann = book.lease("ann")
    book.answer(ann.lease, _ids(ann)[:1])
    released = book.release(ann.lease)
    assert (released.state, released.n_answered) == (LeaseState.RELEASED, 1)
    assert book.release(ann.lease) == released
    assert len(book.items(order, pending_only=True)) == 2
    assert sorted(_ids(book.lease("bob"))) == sorted(_ids(ann)[1:])
    _verify(book)


def test_work_begun_is_paid_though_the_order_expires(book: Any, moving_clock: Any) -> None:
    book.create()
    order = book.order("human", 3, time_to_live=timedelta(minutes=5))
    ann = book.lease("ann", 1, duration=timedelta(minutes=10))
    moving_clock.advance(minutes=6)
    assert book.lease("bob") is None
    assert book.expire() == (2, 0)
    assert book.read_order(order).state is OrderState.OPEN
    assert book.answer(ann.lease, _ids(ann)).n_accepted == 1
    assert book.read_order(order).state is OrderState.EXPIRED
    assert (book.balance().settled.micros, book.balance().reserved.micros) == (100_000, 0)
    _verify(book)


def test_a_cancelled_order_ends_the_leases_on_it(book: Any) -> None:
    book.create()
    order, other = book.order("human", 2), book.order("human", 1)
    ann, bob = book.lease("ann", 2), book.lease("bob", 1)
    book.cancel(order)
    assert book.read_lease(ann.lease).state is LeaseState.RELEASED
    assert book.read_lease(bob.lease).state is LeaseState.OPEN
    with pytest.raises(FailedPreconditionError, match="awaits no answer any more"):
        book.answer(ann.lease, _ids(ann))
    assert book.answer(bob.lease, book.items(other)).n_accepted == 1
    _verify(book)


def test_a_pipeline_cannot_answer_what_an_annotator_has_in_hand(book: Any) -> None:
    book.create()
    order = book.order("human", 1)
    ann = book.lease("ann")
    with pytest.raises(FailedPreconditionError, match="is leased to an annotator"):
        book.submit(order, _ids(ann))
    with pytest.raises(InvalidArgumentError, match="'i99' is not an item of lease"):
        book.answer(ann.lease, ["i99"])
    assert book.answer(ann.lease, _ids(ann)).n_accepted == 1


def _answer_for(book: Any, lease: Any, *answers: tuple[str, str]) -> Any:
    with book.database.write() as connection:
        labels = [Label(item_id, (0.0, 1.0), annotator=annotator) for item_id, annotator in answers]
        return answer_items(connection, lease.lease_id, labels)


def test_a_tool_answers_for_its_own_annotators_one_answer_an_item(book: Any) -> None:
    book.create()
    order = book.order("human", 6, overlap=2)
    tool = book.lease("tool", 2)
    first, second = _ids(tool)
    assert _answer_for(book, tool.lease, (first, "ann")).n_accepted == 1
    # The item waits for a second annotator, but not under this lease, which counts one answer an item.
    with pytest.raises(FailedPreconditionError, match=r"answered by 'ann' under this lease.*lease it for 'bob'"):
        _answer_for(book, tool.lease, (first, "bob"))
    with pytest.raises(FailedPreconditionError, match="answered by 'bob' under this lease"):
        _answer_for(book, tool.lease, (second, "bob"), (second, "ann"))
    assert _answer_for(book, tool.lease, (first, "ann"), (second, ""), (second, "tool")).n_duplicate == 2
    assert book.read_lease(tool.lease).state is LeaseState.ANSWERED
    with book.database.read() as connection:
        given = {(row.item_id, row.annotator) for row in connection.execute(select(schema.labels))}
    assert given == {(first, "ann"), (second, "tool")}
    # The tool itself never answered the first item: it may hold it once more, for another of its annotators.
    again = book.lease("tool", 9)
    assert sorted(_ids(again)) == sorted({*book.items(order)} - {second})
    assert _answer_for(book, again.lease, (first, "ann")).n_duplicate == 1
    assert _answer_for(book, again.lease, (first, "bob")).n_accepted == 1
    _verify(book)


def test_queues_tell_what_waits_for_whom(book: Any, moving_clock: Any) -> None:
    def queues(annotator: str) -> list[tuple[str, str, int, int, int]]:
        with book.database.read() as connection:
            found = list_queues(connection, annotator)
        return [(q.campaign_id, q.source_id, q.n_waiting, q.n_awaited, q.n_answered) for q in found]

    book.create()
    book.order("weak", 3)
    assert queues("ann") == []
    order = book.order("human", 6, overlap=2)
    assert queues("ann") == queues("bob") == [("c", "human", 3, 6, 0)]
    lease = book.lease("ann", 2)
    # What is in her hands waits for her no more; the second answer to each of its items waits for others.
    assert (queues("ann"), queues("bob")) == ([("c", "human", 1, 6, 0)], [("c", "human", 3, 6, 0)])
    book.answer(lease.lease, _ids(lease)[:1])
    assert (queues("ann"), queues("bob")) == ([("c", "human", 1, 5, 1)], [("c", "human", 3, 5, 0)])
    book.order("human", 2, time_to_live=timedelta(seconds=10))
    assert queues("bob") == [("c", "human", 5, 7, 0)]
    moving_clock.advance(seconds=11)
    assert queues("bob") == [("c", "human", 3, 5, 0)]
    with book.database.read() as connection:
        assert list_queues(connection, "bob")[0].task.choices == ("no", "yes")
    book.cancel(order)
    assert queues("bob") == []


def _add_gold(book: Any, n_gold: int, choice: int = 1) -> None:
    book.add([Item(f"g{number}", {"claim": f"gold {number}"}, choice) for number in range(n_gold)])


def test_gold_questions_are_never_bought_for_training(book: Any) -> None:
    book.create(n_items=3)
    _add_gold(book, 4)
    assert book.n_free() == 3
    with pytest.raises(FailedPreconditionError, match="only 3 of the pool are free"):
        book.order("human", 4)
    with pytest.raises(InvalidArgumentError, match="is a gold question"):
        book.order("human", item_ids=["g1"])
    with pytest.raises(InvalidArgumentError, match="is no gold question"):
        book.order("human", item_ids=["i1"], purpose=Purpose.GOLD_QUESTION)
    order = book.order("human", 4, purpose=Purpose.GOLD_QUESTION)
    assert sorted(book.items(order)) == ["g0", "g1", "g2", "g3"]
    assert book.n_free() == 3
    _verify(book)
    book.cancel(order)
    assert book.n_free() == 3
    _verify(book)


def test_gold_questions_are_mixed_in_unmarked_and_counted(book: Any) -> None:
    rule = GoldRule(fraction=0.25, accuracy_min=0.0, n_answers_min=1)
    book.create(n_items=20, budget_micros=10_000_000)
    _add_gold(book, 6)
    work = book.order("human", 16)
    book.order("human", 12, overlap=2, purpose=Purpose.GOLD_QUESTION)
    ann = book.lease("ann", 8, gold=rule)
    gold = [item_id for item_id in _ids(ann) if item_id.startswith("g")]
    assert len(gold) == 2
    assert len(set(_ids(ann)) & set(book.items(work))) == 6
    assert all(item.gold_choice is None for item in ann.items)
    # The first question of a new annotator is a gold one; then every fourth.
    bob = [_ids(book.lease("bob", 1, gold=rule))[0].startswith("g") for _ in range(6)]
    assert bob == [True, False, False, False, True, False]
    book.answer(ann.lease, gold[:1], choice=1)
    book.answer(ann.lease, [item_id for item_id in _ids(ann) if item_id != gold[0]], choice=0)
    with book.database.read() as connection:
        (record,) = annotators.list_annotators(connection, "c", "human")
    assert (record.annotator, record.n_labels, record.n_gold, record.n_gold_right) == ("ann", 8, 2, 1)
    _verify(book)


def test_who_fails_the_gold_questions_gets_no_more_items(book: Any) -> None:
    rule = GoldRule(fraction=1.0, accuracy_min=0.6, n_answers_min=2)
    book.create(n_items=20, budget_micros=10_000_000)
    _add_gold(book, 4)
    book.order("human", 8)
    book.order("human", 8, overlap=2, purpose=Purpose.GOLD_QUESTION)
    first = book.lease("ann", 1, gold=rule)
    book.answer(first.lease, _ids(first), choice=0)
    second = book.lease("ann", 1, gold=rule)
    book.answer(second.lease, _ids(second), choice=1)
    with pytest.raises(FailedPreconditionError, match="answered 1 of 2 gold questions rightly") as refusal:
        book.lease("ann", 1, gold=rule)
    assert refusal.value.field == "annotator"
    assert book.lease("bob", 1, gold=rule) is not None


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"annotator": ""}, "annotator"),
        ({"n_items": 0}, "n_items"),
        ({"n_items": 1_001}, "n_items"),
        ({"duration": timedelta(0)}, "duration"),
        ({"duration": timedelta(hours=25)}, "duration"),
    ],
)
def test_a_lease_that_cannot_be_is_refused_by_name(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgumentError) as refusal:
        LeaseRequest(**{"campaign_id": "c", "source_id": "human", "annotator": "ann"} | changes)
    assert refusal.value.field == field


def test_leases_are_listed_oldest_first(book: Any) -> None:
    book.create()
    book.order("human", 9)
    made = [book.lease(annotator, 1).lease for annotator in ("ann", "bob", "ann")]
    with book.database.read() as connection:
        listed = leases.list_leases(connection, "c")
        of_ann = leases.list_leases(connection, "c", annotator="ann")
        after_first = leases.list_leases(connection, "c", after_position=listed[0][0], limit=1)
    assert [lease for _, lease in listed] == made
    assert [lease for _, lease in of_ann] == [made[0], made[2]]
    assert [lease for _, lease in after_first] == [made[1]]
