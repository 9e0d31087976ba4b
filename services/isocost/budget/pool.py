"""A campaign's pool of items: adding, scoring and reading them. Which of them an order takes is `sampling`'s."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Table, and_, select, update

from isocost.budget import schema
from isocost.budget.campaigns import lock_active, read_campaign
from isocost.budget.database import insert_rows
from isocost.budget.validation import ITEM_BYTES_MAX, check_count, check_text
from isocost.core.errors import InvalidArgumentError, NotFoundError
from isocost.core.ids import canonical_json
from isocost.resources.pool import ItemState, PoolItem
from isocost.resources.task import Item, Task

__all__ = [
    "AddedItems",
    "ItemError",
    "add_items",
    "parse_item",
    "pool_items",
    "score_items",
    "shuffle_key",
    "stored_item",
]

_items = schema.items
_free = schema.free_items
_taken = schema.taken_items
_scores = schema.item_scores
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


def shuffle_key(campaign_id: str, item_id: str) -> int:
    """The item's place in the campaign's random order: 64 bits of a hash, as a signed integer."""
    digest = hashlib.blake2b(f"{campaign_id}\0{item_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def parse_item(task: Task, item: Item) -> Item:
    """Returns the item where it is one that the task can ask about.

    Raises:
        InvalidArgumentError: where the id is too long, a field that the template shows is missing, a text cannot be
            stored, or the gold choice is none of the task's.
    """
    check_text("item_id", item.item_id)
    fields = item.fields
    if item.gold_choice is not None:
        check_count("gold_choice", item.gold_choice, maximum=len(task.choices) - 1)
    for name in task.fields:
        if name not in fields:
            raise InvalidArgumentError(f"fields.{name}", f"missing; the task's template shows {{{name}}}")
    for name, value in fields.items():
        check_text("fields", name)
        check_text(f"fields.{name}", value, bytes_max=ITEM_BYTES_MAX)
    if sum(len(name.encode()) + len(value.encode()) for name, value in fields.items()) > ITEM_BYTES_MAX:
        raise InvalidArgumentError("fields", f"longer than {ITEM_BYTES_MAX} bytes together")
    return item


def _stored(connection: Connection, campaign_id: str, item_ids: Sequence[str]) -> dict[str, tuple[str, int | None]]:
    """Fields as JSON and gold choice of those items that are in the pool."""
    stored: dict[str, tuple[str, int | None]] = {}
    for start in range(0, len(item_ids), _IDS_MAX):
        query = select(_items.c.item_id, _items.c.fields_json, _items.c.gold_choice).where(
            _items.c.campaign_id == campaign_id, _items.c.item_id.in_(item_ids[start : start + _IDS_MAX])
        )
        stored.update((row.item_id, (row.fields_json, row.gold_choice)) for row in connection.execute(query))
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
    known = _stored(connection, campaign_id, [item.item_id for _, item in candidates])
    rows: list[tuple[str, str, str, int, int | None]] = []
    errors: list[ItemError] = []
    n_duplicate = 0
    for index, item in candidates:
        content = (canonical_json(dict(item.fields)), item.gold_choice)
        if item.item_id not in known:
            known[item.item_id] = content
            rows.append(
                (campaign_id, item.item_id, content[0], shuffle_key(campaign_id, item.item_id), item.gold_choice)
            )
        elif known[item.item_id] == content:
            n_duplicate += 1
        else:
            message = "item_id: is in the pool already with other fields; give it another id"
            errors.append(ItemError(item.item_id, index, message))
    if rows:
        insert_rows(connection, _items, ("campaign_id", "item_id", "fields_json", "shuffle_key", "gold_choice"), rows)
        free = [(campaign_id, gold is not None, key, item_id) for _, item_id, _, key, gold in rows]
        # In the sequence of the table.
        free.sort()
        insert_rows(connection, _free, ("campaign_id", "gold", "shuffle_key", "item_id"), free)
        _count_items(connection, campaign_id, n_added=len(rows), n_freed=sum(row[4] is None for row in rows))
    return AddedItems(len(rows), n_duplicate, errors)


def _count_items(connection: Connection, campaign_id: str, *, n_added: int, n_freed: int) -> None:
    campaigns = schema.campaigns
    connection.execute(
        update(campaigns)
        .where(campaigns.c.campaign_id == campaign_id)
        .values(n_items=campaigns.c.n_items + n_added, n_items_free=campaigns.c.n_items_free + n_freed)
    )


def score_items(connection: Connection, campaign_id: str, scores: Sequence[tuple[str, float]]) -> None:
    """Stores how uncertain a model is about items; a score replaces the one before.

    Args:
        connection: A write transaction.
        campaign_id: The campaign.
        scores: (item_id, uncertainty), each item once.

    Raises:
        NotFoundError, FailedPreconditionError: where there is no such campaign or it is finished.
        NotFoundError: names the first item that is not in the pool.
    """
    lock_active(connection, campaign_id)
    known = _stored(connection, campaign_id, [item_id for item_id, _ in scores])
    for index, (item_id, _) in enumerate(scores):
        if item_id not in known:
            raise NotFoundError(
                f"item {item_id!r} is not in the pool of {campaign_id!r}; add it first",
                field=f"scores[{index}].item_id",
            )
    names = ("campaign_id", "shuffle_key", "item_id", "uncertainty")
    rows = [(campaign_id, shuffle_key(campaign_id, item_id), item_id, uncertainty) for item_id, uncertainty in scores]
    insert_rows(connection, _scores, names, rows, replacing="uncertainty")


def stored_item(row: Any) -> Item:
    """The item as it was added, from a row with item_id, fields_json and gold_choice."""
    return Item(row.item_id, json.loads(row.fields_json), row.gold_choice)


def pool_items(
    connection: Connection, campaign_id: str, *, after_item_id: str, limit: int, state: ItemState | None = None
) -> list[PoolItem]:
    """The next items of a campaign by id, after an id ("" for the first).

    Args:
        connection: A transaction.
        campaign_id: The campaign.
        after_item_id: "" for the first.
        limit: At most so many.
        state: Only those in this state; None for all.

    Raises:
        NotFoundError: where there is no such campaign.
    """
    read_campaign(connection, campaign_id)
    query = (
        select(_items, _taken.c.order_id, _scores.c.uncertainty)
        .join_from(_items, _taken, _same_item(_taken), isouter=True)
        .join(_scores, _same_item(_scores), isouter=True)
        .where(_items.c.campaign_id == campaign_id, _items.c.item_id > after_item_id)
        .order_by(_items.c.item_id)
        .limit(limit)
    )
    if state is ItemState.FREE:
        query = query.where(_items.c.gold_choice.is_(None), _taken.c.order_id.is_(None))
    elif state is ItemState.ORDERED:
        query = query.where(_taken.c.order_id.is_not(None))
    elif state is ItemState.GOLD_QUESTION:
        query = query.where(_items.c.gold_choice.is_not(None))
    return [_pool_item(row) for row in connection.execute(query)]


def _same_item(table: Table) -> ColumnElement[bool]:
    return and_(*(table.c[name] == _items.c[name] for name in ("campaign_id", "shuffle_key", "item_id")))


def _pool_item(row: Row[Any]) -> PoolItem:
    if row.gold_choice is not None:
        state = ItemState.GOLD_QUESTION
    else:
        state = ItemState.ORDERED if row.order_id else ItemState.FREE
    return PoolItem(stored_item(row), state, row.order_id or "", row.uncertainty)
