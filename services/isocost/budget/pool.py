"""A campaign's pool of items, and the choice of items for an order.

An item is free until an order takes it, and free again when the order gives it up unlabelled. No item is ever in two
orders at once, so sources share no items, and training and evaluation never overlap.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, func, insert, literal, select, update

from isocost.budget import schema
from isocost.budget.campaigns import lock_active
from isocost.budget.validation import ITEM_BYTES_MAX, check_text
from isocost.core.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from isocost.core.ids import canonical_json
from isocost.resources.task import Item, Task

__all__ = [
    "AddedItems",
    "ItemError",
    "PlacedItem",
    "add_items",
    "free_pending",
    "items_of_order",
    "parse_item",
    "shuffle_key",
    "stored_item",
    "take_given",
    "take_random",
]

_items = schema.items
_order_items = schema.order_items
#: Ids in one IN list; SQLite's oldest limit on bound values is 999.
_IDS_MAX = 500


@dataclass(frozen=True, slots=True)
class ItemError:
    """Why one item was refused; index counts from 0 in the stream."""

    item_id: str
    index: int
    message: str


@dataclass(frozen=True, slots=True)
class AddedItems:
    """What became of one batch of items."""

    n_added: int = 0
    n_duplicate: int = 0
    errors: list[ItemError] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class PlacedItem:
    """An item of an order; position counts from 1 in the order's sequence."""

    position: int
    item: Item


