"""Metered sources: each label is paid by its tokens, and the rest of what was reserved for it is free at once."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select, update

from isocost.budget import orders, schema, sources
from isocost.budget.proof import verify_campaign
from isocost.core.errors import FailedPreconditionError, InvalidArgumentError
from isocost.core.money import MICROS_MAX, Money
from isocost.resources.campaign import EntryKind, Order, OrderState
from isocost.resources.task import Source, SourceKind
from tests.unit.budget.test_budget_ledger import drop_guards

PRICE = Money(1_500_000)


@pytest.fixture
def metered(book: Any) -> Any:
    """$1.00, and a source at 1.5 micros a token, 1,000 micros a label at most."""
    book.create()
    book.add_metered()
    return book


def _moves(book: Any) -> list[tuple[str, int]]:
    return [(entry.kind.name, entry.amount.micros) for entry in book.entries()]


def _verify(book: Any) -> None:
    with book.database.read() as connection:
        verify_campaign(connection, "c")


def test_the_price_of_tokens_is_kept_with_the_source_and_with_its_orders(metered: Any) -> None:
    order = metered.order("metered", 2)
    assert order.price_per_million_tokens == PRICE
    assert metered.read_order(order) == order
    assert metered.order("weak", 2).price_per_million_tokens is None
    with metered.database.read() as connection:
        found = sources.read_source(connection, "c", "metered")
        assert [*sources.list_sources(connection, "c")][-1] == found
        assert orders.list_orders(connection, "c")[0] == order
    assert found == Source("metered", SourceKind.MODEL, Money(1_000), "small", PRICE)


def test_a_label_is_paid_by_its_tokens_rounded_up_and_the_rest_is_released(metered: Any) -> None:
    order = metered.order("metered", 4)
    first, second, third, _ = metered.items(order)
    assert metered.balance().reserved.micros == 4_000
    metered.submit(order, [first, second], prompt_tokens=[101, 200])
    assert _moves(metered) == [("RESERVE", 4_000), ("SETTLE", 152), ("SETTLE", 300), ("RELEASE", 1_548)]
    assert (metered.balance().settled.micros, metered.balance().reserved.micros) == (452, 2_000)
    assert metered.read_order(order).n_released == 0
    metered.submit(order, [third], prompt_tokens=[1])
    assert _moves(metered)[4:] == [("SETTLE", 2), ("RELEASE", 998)]
    cancelled = metered.cancel(order)
    assert (cancelled.state, cancelled.n_settled, cancelled.n_released) == (OrderState.CANCELLED, 3, 1)
    assert _moves(metered)[6:] == [("RELEASE", 1_000)]
    assert (metered.balance().settled.micros, metered.balance().reserved.micros) == (454, 0)
    _verify(metered)


def test_nothing_is_released_where_nothing_is_left_over(book: Any) -> None:
    book.create()
    with book.database.write() as connection:
        source = Source("exact", SourceKind.MODEL, Money(10), "", Money(1_000_000))
        sources.create_source(connection, "c", source)
    order = book.order("exact", 1)
    book.submit(order, book.items(order), prompt_tokens=[10])
    assert _moves(book) == [("RESERVE", 10), ("SETTLE", 10)]
    _verify(book)


@pytest.mark.parametrize(
    ("n_tokens", "complaint"),
    [
        (0, "paid by the token"),
        (667, r"at \$1\.50 per million cost more than the \$0\.001 reserved"),
        (10**9, "more than"),
    ],
)
def test_a_label_that_cannot_be_paid_is_refused(metered: Any, n_tokens: int, complaint: str) -> None:
    order = metered.order("metered", 2)
    before = metered.balance()
    with pytest.raises(InvalidArgumentError, match=complaint) as refusal:
        metered.submit(order, metered.items(order), prompt_tokens=[666, n_tokens])
    assert refusal.value.field == "labels[1].prompt_tokens"
    assert metered.balance() == before
    assert metered.submit(order, metered.items(order), prompt_tokens=[666, 666]).n_accepted == 2


def test_the_largest_price_of_tokens_does_not_overflow(book: Any) -> None:
    book.create()
    with book.database.write() as connection:
        source = Source("dear", SourceKind.MODEL, Money(1_000), "", Money(MICROS_MAX))
        sources.create_source(connection, "c", source)
    order = book.order("dear", 1)
    with pytest.raises(InvalidArgumentError, match="more than") as refusal:
        book.submit(order, book.items(order), prompt_tokens=[10**9])
    assert refusal.value.field == "labels[0].prompt_tokens"


def test_a_label_that_is_there_is_a_duplicate_whatever_it_says(metered: Any) -> None:
    order = metered.order("metered", 1)
    metered.submit(order, metered.items(order), prompt_tokens=[10])
    before = metered.entries()
    assert metered.submit(order, metered.items(order), prompt_tokens=[0]).n_duplicate == 1
    assert metered.entries() == before


def test_a_fixed_price_does_not_look_at_tokens(metered: Any) -> None:
    order = metered.order("weak", 2)
    metered.submit(order, metered.items(order), prompt_tokens=[0, 10**9])
    assert _moves(metered) == [("RESERVE", 2_000), ("SETTLE", 1_000), ("SETTLE", 1_000)]


def test_what_is_left_over_pays_for_other_labels(book: Any) -> None:
    book.create(budget_micros=10_000)
    book.add_metered()
    order = book.order("metered", 10)
    book.submit(order, book.items(order), prompt_tokens=[100] * 10)
    assert book.balance().available.micros == 10_000 - 1_500
    assert book.order("weak", 8).n_labels == 8
    _verify(book)


def test_a_payment_by_tokens_is_corrected_within_what_was_paid(metered: Any) -> None:
    order = metered.order("metered", 2)
    metered.submit(order, metered.items(order), prompt_tokens=[100, 100])
    with pytest.raises(FailedPreconditionError, match=r"only \$0\.00015 of entry 2 is still paid"):
        metered.correct(2, -151)
    metered.correct(2, -150)
    with pytest.raises(InvalidArgumentError, match="entry 4 is a RELEASE"):
        metered.correct(4, -1)
    assert metered.balance().settled.micros == 150
    _verify(metered)


_entries, _labels, _orders = schema.ledger_entries, schema.labels, schema.orders


def _busy(book: Any) -> Order:
    order: Order = book.order("metered", 4)
    items = book.items(order)
    book.submit(order, items[:2], prompt_tokens=[100, 200])
    book.submit(order, items[2:3], prompt_tokens=[300])
    book.cancel(order)
    assert [entry.kind for entry in book.entries()[3:]] == [
        EntryKind.RELEASE,
        EntryKind.SETTLE,
        EntryKind.RELEASE,
        EntryKind.RELEASE,
    ]
    return order


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (
            update(_entries).where(_entries.c.sequence == 2).values(amount_micros=151),
            "entry 2: it does not pay 100 tokens",
        ),
        (
            update(_labels).where(_labels.c.sequence == 1).values(prompt_tokens=101),
            "entry 2: it does not pay 101 tokens",
        ),
        (update(_labels).where(_labels.c.sequence == 3).values(prompt_tokens=0), "entry 5: it does not pay 0 tokens"),
        (update(_orders).values(million_tokens_micros=1_600_000), r"at \$1\.60 per million"),
        (update(_orders).values(million_tokens_micros=None), "pay the order's unit price"),
        (
            update(_entries).where(_entries.c.sequence == 4).values(amount_micros=1_549),
            "entry 4: it does not release what",
        ),
        (update(_entries).where(_entries.c.sequence == 6).values(kind="EXPIRE"), "has not released its remainder"),
        (update(_entries).where(_entries.c.sequence == 7).values(amount_micros=999), "counts 1 labels as released"),
    ],
)
def test_verify_works_each_payment_out_again(metered: Any, damage: Any, complaint: str) -> None:
    _busy(metered)
    _verify(metered)
    drop_guards(metered)
    with metered.database.write() as connection:
        connection.execute(damage)
    with metered.database.read() as connection, pytest.raises(FailedPreconditionError, match=complaint):
        verify_campaign(connection, "c")


def test_the_database_keeps_prices_of_tokens_above_zero(metered: Any) -> None:
    with metered.database.read() as connection:
        found = connection.execute(select(schema.sources.c.million_tokens_micros)).scalars().all()
    assert sorted(found, key=str) == [1_500_000, None, None]
    for table in (schema.sources, schema.orders):
        metered.order("metered", 1)
        with (
            pytest.raises(Exception, match=f"ck_{table.name}_million_tokens_positive"),
            metered.database.write() as write,
        ):
            write.execute(update(table).values(million_tokens_micros=0))
