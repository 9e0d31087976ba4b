"""Proof of the ledger: everything that is said about money, worked out again from the rows alone."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, and_, case, func, make_url, or_, select

from isocost.budget import ledger, schema
from isocost.budget.campaigns import CampaignStatus, list_campaigns, read_status
from isocost.budget.database import Database
from isocost.budget.orders import list_orders
from isocost.core.errors import FailedPreconditionError, NotFoundError
from isocost.core.money import Money
from isocost.resources.campaign import EntryKind, LedgerEntry, Order, OrderState, Sharing
from isocost.resources.label import Purpose
from isocost.resources.queue import LeaseState

__all__ = ["LedgerProof", "verify_campaign", "verify_ledger"]

_PAGE_ROWS = 5_000


@dataclass(frozen=True, slots=True)
class LedgerProof:
    """What was found where nothing is wrong.

    Attributes:
        campaign_id: The campaign.
        n_entries, n_orders, n_labels: Rows read.
        settled, reserved, budget: The money by the rows.
    """

    campaign_id: str
    n_entries: int
    n_orders: int
    n_labels: int
    settled: Money
    reserved: Money
    budget: Money


@dataclass(slots=True)
class _Account:
    """One order's part of the ledger."""

    reserved_micros: int = 0
    n_reserve: int = 0
    n_settle: int = 0
    released_micros: int = 0


class _Replay:
    """Replays a campaign's entries one by one, and holds each against its order and the budget."""

    def __init__(self, status: CampaignStatus, orders: dict[str, Order]) -> None:
        self._campaign_id = status.campaign.campaign_id
        self._budget = status.campaign.budget
        self._orders = orders
        self.accounts: dict[str, _Account] = defaultdict(_Account)
        self.n_entries = 0
        self.settled_micros = 0
        self.reserved_micros = 0

    def _require(self, condition: bool, what: str) -> None:
        _require(condition, self._campaign_id, f"entry {self.n_entries}: {what}")

    def add(self, entry: LedgerEntry) -> None:
        """Replays one entry."""
        self.n_entries += 1
        self._require(entry.sequence == self.n_entries, f"its sequence is {entry.sequence}; one is missing")
        self._require(entry.amount.currency_code == self._budget.currency_code, "it is in another currency")
        self._require(entry.order_id in self._orders, f"there is no order {entry.order_id!r}")
        order = self._orders[entry.order_id]
        self._require(entry.source_id == order.source_id, f"it pays {entry.source_id!r}, not the order's source")
        names_label = entry.kind in (EntryKind.SETTLE, EntryKind.CORRECT)
        self._require(bool(entry.label_id) == names_label, "only a payment names a label, and its correction")
        if entry.kind is EntryKind.CORRECT:
            self._require(bool(entry.reason), "a correction without a reason")
            self._require(0 < entry.corrects_sequence < entry.sequence, "it corrects no entry before it")
            self.settled_micros += entry.amount.micros
        else:
            self._require(entry.amount.micros >= 0, "its amount is negative")
            self._move(entry, order)
        self._require(self.settled_micros >= 0, "more is given back than was paid")
        spoken_for = self.settled_micros + self.reserved_micros
        self._require(spoken_for <= self._budget.micros, f"{spoken_for} micros are spoken for; {self._budget} allowed")

    def _move(self, entry: LedgerEntry, order: Order) -> None:
        """Moves money into, or out of, an order's reservation."""
        account = self.accounts[entry.order_id]
        micros = entry.amount.micros
        if entry.kind is EntryKind.RESERVE:
            self._require(account.n_reserve == 0, f"order {entry.order_id!r} is reserved a second time")
            self._require(micros == order.n_labels * order.unit_price.micros, "it does not reserve the order's price")
            account.n_reserve += 1
            account.reserved_micros += micros
            self.reserved_micros += micros
            return
        self._require(micros <= account.reserved_micros, f"order {entry.order_id!r} has less reserved than it takes")
        account.reserved_micros -= micros
        self.reserved_micros -= micros
        if entry.kind is EntryKind.SETTLE:
            self._require(micros == order.unit_price.micros, "it does not pay the order's unit price")
            account.n_settle += 1
            self.settled_micros += micros
        else:
            account.released_micros += micros


