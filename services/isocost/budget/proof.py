"""Proof of the ledger: everything that is said about money, worked out again from the rows alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, and_, case, func, make_url, or_, select

from isocost.budget import ledger, schema
from isocost.budget.campaigns import CampaignStatus, list_campaigns, read_status
from isocost.budget.database import Database
from isocost.budget.orders import list_orders
from isocost.budget.replay import Replay, require
from isocost.core.errors import NotFoundError
from isocost.core.money import Money
from isocost.resources.campaign import EntryKind, LedgerEntry, Sharing
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


def _count(connection: Connection, query: Any) -> int:
    return int(connection.execute(select(func.count()).select_from(query.subquery())).scalar_one())


def _prompt_tokens(connection: Connection, entries: Sequence[LedgerEntry]) -> dict[str, int]:
    """Tokens of the labels that entries pay, by label id, from the labels' own rows."""
    labels, paid = schema.labels, schema.ledger_entries
    query = (
        select(labels.c.label_id, labels.c.prompt_tokens)
        .join_from(paid, labels, labels.c.label_id == paid.c.label_id)
        .where(
            paid.c.campaign_id == entries[0].campaign_id,
            paid.c.sequence.between(entries[0].sequence, entries[-1].sequence),
        )
    )
    return {row.label_id: row.prompt_tokens for row in connection.execute(query)}


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
    require(unpaid is None, campaign_id, f"label {unpaid and unpaid[0]!r} has no payment of its order")
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
    require(stray is None, campaign_id, f"label {stray and stray[0]!r} answers no item of its order")
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
    require(n_labels == last == counted, campaign_id, f"there are {n_labels} labels; the last is {last} of {counted}")
    require(n_paid == n_labels, campaign_id, f"{n_paid} payments for {n_labels} labels")
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
    require(stray is None, campaign_id, f"entry {stray and stray[0]} corrects no payment")
    too_much = connection.execute(
        select(entries.c.corrects_sequence)
        .join_from(entries, paid, of_payment)
        .where(*corrections)
        .group_by(entries.c.corrects_sequence, paid.c.amount_micros)
        .having(func.sum(entries.c.amount_micros) + paid.c.amount_micros < 0)
        .limit(1)
    ).first()
    require(too_much is None, campaign_id, f"more of entry {too_much and too_much[0]} is given back than was paid")


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
    require(wrong is None, campaign_id, f"order {wrong and wrong[0]!r} counts other labels than its rows")
    items = schema.items
    of_pool = and_(items.c.campaign_id == slots.c.campaign_id, items.c.item_id == slots.c.item_id)
    unknown = connection.execute(
        select(slots.c.item_id)
        .join_from(slots, items, of_pool, isouter=True)
        .where(slots.c.campaign_id == campaign_id, items.c.item_id.is_(None))
        .limit(1)
    ).first()
    require(unknown is None, campaign_id, f"item {unknown and unknown[0]!r} of an order is not in the pool")
    leased = and_(leases.c.lease_id == slots.c.lease_id, leases.c.state == LeaseState.OPEN.name)
    loose = connection.execute(
        select(slots.c.item_id)
        .join_from(slots, leases, leased, isouter=True)
        .where(slots.c.campaign_id == campaign_id, slots.c.lease_id.is_not(None), leases.c.lease_id.is_(None))
        .limit(1)
    ).first()
    require(loose is None, campaign_id, f"item {loose and loose[0]!r} is in the hands of a lease that is not open")


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
    require(n_items == status.n_items, campaign_id, f"{n_items} items; the campaign counts {status.n_items}")
    require(n_free == status.n_items_free, campaign_id, f"{n_free} free items; it counts {status.n_items_free}")
    require(
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
    require(
        _count(connection, exclusive) == _count(connection, exclusive.with_only_columns(slots.c.item_id).distinct()),
        campaign_id,
        "an item is in two orders that do not share",
    )
    n_held = _count(connection, held.with_only_columns(slots.c.item_id).distinct())
    require(
        n_taken == n_held == _count(connection, by_owner),
        campaign_id,
        "an item is taken by no order, or not by its own",
    )


def verify_campaign(connection: Connection, campaign_id: str) -> LedgerProof:
    """Works a campaign's money out again from its rows alone, within one snapshot.

    Holds that entries are without gaps; that `settled + reserved <= budget` after each of them; that each order
    reserved its price once, paid for each label that arrived its unit price, or what its tokens cost where the source
    is metered, and released the rest; that each label is paid exactly once; that corrections are of payments and give
    back no more than was paid; and that every stored counter equals what the rows say.

    Raises:
        NotFoundError: where there is no such campaign.
        FailedPreconditionError: names the first discrepancy.
    """
    status = read_status(connection, campaign_id)
    orders = {order.order_id: order for order in list_orders(connection, campaign_id)}
    is_metered = any(order.price_per_million_tokens is not None for order in orders.values())
    replay = Replay(status, orders)
    while page := ledger.entries(connection, campaign_id, after_sequence=replay.n_entries, limit=_PAGE_ROWS):
        prompt_tokens = _prompt_tokens(connection, page) if is_metered else {}
        for entry in page:
            replay.add(entry, prompt_tokens)
    for order in orders.values():
        replay.close(order)
    counted = connection.execute(
        select(schema.campaigns.c.n_entries).where(schema.campaigns.c.campaign_id == campaign_id)
    ).scalar_one()
    balance = status.balance
    require(counted == replay.n_entries, campaign_id, f"{replay.n_entries} entries; the campaign counts {counted}")
    require(
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
