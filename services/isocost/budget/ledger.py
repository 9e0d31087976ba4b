"""The ledger: the only place that changes money.

Two-phase: an order's price is reserved, then settled label by label, or released or expired. A payment that was wrong
is corrected by an entry of its own. Each of these writes append-only entries and moves the campaign's counters in one
guarded statement, so `settled + reserved <= budget` holds at every instant, whatever runs beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, insert, select, update

from isocost.budget import clock, schema
from isocost.budget.campaigns import lock_campaign, read_status
from isocost.budget.clock import time_from_us
from isocost.budget.database import insert_rows
from isocost.core.errors import BudgetExceededError, FailedPreconditionError, InvalidArgumentError, NotFoundError
from isocost.core.money import MICROS_MAX, Money
from isocost.resources.campaign import Balance, EntryKind, LedgerEntry, Order

__all__ = ["balance", "correct", "entries", "release", "reserve", "settle"]

_campaigns = schema.campaigns
_ledger = schema.ledger_entries
#: Of all entries but corrections.
_COLUMNS = (
    "campaign_id",
    "sequence",
    "order_id",
    "source_id",
    "kind",
    "amount_micros",
    "currency_code",
    "label_id",
    "create_time_us",
)


def balance(connection: Connection, campaign_id: str) -> Balance:
    """A campaign's money at this instant.

    Raises:
        NotFoundError: where there is no such campaign.
    """
    return read_status(connection, campaign_id).balance


def reserve(connection: Connection, order: Order) -> None:
    """Sets aside the price of all labels of a new order.

    Raises:
        BudgetExceededError: says what is available and what is asked.
    """
    amount_micros = order.n_labels * order.unit_price.micros
    # An amount beyond int64 would not even reach the database.
    last = None
    if amount_micros <= MICROS_MAX:
        unspent = _campaigns.c.budget_micros - _campaigns.c.settled_micros - _campaigns.c.reserved_micros
        last = _move(
            connection, order.campaign_id, unspent >= amount_micros, reserved=amount_micros, settled=0, n_entries=1
        )
    if last is None:
        available = balance(connection, order.campaign_id).available
        raise BudgetExceededError(
            f"{order.n_labels} labels at {order.unit_price} cost {_amount_words(amount_micros, order)}, but only "
            f"{available} is available; order at most {max(0, available.micros) // order.unit_price.micros}",
            field="n_labels",
        )
    _append(connection, order, EntryKind.RESERVE, last, [(amount_micros, None)])


def settle(connection: Connection, order: Order, payments: Sequence[tuple[int, str]]) -> None:
    """Pays labels that arrived out of their order's reservation, one entry each.

    What labels of a metered source did not cost of their unit prices is released in one entry more. The caller holds
    the campaign's lock and has checked that each label was awaited, so the money is there.

    Args:
        connection: A write transaction.
        order: Whose labels they are.
        payments: Micros, at most the unit price, and the label's id.
    """
    if not payments:
        return
    reserved_micros = order.unit_price.micros * len(payments)
    settled_micros = sum(amount_micros for amount_micros, _ in payments)
    remainder_micros = reserved_micros - settled_micros
    assert remainder_micros >= 0, f"order {order.order_id} settles {settled_micros} micros of {reserved_micros}"
    last = _move(
        connection,
        order.campaign_id,
        _campaigns.c.reserved_micros >= reserved_micros,
        reserved=-reserved_micros,
        settled=settled_micros,
        n_entries=len(payments) + (remainder_micros > 0),
    )
    assert last is not None, f"order {order.order_id} settles {reserved_micros} micros that are not reserved"
    if remainder_micros:
        _append(connection, order, EntryKind.RELEASE, last, [(remainder_micros, None)])
        last -= 1
    _append(connection, order, EntryKind.SETTLE, last, payments)


def release(connection: Connection, order: Order, n_labels: int, kind: EntryKind = EntryKind.RELEASE) -> None:
    """Gives back the money of labels that will not arrive. The caller holds the campaign's lock.

    Args:
        connection: A write transaction.
        order: Whose labels they are.
        n_labels: How many.
        kind: RELEASE, or EXPIRE where the order's time is over.
    """
    if not n_labels:
        return
    amount_micros = order.unit_price.micros * n_labels
    guard = _campaigns.c.reserved_micros >= amount_micros
    last = _move(connection, order.campaign_id, guard, reserved=-amount_micros, settled=0, n_entries=1)
    assert last is not None, f"order {order.order_id} releases {amount_micros} micros that are not reserved"
    _append(connection, order, kind, last, [(amount_micros, None)])


def correct(
    connection: Connection, campaign_id: str, *, corrects_sequence: int, amount: Money, reason: str
) -> LedgerEntry:
    """Corrects one payment by a new entry; the payment's own entry stays as it is.

    Args:
        connection: A write transaction.
        campaign_id: The campaign.
        corrects_sequence: Sequence of the SETTLE entry.
        amount: What is added to the payment; negative for a refund.
        reason: Why.

    Raises:
        NotFoundError: where there is no such campaign or entry.
        InvalidArgumentError: where the amount is zero or in another currency, or the entry is no payment.
        FailedPreconditionError: where the refund is more than what is still paid.
        BudgetExceededError: where the charge is more than what is available.
    """
    campaign = lock_campaign(connection, campaign_id)
    currency_code = campaign.budget.currency_code
    if amount.micros == 0:
        raise InvalidArgumentError("amount", "zero corrects nothing; give what is to be added to the payment")
    if amount.currency_code != currency_code:
        raise InvalidArgumentError("amount", f"in {amount.currency_code}; the campaign's budget is in {currency_code}")
    of_entry = (_ledger.c.campaign_id == campaign_id, _ledger.c.sequence == corrects_sequence)
    row = connection.execute(select(_ledger).where(*of_entry)).first()
    if row is None:
        raise NotFoundError(f"the ledger has no entry {corrects_sequence}", field="corrects_sequence")
    if row.kind != EntryKind.SETTLE.name:
        raise InvalidArgumentError(
            "corrects_sequence", f"entry {corrects_sequence} is a {row.kind}; name a SETTLE entry"
        )
    corrections = select(func.coalesce(func.sum(_ledger.c.amount_micros), 0)).where(
        _ledger.c.campaign_id == campaign_id, _ledger.c.corrects_sequence == corrects_sequence
    )
    paid_micros = row.amount_micros + int(connection.execute(corrections).scalar_one())
    if paid_micros + amount.micros < 0:
        paid = Money(paid_micros, currency_code)
        raise FailedPreconditionError(f"only {paid} of entry {corrects_sequence} is still paid", field="amount")
    settled, reserved = _campaigns.c.settled_micros, _campaigns.c.reserved_micros
    guard = _campaigns.c.budget_micros - settled - reserved >= amount.micros
    last = _move(connection, campaign_id, guard, reserved=0, settled=amount.micros, n_entries=1)
    if last is None:
        available = balance(connection, campaign_id).available
        raise BudgetExceededError(f"{amount} is asked for, but only {available} is available", field="amount")
    corrected = {**row._mapping, "sequence": last, "kind": EntryKind.CORRECT.name, "amount_micros": amount.micros}
    corrected |= {"create_time_us": clock.now_us(), "reason": reason, "corrects_sequence": corrects_sequence}
    connection.execute(insert(_ledger), corrected)
    return _entry(
        connection.execute(
            select(_ledger).where(_ledger.c.campaign_id == campaign_id, _ledger.c.sequence == last)
        ).one()
    )


def _amount_words(amount_micros: int, order: Order) -> str:
    if amount_micros <= MICROS_MAX:
        return str(Money(amount_micros, order.unit_price.currency_code))
    return "more than any budget"


def _move(
    connection: Connection, campaign_id: str, guard: ColumnElement[bool], *, reserved: int, settled: int, n_entries: int
) -> int | None:
    """Moves the campaign's counters where the guard holds.

    Returns:
        The sequence of the last entry to be written, or None where the guard does not hold.
    """
    statement = (
        update(_campaigns)
        .where(_campaigns.c.campaign_id == campaign_id, guard)
        .values(
            reserved_micros=_campaigns.c.reserved_micros + reserved,
            settled_micros=_campaigns.c.settled_micros + settled,
            n_entries=_campaigns.c.n_entries + n_entries,
        )
        .returning(_campaigns.c.n_entries)
    )
    last: int | None = connection.execute(statement).scalar_one_or_none()
    return last


def _append(
    connection: Connection, order: Order, kind: EntryKind, last: int, amounts: Sequence[tuple[int, str | None]]
) -> None:
    time_us = clock.now_us()
    first = last - len(amounts) + 1
    price = order.unit_price
    rows = [
        (
            order.campaign_id,
            sequence,
            order.order_id,
            order.source_id,
            kind.name,
            amount_micros,
            price.currency_code,
            label_id,
            time_us,
        )
        for sequence, (amount_micros, label_id) in enumerate(amounts, start=first)
    ]
    insert_rows(connection, _ledger, _COLUMNS, rows)


def _entry(row: Row[Any]) -> LedgerEntry:
    return LedgerEntry(
        sequence=row.sequence,
        campaign_id=row.campaign_id,
        order_id=row.order_id,
        source_id=row.source_id,
        kind=EntryKind[row.kind],
        amount=Money(row.amount_micros, row.currency_code),
        label_id=row.label_id or "",
        create_time=time_from_us(row.create_time_us),
        reason=row.reason,
        corrects_sequence=row.corrects_sequence or 0,
    )


def entries(connection: Connection, campaign_id: str, *, after_sequence: int, limit: int) -> list[LedgerEntry]:
    """The next entries of a campaign's ledger, after a sequence number."""
    query = (
        select(_ledger)
        .where(_ledger.c.campaign_id == campaign_id, _ledger.c.sequence > after_sequence)
        .order_by(_ledger.c.sequence)
        .limit(limit)
    )
    return [_entry(row) for row in connection.execute(query)]
