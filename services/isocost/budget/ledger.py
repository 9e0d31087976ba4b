"""The ledger: the only place that changes money.

Two-phase: an order's price is reserved, then settled label by label or released. Each of the three writes append-only
entries and moves the campaign's counters in one guarded statement, so `settled + reserved <= budget` holds at every
instant, whatever runs beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, insert, select, update

from isocost.budget import schema
from isocost.budget.campaigns import read_status
from isocost.budget.clock import now_us, time_from_us
from isocost.core.errors import BudgetExceededError
from isocost.core.money import MICROS_MAX, Money
from isocost.resources.campaign import Balance, EntryKind, LedgerEntry, Order

__all__ = ["balance", "entries", "release", "reserve", "settle"]

_campaigns = schema.campaigns
_ledger = schema.ledger_entries


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
        last = _move(connection, order, unspent >= amount_micros, reserved=amount_micros, settled=0, n_entries=1)
    if last is None:
        available = balance(connection, order.campaign_id).available
        raise BudgetExceededError(
            f"{order.n_labels} labels at {order.unit_price} cost {_amount_words(amount_micros, order)}, but only "
            f"{available} is available; order at most {max(0, available.micros) // order.unit_price.micros}",
            field="n_labels",
        )
    _append(connection, order, EntryKind.RESERVE, last, [(amount_micros, None)])


def settle(connection: Connection, order: Order, label_ids: Sequence[str]) -> None:
    """Pays labels that arrived out of their order's reservation, one entry each.

    The caller holds the campaign's lock and has checked that each label was awaited, so the money is there.
    """
    if not label_ids:
        return
    price_micros = order.unit_price.micros
    amount_micros = price_micros * len(label_ids)
    guard = _campaigns.c.reserved_micros >= amount_micros
    last = _move(connection, order, guard, reserved=-amount_micros, settled=amount_micros, n_entries=len(label_ids))
    assert last is not None, f"order {order.order_id} settles {amount_micros} micros that are not reserved"
    _append(connection, order, EntryKind.SETTLE, last, [(price_micros, label_id) for label_id in label_ids])


def release(connection: Connection, order: Order, n_labels: int) -> None:
    """Gives back the money of labels that will not arrive. The caller holds the campaign's lock."""
    if not n_labels:
        return
    amount_micros = order.unit_price.micros * n_labels
    guard = _campaigns.c.reserved_micros >= amount_micros
    last = _move(connection, order, guard, reserved=-amount_micros, settled=0, n_entries=1)
    assert last is not None, f"order {order.order_id} releases {amount_micros} micros that are not reserved"
    _append(connection, order, EntryKind.RELEASE, last, [(amount_micros, None)])


def _amount_words(amount_micros: int, order: Order) -> str:
    if amount_micros <= MICROS_MAX:
        return str(Money(amount_micros, order.unit_price.currency_code))
    return "more than any budget"


def _move(
    connection: Connection, order: Order, guard: ColumnElement[bool], *, reserved: int, settled: int, n_entries: int
) -> int | None:
    """Moves the campaign's counters where the guard holds.

    Returns:
        The sequence of the last entry to be written, or None where the guard does not hold.
    """
    statement = (
        update(_campaigns)
        .where(_campaigns.c.campaign_id == order.campaign_id, guard)
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
    time_us = now_us()
    first = last - len(amounts) + 1
    rows = [
        {
            "campaign_id": order.campaign_id,
            "sequence": sequence,
            "order_id": order.order_id,
            "source_id": order.source_id,
            "kind": kind.name,
            "amount_micros": amount_micros,
            "currency_code": order.unit_price.currency_code,
            "label_id": label_id,
            "create_time_us": time_us,
        }
        for sequence, (amount_micros, label_id) in enumerate(amounts, start=first)
    ]
    connection.execute(insert(_ledger), rows)


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