def _require(condition: bool, campaign_id: str, what: str) -> None:
    if not condition:
        raise FailedPreconditionError(
            f"the ledger of campaign {campaign_id!r} is damaged: {what}; stop buying and restore a backup"
        )


def _verify_order(campaign_id: str, order: Order, account: _Account) -> None:
    """Holds an order's own counts against its entries."""
    name = f"order {order.order_id!r}"
    price_micros = order.unit_price.micros
    _require(account.n_reserve == 1, campaign_id, f"{name} was never reserved")
    _require(account.n_settle == order.n_settled, campaign_id, f"{name} counts {order.n_settled} labels as paid")
    _require(
        account.released_micros == order.n_released * price_micros,
        campaign_id,
        f"{name} counts {order.n_released} labels as released",
    )
    _require(account.reserved_micros == order.n_pending * price_micros, campaign_id, f"{name} reserves another amount")
    closed_early = order.n_pending == 0 and order.n_released > 0
    expected = {
        OrderState.OPEN: order.n_pending > 0,
        OrderState.SETTLED: order.n_settled == order.n_labels,
        OrderState.CANCELLED: closed_early,
        OrderState.EXPIRED: closed_early,
    }
    _require(expected[order.state], campaign_id, f"{name} is {order.state.name} with {order.n_pending} labels pending")


def _count(connection: Connection, query: Any) -> int:
    return int(connection.execute(select(func.count()).select_from(query.subquery())).scalar_one())


def _verify_labels(connection: Connection, campaign_id: str) -> int:
    """Every label is paid exactly once, and answers an item its order asked for; returns how many labels there are."""
    labels, entries, order_items = schema.labels, schema.ledger_entries, schema.order_items
    paid = and_(entries.c.label_id == labels.c.label_id, entries.c.kind == EntryKind.SETTLE.name)
    pairs = (
        select(labels.c.label_id, entries.c.label_id)
        .join_from(labels, entries, paid, isouter=True)
        .where(
            labels.c.campaign_id == campaign_id,
            or_(
                entries.c.label_id.is_(None),
                entries.c.order_id != labels.c.order_id,
                entries.c.campaign_id != labels.c.campaign_id,
                entries.c.source_id != labels.c.source_id,
            ),
        )
    )
    unpaid = connection.execute(pairs.limit(1)).first()
    _require(unpaid is None, campaign_id, f"label {unpaid and unpaid[0]!r} has no payment of its order")
    answered = and_(
        order_items.c.order_id == labels.c.order_id,
        order_items.c.item_id == labels.c.item_id,
        order_items.c.label_id == labels.c.label_id,
    )
    stray = connection.execute(
        select(labels.c.label_id)
        .join_from(labels, order_items, answered, isouter=True)
        .where(labels.c.campaign_id == campaign_id, order_items.c.order_id.is_(None))
        .limit(1)
    ).first()
    _require(stray is None, campaign_id, f"label {stray and stray[0]!r} answers no item of its order")
    n_labels, last = connection.execute(
        select(func.count(), func.coalesce(func.max(labels.c.sequence), 0)).where(labels.c.campaign_id == campaign_id)
    ).one()
    n_paid = _count(
        connection,
        select(entries.c.sequence).where(entries.c.campaign_id == campaign_id, entries.c.kind == EntryKind.SETTLE.name),
    )
    counted = connection.execute(
        select(schema.campaigns.c.n_labels).where(schema.campaigns.c.campaign_id == campaign_id)
    ).scalar_one()
    _require(n_labels == last == counted, campaign_id, f"there are {n_labels} labels; the last is {last} of {counted}")
    _require(n_paid == n_labels, campaign_id, f"{n_paid} payments for {n_labels} labels")
    return int(n_labels)


