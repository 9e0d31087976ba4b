"""Slots: the labels that an order awaits, one row for each annotator of each item, in the order's sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Subquery, func, insert, literal, select, union_all, update

from isocost.budget import schema
from isocost.budget.database import execute_many, insert_rows
from isocost.budget.pool import shuffle_key, stored_item
from isocost.budget.schema import is_waiting
from isocost.core.errors import InvalidArgumentError
from isocost.resources.campaign import Order
from isocost.resources.task import Item

__all__ = [
    "PlacedItem",
    "Slot",
    "add_chosen",
    "add_given",
    "fill",
    "items_of_order",
    "position_of",
    "release_pending",
    "slots_of_items",
]

_items = schema.items
_labels = schema.labels
_slots = schema.order_items
#: Ids in one IN list; SQLite's oldest limit on bound values is 999.
IDS_MAX = 500


@dataclass(frozen=True, slots=True)
class PlacedItem:
    """An item of an order; position is that of its first slot, from 1."""

    position: int
    item: Item


@dataclass(frozen=True, slots=True)
class Slot:
    """One awaited label.

    Attributes:
        order_id, position, item_id: Where it stands.
        released: Whether it was given up.
        lease_id: The lease that has it in hand; "" where none has.
        answered_by: Who gave its label; None while it has none.
    """

    order_id: str
    position: int
    item_id: str
    released: bool
    lease_id: str
    answered_by: str | None

    @property
    def is_waiting(self) -> bool:
        """Whether its label is awaited and nobody has it in hand."""
        return self.answered_by is None and not self.lease_id and not self.released


def add_chosen(connection: Connection, order: Order, chosen: Subquery) -> int:
    """Adds the slots of chosen items, all slots of one item together; returns how many there are.

    Args:
        connection: A write transaction.
        order: The order.
        chosen: Columns item_id, shuffle_key and rank, which counts from 1.
    """
    replicas = union_all(*(select(literal(slot).label("slot")) for slot in range(order.overlap))).subquery()
    position = (chosen.c.rank - 1) * order.overlap + replicas.c.slot + 1
    rows = select(
        literal(order.order_id),
        position,
        literal(order.campaign_id),
        chosen.c.item_id,
        chosen.c.shuffle_key,
        replicas.c.slot,
        literal(False),
    ).select_from(chosen.join(replicas, literal(True)))
    columns = ["order_id", "position", "campaign_id", "item_id", "shuffle_key", "slot", "released"]
    # Without the option the count of an insert is not known on PostgreSQL.
    return connection.execute(
        insert(_slots).from_select(columns, rows), execution_options={"preserve_rowcount": True}
    ).rowcount


def add_given(connection: Connection, order: Order, item_ids: Sequence[str]) -> None:
    """Adds the slots of the named items, in the given sequence."""
    names = ("order_id", "position", "campaign_id", "item_id", "shuffle_key", "slot", "released")
    keys = [shuffle_key(order.campaign_id, item_id) for item_id in item_ids]
    rows = [
        (order.order_id, rank * order.overlap + slot + 1, order.campaign_id, item_id, key, slot, False)
        for rank, (item_id, key) in enumerate(zip(item_ids, keys, strict=True))
        for slot in range(order.overlap)
    ]
    insert_rows(connection, _slots, names, rows)


def slots_of_items(connection: Connection, order_id: str, item_ids: Sequence[str]) -> dict[str, list[Slot]]:
    """The slots of some items of an order, by item id; items that are not in the order are left out."""
    found: dict[str, list[Slot]] = {}
    for start in range(0, len(item_ids), IDS_MAX):
        in_order = (_slots.c.order_id == order_id, _slots.c.item_id.in_(item_ids[start : start + IDS_MAX]))
        for slot in _read(connection, *in_order):
            found.setdefault(slot.item_id, []).append(slot)
    return found


def _read(connection: Connection, *where: ColumnElement[bool]) -> list[Slot]:
    query = (
        select(
            _slots.c.order_id,
            _slots.c.position,
            _slots.c.item_id,
            _slots.c.released,
            func.coalesce(_slots.c.lease_id, ""),
            _labels.c.annotator,
        )
        .join_from(_slots, _labels, _labels.c.label_id == _slots.c.label_id, isouter=True)
        .where(*where)
        .order_by(_slots.c.order_id, _slots.c.position)
    )
    return [Slot(*row) for row in connection.execute(query).all()]


def fill(connection: Connection, order_id: str, labels: Sequence[tuple[int, str]]) -> None:
    """Writes (position, label_id) into an order's slots; whoever had them in hand has them no longer."""
    if connection.dialect.name == "sqlite":
        statement = "UPDATE order_items SET label_id = ?, lease_id = NULL WHERE order_id = ? AND position = ?"
    else:
        statement = (
            "UPDATE order_items SET label_id = filled.label_id, lease_id = NULL "
            "FROM unnest(%s::varchar[], %s::varchar[], %s::bigint[]) AS filled (label_id, order_id, position) "
            "WHERE order_items.order_id = filled.order_id AND order_items.position = filled.position"
        )
    execute_many(connection, statement, [(label_id, order_id, position) for position, label_id in labels])


def release_pending(connection: Connection, order: Order, *, keep_leased: bool) -> int:
    """Gives up an order's slots that have no label; returns how many. The campaign must be locked.

    Args:
        connection: A write transaction.
        order: The order.
        keep_leased: Whether slots that a lease has in hand stay awaited.
    """
    pending = [_slots.c.order_id == order.order_id, _slots.c.label_id.is_(None), _slots.c.released.is_(False)]
    if keep_leased:
        pending.append(_slots.c.lease_id.is_(None))
    return connection.execute(update(_slots).where(*pending).values(released=True, lease_id=None)).rowcount


def position_of(connection: Connection, order_id: str, item_id: str) -> int:
    """The position of an item's first slot; 0 for the empty id.

    Raises:
        InvalidArgumentError: where the order has no such item.
    """
    if not item_id:
        return 0
    first = select(func.min(_slots.c.position)).where(_slots.c.order_id == order_id, _slots.c.item_id == item_id)
    position: int | None = connection.execute(first).scalar_one()
    if position is None:
        raise InvalidArgumentError("after_item_id", f"{item_id!r} is not an item of order {order_id!r}")
    return position


def items_of_order(
    connection: Connection, order_id: str, *, after_position: int, limit: int, pending_only: bool
) -> list[PlacedItem]:
    """The next items of an order in its sequence, after a position.

    Args:
        connection: A transaction.
        order_id: The order.
        after_position: That of an item's first slot; 0 for the first items.
        limit: At most so many items.
        pending_only: Only items with a slot that waits: without label, not leased, not released.
    """
    first = _slots.alias("first")
    # The first slot stands for its item, so that an item of several slots comes once.
    query = (
        select(first.c.position, _items.c.item_id, _items.c.fields_json, _items.c.gold_choice)
        .join_from(first, _items, (_items.c.campaign_id == first.c.campaign_id) & (_items.c.item_id == first.c.item_id))
        .where(first.c.order_id == order_id, first.c.position > after_position, first.c.slot == 0)
        .order_by(first.c.position)
        .limit(limit)
    )
    if pending_only:
        waits = select(_slots.c.position).where(
            _slots.c.order_id == first.c.order_id, _slots.c.item_id == first.c.item_id, is_waiting
        )
        query = query.where(waits.exists())
    return [PlacedItem(row.position, stored_item(row)) for row in connection.execute(query)]
