"""Money: reserved, settled label by label, released; never above the budget."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import delete, func, insert, inspect, select, update
from sqlalchemy.exc import DBAPIError

from isocost.budget import ledger, orders, schema, sources
from isocost.budget.proof import verify_campaign, verify_ledger
from isocost.budget.requests import Answer, RequestKey, answer_once
from isocost.core.errors import BudgetExceededError, FailedPreconditionError, InvalidArgumentError, NotFoundError
from isocost.core.money import MICROS_MAX, Money
from isocost.resources.campaign import CampaignState, EntryKind, OrderState
from isocost.resources.task import Source, SourceKind


def test_order_reserves_then_settles_label_by_label(book: Any) -> None:
    book.create()
    order = book.order("human", 3)
    assert (book.balance().reserved.micros, book.balance().settled.micros) == (300_000, 0)
    first, *rest = book.items(order)
    assert book.submit(order, [first]).order.state is OrderState.OPEN
    assert (book.balance().reserved.micros, book.balance().settled.micros) == (200_000, 100_000)
    done = book.submit(order, rest)
    assert (done.n_accepted, done.n_duplicate, done.order.state) == (2, 0, OrderState.SETTLED)
    assert (book.balance().reserved.micros, book.balance().settled.micros) == (0, 300_000)
    assert book.balance().available.micros == 700_000
    with book.database.read() as connection:
        entries = ledger.entries(connection, "c", after_sequence=0, limit=100)
    assert [(entry.sequence, entry.kind, entry.amount.micros) for entry in entries] == [
        (1, EntryKind.RESERVE, 300_000),
        (2, EntryKind.SETTLE, 100_000),
        (3, EntryKind.SETTLE, 100_000),
        (4, EntryKind.SETTLE, 100_000),
    ]
    assert len({entry.label_id for entry in entries[1:]}) == 3


def test_order_above_what_is_available_is_refused_and_changes_nothing(book: Any) -> None:
    book.create(budget_micros=250_000)
    with pytest.raises(BudgetExceededError, match=r"3 labels at \$0\.10 cost \$0\.30.*\$0\.25 is available.*most 2"):
        book.order("human", 3)
    assert book.balance().available.micros == 250_000
    assert book.n_free() == 20
    book.order("human", 2)
    with pytest.raises(BudgetExceededError):
        book.order("human", 1)
    with book.database.read() as connection:
        assert len(orders.list_orders(connection, "c")) == 1


def test_the_last_micro_can_be_spent(book: Any) -> None:
    book.create(budget_micros=20_000)
    order = book.order("weak", 20)
    book.submit(order, book.items(order))
    assert book.balance().available.micros == 0


def test_the_largest_amounts_do_not_overflow(book: Any) -> None:
    book.create(budget_micros=MICROS_MAX)
    with book.database.write() as connection:
        sources.create_source(connection, "c", Source("dear", SourceKind.HUMAN, Money(MICROS_MAX)))
    with pytest.raises(BudgetExceededError, match="cost more than any budget") as refusal:
        book.order("dear", 20)
    assert refusal.value.field == "n_labels"
    order = book.order("dear", 1)
    with pytest.raises(BudgetExceededError):
        book.order("dear", 1)
    book.submit(order, book.items(order))
    assert (book.balance().settled.micros, book.balance().available.micros) == (MICROS_MAX, 0)
    with book.database.read() as connection:
        assert verify_campaign(connection, "c").settled.micros == MICROS_MAX


def test_a_label_is_paid_once(book: Any) -> None:
    book.create()
    order = book.order("weak", 3)
    first, second, third = book.items(order)
    book.submit(order, [first, second])
    again = book.submit(order, [second, third, third])
    assert (again.n_accepted, again.n_duplicate) == (1, 2)
    assert book.balance().settled.micros == 3_000
    late = book.submit(order, [first])
    assert (late.n_accepted, late.n_duplicate, late.order.state) == (0, 1, OrderState.SETTLED)


def test_a_second_annotator_is_not_paid_by_the_same_order(book: Any) -> None:
    book.create()
    order = book.order("human", 1)
    (item_id,) = book.items(order)
    book.submit(order, [item_id], annotator="ann")
    assert book.submit(order, [item_id], annotator="ann").n_duplicate == 1
    with pytest.raises(FailedPreconditionError, match=r"labelled in this order by 'ann'"):
        book.submit(order, [item_id], annotator="bob")


def test_labels_are_stored_all_or_none(book: Any) -> None:
    book.create()
    order = book.order("weak", 2)
    first, _ = book.items(order)
    with pytest.raises(InvalidArgumentError) as refusal:
        book.submit(order, [first, "elsewhere"])
    assert refusal.value.field == "labels[1].item_id"
    assert book.balance().settled.micros == 0
    assert len(book.items(order, pending_only=True)) == 2


def test_cancel_releases_what_is_pending_and_frees_its_items(book: Any) -> None:
    book.create(n_items=5)
    order = book.order("human", 4)
    labelled, *unlabelled = book.items(order)
    book.submit(order, [labelled])
    cancelled = book.cancel(order)
    assert (cancelled.state, cancelled.n_settled, cancelled.n_released) == (OrderState.CANCELLED, 1, 3)
    assert (book.balance().settled.micros, book.balance().reserved.micros) == (100_000, 0)
    assert book.n_free() == 4
    assert book.cancel(order) == cancelled
    with pytest.raises(FailedPreconditionError, match="given up"):
        book.submit(order, [unlabelled[0]])
    assert book.submit(order, [labelled]).n_duplicate == 1
    anew = book.order("weak", 4)
    assert set(unlabelled) < set(book.items(anew))
    assert labelled not in book.items(anew)


def test_a_settled_order_stays_settled_when_cancelled(book: Any) -> None:
    book.create()
    order = book.order("weak", 1)
    book.submit(order, book.items(order))
    assert book.cancel(order).state is OrderState.SETTLED
    assert book.balance().settled.micros == 1_000


def test_finish_cancels_open_orders_and_stops_buying(book: Any) -> None:
    book.create()
    settled, open_order = book.order("weak", 2), book.order("human", 2)
    book.submit(settled, book.items(settled))
    with book.database.write() as connection:
        assert orders.finish_campaign(connection, "c").state is CampaignState.FINISHED
    with book.database.read() as connection:
        states = [order.state for order in orders.list_orders(connection, "c")]
    assert states == [OrderState.SETTLED, OrderState.CANCELLED]
    assert book.balance().reserved.micros == 0
    with pytest.raises(FailedPreconditionError, match="finished"):
        book.order("weak", 1)
    with pytest.raises(FailedPreconditionError, match="given up"):
        book.submit(open_order, book.items(open_order)[:1])


def _busy_book(book: Any) -> None:
    book.create()
    settled, cancelled, pending = book.order("weak", 3), book.order("human", 2), book.order("human", 2)
    book.submit(settled, book.items(settled))
    book.submit(cancelled, book.items(cancelled)[:1])
    book.cancel(cancelled)
    book.submit(pending, book.items(pending)[:1])


def test_verify_accepts_what_the_service_wrote(book: Any) -> None:
    _busy_book(book)
    (proof,) = verify_ledger(book.database._engine.url.render_as_string(hide_password=False))
    assert (proof.n_entries, proof.n_orders, proof.n_labels) == (9, 3, 5)
    assert (proof.settled.micros, proof.reserved.micros) == (203_000, 100_000)


_entries, _campaigns, _labels, _orders = schema.ledger_entries, schema.campaigns, schema.labels, schema.orders


def drop_guards(book: Any) -> None:
    """Takes away all that the database itself refuses, as somebody who edits its files could."""
    with book.database.write() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA ignore_check_constraints = ON")
        else:
            for table in ("campaigns", "orders", "order_items", "ledger_entries"):
                for check in inspect(connection).get_check_constraints(table):
                    connection.exec_driver_sql(f"ALTER TABLE {table} DROP CONSTRAINT {check['name']}")
        for table in ("ledger_entries", "labels"):
            for change in ("update", "delete"):
                on_table = "" if connection.dialect.name == "sqlite" else f" ON {table}"
                connection.exec_driver_sql(f"DROP TRIGGER tr_{table}_no_{change}{on_table}")


@pytest.mark.parametrize("table", ["ledger_entries", "labels", "requests"])
@pytest.mark.parametrize("change", [update, delete])
def test_the_database_itself_refuses_to_change_what_was_written(book: Any, table: str, change: Any) -> None:
    _busy_book(book)
    with book.database.write() as connection:
        answer_once(connection, RequestKey("r1", "Plan", "digest"), lambda: Answer(b"first", "c"))
    written = schema.metadata.tables[table]
    statement = change(written)
    if change is update:
        statement = statement.values({written.c.create_time_us: 0})
    with pytest.raises(DBAPIError, match="append-only"), book.database.write() as connection:
        connection.execute(statement)


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (update(_entries).where(_entries.c.sequence == 1).values(amount_micros=2_999), "reserve the order's price"),
        (update(_entries).where(_entries.c.kind == "SETTLE").values(amount_micros=0), "pay the order's unit price"),
        (update(_entries).where(_entries.c.sequence == 9).values(sequence=10), "one is missing"),
        (delete(_entries).where(_entries.c.sequence == 9), "the rows settle|counts"),
        (update(_entries).where(_entries.c.kind == "RELEASE").values(kind="SETTLE"), "names a label"),
        (update(_campaigns).values(settled_micros=_campaigns.c.settled_micros + 1), "the rows settle"),
        (update(_campaigns).values(budget_micros=303_000 - 1), "spoken for|CHECK"),
        (update(_campaigns).values(n_labels=7), "there are 5 labels"),
        (update(_campaigns).values(n_items_free=0), "free items"),
        (update(schema.orders).where(schema.orders.c.position == 1).values(n_settled=2), "counts 2 labels as paid"),
        (update(schema.orders).where(schema.orders.c.position == 1).values(state="OPEN"), "is OPEN"),
        (delete(schema.taken_items), "have a place"),
        (update(schema.taken_items).values(order_id=select(func.max(_orders.c.order_id)).scalar_subquery()), "its own"),
        (update(schema.order_items).values(label_id=None), "answers no item"),
        (update(_labels).where(_labels.c.sequence == 5).values(sequence=6), "the last is 6"),
    ],
)
def test_verify_finds_damage(book: Any, damage: Any, complaint: str) -> None:
    _busy_book(book)
    drop_guards(book)
    with book.database.write() as connection:
        connection.execute(damage)
    with book.database.read() as connection, pytest.raises(FailedPreconditionError, match=complaint):
        verify_campaign(connection, "c")


def test_verify_finds_a_label_that_was_never_paid(book: Any) -> None:
    _busy_book(book)
    with book.database.write() as connection:
        stored = connection.execute(select(_labels).where(_labels.c.sequence == 1)).mappings().one()
        unpaid = {**stored, "sequence": 6, "label_id": "label-x", "annotator": "x"}
        connection.execute(insert(_labels), unpaid)
        connection.execute(update(_campaigns).values(n_labels=6))
    with book.database.read() as connection, pytest.raises(FailedPreconditionError, match="'label-x' has no payment"):
        verify_campaign(connection, "c")


def test_verify_names_a_database_that_is_not_there() -> None:
    with pytest.raises(NotFoundError, match=r"no database"):
        verify_ledger("sqlite:////nowhere/budget.db")