def shuffle_key(campaign_id: str, item_id: str) -> int:
    """The item's place in the campaign's random order: 64 bits of a hash, as a signed integer."""
    digest = hashlib.blake2b(f"{campaign_id}\0{item_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def parse_item(task: Task, item_id: str, fields: dict[str, str]) -> Item:
    """A valid item of a task.

    Raises:
        InvalidArgumentError: where the id is empty or too long, a field that the template shows is missing, or a text
            cannot be stored.
    """
    item = Item(check_text("item_id", item_id), fields)
    for name in task.fields:
        if name not in fields:
            raise InvalidArgumentError(f"fields.{name}", f"missing; the task's template shows {{{name}}}")
    for name, value in fields.items():
        check_text("fields", name)
        check_text(f"fields.{name}", value, bytes_max=ITEM_BYTES_MAX)
    if sum(len(name.encode()) + len(value.encode()) for name, value in fields.items()) > ITEM_BYTES_MAX:
        raise InvalidArgumentError("fields", f"longer than {ITEM_BYTES_MAX} bytes together")
    return item


def _stored_fields(connection: Connection, campaign_id: str, item_ids: Sequence[str]) -> dict[str, str]:
    stored: dict[str, str] = {}
    for start in range(0, len(item_ids), _IDS_MAX):
        query = select(_items.c.item_id, _items.c.fields_json).where(
            _items.c.campaign_id == campaign_id, _items.c.item_id.in_(item_ids[start : start + _IDS_MAX])
        )
        stored.update((row.item_id, row.fields_json) for row in connection.execute(query))
    return stored


def add_items(connection: Connection, campaign_id: str, candidates: Sequence[tuple[int, Item]]) -> AddedItems:
    """Adds one batch of valid items to the pool.

    Args:
        connection: A write transaction.
        campaign_id: The campaign.
        candidates: Items with their index in the stream.

    Returns:
        Counts, and an error for each item whose id is taken by other fields.

    Raises:
        NotFoundError, FailedPreconditionError: where there is no such campaign or it is finished.
    """
    lock_active(connection, campaign_id)
    known = _stored_fields(connection, campaign_id, [item.item_id for _, item in candidates])
    rows: list[dict[str, Any]] = []
    errors: list[ItemError] = []
    n_duplicate = 0
    for index, item in candidates:
        fields_json = canonical_json(dict(item.fields))
        if item.item_id not in known:
            known[item.item_id] = fields_json
            key = shuffle_key(campaign_id, item.item_id)
            rows.append(
                {"campaign_id": campaign_id, "item_id": item.item_id, "fields_json": fields_json, "shuffle_key": key}
            )
        elif known[item.item_id] == fields_json:
            n_duplicate += 1
        else:
            message = "item_id: is in the pool already with other fields; give it another id"
            errors.append(ItemError(item.item_id, index, message))
    if rows:
        connection.execute(insert(_items), rows)
        _count_items(connection, campaign_id, n_added=len(rows), n_freed=len(rows))
    return AddedItems(len(rows), n_duplicate, errors)


def _count_items(connection: Connection, campaign_id: str, *, n_added: int, n_freed: int) -> None:
    campaigns = schema.campaigns
    connection.execute(
        update(campaigns)
        .where(campaigns.c.campaign_id == campaign_id)
        .values(n_items=campaigns.c.n_items + n_added, n_items_free=campaigns.c.n_items_free + n_freed)
    )


def take_random(connection: Connection, campaign_id: str, order_id: str, n_items: int) -> None:
    """Gives an order the next free items in shuffle order: a uniform sample of the free ones.

    Reads the index of the free items and no more of it than the order needs. The campaign must be locked.

    Raises:
        FailedPreconditionError: where too few items are free; says how many are.
    """
    campaigns = schema.campaigns
    n_free = connection.execute(
        select(campaigns.c.n_items_free).where(campaigns.c.campaign_id == campaign_id)
    ).scalar_one()
    if n_items > n_free:
        raise FailedPreconditionError(
            f"{n_items} items are asked for, but only {n_free} of the pool are free; add items or order fewer",
            field="n_labels",
        )
    chosen = (
        select(_items.c.item_id, _items.c.shuffle_key)
        .where(_items.c.campaign_id == campaign_id, _items.c.order_id.is_(None))
        .order_by(_items.c.shuffle_key, _items.c.item_id)
        .limit(n_items)
        .subquery()
    )
    position = func.row_number().over(order_by=(chosen.c.shuffle_key, chosen.c.item_id))
    connection.execute(
        insert(_order_items).from_select(
            ["order_id", "position", "campaign_id", "item_id", "released"],
            select(literal(order_id), position, literal(campaign_id), chosen.c.item_id, literal(False)),
        )
    )
    _mark_taken(connection, campaign_id, order_id, n_items)


def take_given(connection: Connection, campaign_id: str, order_id: str, item_ids: Sequence[str]) -> None:
    """Gives an order the named items, in the given sequence. The campaign must be locked.

    Raises:
        NotFoundError: names the first item that is not in the pool.
        FailedPreconditionError: names the first item that another order has taken.
    """
    owners: dict[str, str | None] = {}
    for start in range(0, len(item_ids), _IDS_MAX):
        query = select(_items.c.item_id, _items.c.order_id).where(
            _items.c.campaign_id == campaign_id, _items.c.item_id.in_(item_ids[start : start + _IDS_MAX])
        )
        owners.update((row.item_id, row.order_id) for row in connection.execute(query))
    for index, item_id in enumerate(item_ids):
        if item_id not in owners:
            raise NotFoundError(
                f"item {item_id!r} is not in the pool of {campaign_id!r}; add it first", field=f"item_ids[{index}]"
            )
        if owners[item_id] is not None:
            raise FailedPreconditionError(
                f"item {item_id!r} is taken by order {owners[item_id]!r}; leave it out", field=f"item_ids[{index}]"
            )
    rows = [
        {"order_id": order_id, "position": position, "campaign_id": campaign_id, "item_id": item_id, "released": False}
        for position, item_id in enumerate(item_ids, start=1)
    ]
    connection.execute(insert(_order_items), rows)
    _mark_taken(connection, campaign_id, order_id, len(item_ids))


def _mark_taken(connection: Connection, campaign_id: str, order_id: str, n_items: int) -> None:
    of_order = select(_order_items.c.item_id).where(_order_items.c.order_id == order_id)
    taken = connection.execute(
        update(_items)
        .where(_items.c.campaign_id == campaign_id, _items.c.item_id.in_(of_order), _items.c.order_id.is_(None))
        .values(order_id=order_id)
    ).rowcount
    assert taken == n_items, f"order {order_id} took {taken} items instead of {n_items}"
    _count_items(connection, campaign_id, n_added=0, n_freed=-n_items)


def free_pending(connection: Connection, campaign_id: str, order_id: str) -> int:
    """Frees the items of an order whose labels have not arrived; returns how many. The campaign must be locked."""
    pending = (
        _order_items.c.order_id == order_id,
        _order_items.c.label_id.is_(None),
        _order_items.c.released.is_(False),
    )
    connection.execute(
        update(_items)
        .where(
            _items.c.campaign_id == campaign_id, _items.c.item_id.in_(select(_order_items.c.item_id).where(*pending))
        )
        .values(order_id=None)
    )
    n_freed = connection.execute(update(_order_items).where(*pending).values(released=True)).rowcount
    _count_items(connection, campaign_id, n_added=0, n_freed=n_freed)
    return n_freed


def stored_item(item_id: str, fields_json: str) -> Item:
    """The item as it was added."""
    return Item(item_id, json.loads(fields_json))


def items_of_order(
    connection: Connection, order_id: str, *, after_position: int, limit: int, pending_only: bool
) -> list[PlacedItem]:
    """The next items of an order in its sequence, after a position; pending ones are not labelled and not released."""
    query = (
        select(_order_items.c.position, _items.c.item_id, _items.c.fields_json)
        .join_from(
            _order_items,
            _items,
            (_items.c.campaign_id == _order_items.c.campaign_id) & (_items.c.item_id == _order_items.c.item_id),
        )
        .where(_order_items.c.order_id == order_id, _order_items.c.position > after_position)
        .order_by(_order_items.c.position)
        .limit(limit)
    )
    if pending_only:
        query = query.where(_order_items.c.label_id.is_(None), _order_items.c.released.is_(False))
    return [PlacedItem(row.position, stored_item(row.item_id, row.fields_json)) for row in connection.execute(query)]