def _verify_corrections(connection: Connection, campaign_id: str) -> None:
    """Every correction is of a payment of the same label and order, and none gives back more than was paid."""
    entries = schema.ledger_entries
    paid = entries.alias("paid")
    of_payment = and_(
        paid.c.campaign_id == entries.c.campaign_id,
        paid.c.sequence == entries.c.corrects_sequence,
        paid.c.kind == EntryKind.SETTLE.name,
        paid.c.label_id == entries.c.label_id,
        paid.c.order_id == entries.c.order_id,
    )
    corrections = (entries.c.campaign_id == campaign_id, entries.c.kind == EntryKind.CORRECT.name)
    stray = connection.execute(
        select(entries.c.sequence)
        .join_from(entries, paid, of_payment, isouter=True)
        .where(*corrections, paid.c.sequence.is_(None))
        .limit(1)
    ).first()
    _require(stray is None, campaign_id, f"entry {stray and stray[0]} corrects no payment")
    too_much = connection.execute(
        select(entries.c.corrects_sequence)
        .join_from(entries, paid, of_payment)
        .where(*corrections)
        .group_by(entries.c.corrects_sequence, paid.c.amount_micros)
        .having(func.sum(entries.c.amount_micros) + paid.c.amount_micros < 0)
        .limit(1)
    ).first()
    _require(too_much is None, campaign_id, f"more of entry {too_much and too_much[0]} is given back than was paid")


def _verify_slots(connection: Connection, campaign_id: str) -> None:
    """Each order has a slot for each label that it counts: settled, released or pending; leased ones have a lease."""
    slots, leases, orders = schema.order_items, schema.leases, schema.orders
    counts = (
        select(
            slots.c.order_id,
            func.count().label("n_labels"),
            func.count(slots.c.label_id).label("n_settled"),
            func.sum(case((slots.c.released.is_(True), 1), else_=0)).label("n_released"),
        )
        .where(slots.c.campaign_id == campaign_id)
        .group_by(slots.c.order_id)
        .subquery()
    )
    wrong = connection.execute(
        select(orders.c.order_id)
        .join_from(orders, counts, counts.c.order_id == orders.c.order_id, isouter=True)
        .where(
            orders.c.campaign_id == campaign_id,
            or_(
                counts.c.order_id.is_(None),
                counts.c.n_labels != orders.c.n_labels,
                counts.c.n_settled != orders.c.n_settled,
                counts.c.n_released != orders.c.n_released,
            ),
        )
        .limit(1)
    ).first()
    _require(wrong is None, campaign_id, f"order {wrong and wrong[0]!r} counts other labels than its rows")
    items = schema.items
    of_pool = and_(items.c.campaign_id == slots.c.campaign_id, items.c.item_id == slots.c.item_id)
    unknown = connection.execute(
        select(slots.c.item_id)
        .join_from(slots, items, of_pool, isouter=True)
        .where(slots.c.campaign_id == campaign_id, items.c.item_id.is_(None))
        .limit(1)
    ).first()
    _require(unknown is None, campaign_id, f"item {unknown and unknown[0]!r} of an order is not in the pool")
    leased = and_(leases.c.lease_id == slots.c.lease_id, leases.c.state == LeaseState.OPEN.name)
    loose = connection.execute(
        select(slots.c.item_id)
        .join_from(slots, leases, leased, isouter=True)
        .where(slots.c.campaign_id == campaign_id, slots.c.lease_id.is_not(None), leases.c.lease_id.is_(None))
        .limit(1)
    ).first()
    _require(loose is None, campaign_id, f"item {loose and loose[0]!r} is in the hands of a lease that is not open")


