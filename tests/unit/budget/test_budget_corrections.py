"""Corrections: new entries, never more back than was paid, never above the budget."""

from __future__ import annotations

from typing import Any

import pytest

from isocost.budget import ledger
from isocost.budget.proof import verify_campaign
from isocost.core.errors import BudgetExceededError, FailedPreconditionError, InvalidArgumentError, NotFoundError
from isocost.core.money import Money
from isocost.resources.campaign import EntryKind


@pytest.fixture
def paid(book: Any) -> Any:
    """Entry 1 reserves $0.20, entries 2 and 3 pay $0.10 each; the budget is $0.25."""
    book.create(budget_micros=250_000)
    order = book.order("human", 2)
    book.submit(order, book.items(order))
    return book


def test_a_refund_is_a_new_entry_and_the_payment_stays(paid: Any) -> None:
    before = paid.entries()
    entry = paid.correct(2, -60_000, reason="blank answer")
    assert paid.entries() == [*before, entry]
    assert (entry.kind, entry.amount, entry.reason, entry.corrects_sequence) == (
        EntryKind.CORRECT,
        Money(-60_000),
        "blank answer",
        2,
    )
    assert (entry.label_id, entry.order_id) == (before[1].label_id, before[1].order_id)
    assert paid.balance().settled.micros == 140_000
    assert paid.balance().available.micros == 110_000
    with paid.database.read() as connection:
        assert verify_campaign(connection, "c").settled.micros == 140_000


def test_no_more_is_given_back_than_is_still_paid(paid: Any) -> None:
    paid.correct(2, -60_000)
    with pytest.raises(FailedPreconditionError, match=r"only \$0\.04 of entry 2 is still paid"):
        paid.correct(2, -40_001)
    paid.correct(2, -40_000)
    paid.correct(3, -100_000)
    assert paid.balance().settled.micros == 0


def test_a_charge_stays_within_the_budget(paid: Any) -> None:
    with pytest.raises(BudgetExceededError, match=r"only \$0\.05 is available"):
        paid.correct(2, 50_001)
    paid.correct(2, 50_000)
    assert paid.balance().available.micros == 0


def test_only_payments_are_corrected(paid: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="entry 1 is a RESERVE"):
        paid.correct(1, -1)
    with pytest.raises(NotFoundError, match="no entry 9"):
        paid.correct(9, -1)
    with pytest.raises(InvalidArgumentError, match="zero corrects nothing"):
        paid.correct(2, 0)
    with pytest.raises(InvalidArgumentError, match="in EUR"), paid.database.write() as connection:
        ledger.correct(connection, "c", corrects_sequence=2, amount=Money(-1, "EUR"), reason="x")