def _verify_pool(connection: Connection, status: CampaignStatus) -> None:
    """An item is taken exactly while an order awaits or has a label of it; the counts are those of the rows."""
    campaign_id = status.campaign.campaign_id
    items, free, taken = schema.items, schema.free_items, schema.taken_items
    slots, orders = schema.order_items, schema.orders
    n_items = _count(connection, select(items.c.item_id).where(items.c.campaign_id == campaign_id))
    of_free = select(free.c.item_id).where(free.c.campaign_id == campaign_id)
    n_free = _count(connection, of_free.where(free.c.gold.is_(False)))
    n_gold = _count(connection, of_free.where(free.c.gold.is_(True)))
    n_taken = _count(connection, select(taken.c.item_id).where(taken.c.campaign_id == campaign_id))
    _require(n_items == status.n_items, campaign_id, f"{n_items} items; the campaign counts {status.n_items}")
    _require(n_free == status.n_items_free, campaign_id, f"{n_free} free items; it counts {status.n_items_free}")
    _require(
        n_free + n_gold + n_taken == n_items,
        campaign_id,
        f"of {n_items} items {n_free + n_gold + n_taken} have a place",
    )
    held = (
        select(slots.c.item_id, slots.c.order_id)
        .join_from(slots, orders, orders.c.order_id == slots.c.order_id)
        .where(
            slots.c.campaign_id == campaign_id,
            slots.c.released.is_(False),
            orders.c.purpose != Purpose.GOLD_QUESTION.name,
        )
        .distinct()
    )
    by_owner = held.join(
        taken,
        (taken.c.campaign_id == slots.c.campaign_id)
        & (taken.c.shuffle_key == slots.c.shuffle_key)
        & (taken.c.item_id == slots.c.item_id)
        & (taken.c.order_id == slots.c.order_id),
    )
    exclusive = held.where(orders.c.sharing == Sharing.NONE.name)
    _require(
        _count(connection, exclusive) == _count(connection, exclusive.with_only_columns(slots.c.item_id).distinct()),
        campaign_id,
        "an item is in two orders that do not share",
    )
    n_held = _count(connection, held.with_only_columns(slots.c.item_id).distinct())
    _require(
        n_taken == n_held == _count(connection, by_owner),
        campaign_id,
        "an item is taken by no order, or not by its own",
    )


def verify_campaign(connection: Connection, campaign_id: str) -> LedgerProof:
    """Works a campaign's money out again from its rows alone, within one snapshot.

    Holds that entries are without gaps; that `settled + reserved <= budget` after each of them; that each order
    reserved its price once, paid its unit price for each label that arrived and released the rest; that each label is
    paid exactly once; that corrections are of payments and give back no more than was paid; and that every stored
    counter equals what the rows say.

    Raises:
        NotFoundError: where there is no such campaign.
        FailedPreconditionError: names the first discrepancy.
    """
    status = read_status(connection, campaign_id)
    orders = {order.order_id: order for order in list_orders(connection, campaign_id)}
    replay = _Replay(status, orders)
    while page := ledger.entries(connection, campaign_id, after_sequence=replay.n_entries, limit=_PAGE_ROWS):
        for entry in page:
            replay.add(entry)
    for order in orders.values():
        _verify_order(campaign_id, order, replay.accounts[order.order_id])
    counted = connection.execute(
        select(schema.campaigns.c.n_entries).where(schema.campaigns.c.campaign_id == campaign_id)
    ).scalar_one()
    balance = status.balance
    _require(counted == replay.n_entries, campaign_id, f"{replay.n_entries} entries; the campaign counts {counted}")
    _require(
        (balance.settled.micros, balance.reserved.micros) == (replay.settled_micros, replay.reserved_micros),
        campaign_id,
        f"the rows settle {replay.settled_micros} and reserve {replay.reserved_micros} micros; the campaign counts "
        f"{balance.settled.micros} and {balance.reserved.micros}",
    )
    n_labels = _verify_labels(connection, campaign_id)
    _verify_corrections(connection, campaign_id)
    _verify_slots(connection, campaign_id)
    _verify_pool(connection, status)
    return LedgerProof(
        campaign_id, replay.n_entries, len(orders), n_labels, balance.settled, balance.reserved, balance.budget
    )


def verify_ledger(database_url: str, campaign_id: str = "") -> list[LedgerProof]:
    """Verifies one campaign of a database, or all of them; may run beside the service.

    Raises:
        NotFoundError: where there is no such database or campaign.
        FailedPreconditionError: names the first discrepancy.
    """
    path = make_url(database_url).database
    if database_url.startswith("sqlite") and path and not Path(path).is_file():
        raise NotFoundError(f"there is no database {path!r}; name the one that the budget service used")
    database = Database(database_url)
    try:
        with database.read() as connection:
            ids = [campaign_id] if campaign_id else [part.campaign_id for part in list_campaigns(connection)]
            return [verify_campaign(connection, each) for each in ids]
    finally:
        database.close()
