"""Sampling: which items an order takes, and giving them back.

An item is free until an order takes it. Unless the order shares, its items are its own: sources share no items, and
training and evaluation never overlap. Items are chosen through the partial indexes of the pool, so the cost grows with
the order, not with the pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Table,
    and_,
    delete,
    exists,
    false,
    func,
    insert,
    literal,
    not_,
    or_,
    select,
    true,
    tuple_,
    union_all,
    update,
)

from isocost.budget import schema
from isocost.budget.slots import IDS_MAX, add_chosen, add_given
from isocost.core.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from isocost.resources.campaign import Order, Sampling, Sharing
from isocost.resources.label import Purpose
from isocost.resources.task import SourceKind

__all__ = ["free_items", "take_items"]

_free = schema.free_items
_items = schema.items
_orders = schema.orders
_scores = schema.item_scores
_slots = schema.order_items
_taken = schema.taken_items
_KEY = ("campaign_id", "shuffle_key", "item_id")


def take_items(connection: Connection, order: Order, kind: SourceKind, item_ids: Sequence[str]) -> None:
    """Gives an order its items, by its sampling and its sharing. The campaign must be locked.

    Args:
        connection: A write transaction.
        order: The order, stored already.
        kind: Kind of its source: two labels of one item are never bought from the same MODEL source.
        item_ids: For SAMPLING_GIVEN without another order's items, the items; else empty.

    Raises:
        NotFoundError: names the first given item that is not in the pool.
        InvalidArgumentError: names the first given item that is a gold question and ought not to be, or is none and
            ought to be.
        FailedPreconditionError: where too few items may be taken, or names the first given one that may not.
    """
    if order.items_of_order_id:
        _take_of_order(connection, order, kind)
    elif order.sampling is Sampling.GIVEN:
        _check_given(connection, order, kind, item_ids)
        add_given(connection, order, item_ids)
    else:
        _take_sampled(connection, order, kind)
    _mark_taken(connection, order)


def _conflict(order: Order, kind: SourceKind, item_id: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether an order that holds a taken item keeps this one from taking it as well."""
    if order.sharing is Sharing.NONE:
        return true()
    same_source = _orders.c.source_id == order.source_id
    is_evaluation = _orders.c.purpose == Purpose.EVALUATION.name
    other_use = not_(is_evaluation) if order.purpose is Purpose.EVALUATION else is_evaluation
    if order.sharing is Sharing.SOURCES:
        clashes = or_(same_source, other_use)
    elif kind is SourceKind.MODEL:
        clashes = same_source
    else:
        return false()
    clash = (
        select(_orders.c.order_id)
        .join_from(_orders, _slots, _slots.c.order_id == _orders.c.order_id)
        .where(
            _orders.c.campaign_id == order.campaign_id,
            _orders.c.order_id != order.order_id,
            clashes,
            _slots.c.item_id == item_id,
            _slots.c.released.is_(False),
        )
    )
    # A scalar subquery, not EXISTS: PostgreSQL would join and sort the whole pool instead of walking the index.
    return clash.limit(1).scalar_subquery().is_not(None)


def _walk(order: Order, among: Table, *conditions: ColumnElement[bool]) -> Select[Any]:
    """The first items of a table of free or taken ones, in the order's sequence: shuffled, or by uncertainty."""
    if order.sampling is Sampling.RANDOM:
        query = select(among.c.item_id, among.c.shuffle_key, literal(0.0).label("uncertainty")).where(
            among.c.campaign_id == order.campaign_id, *conditions
        )
        return query.order_by(among.c.shuffle_key, among.c.item_id).limit(order.n_items)
    same_item = (among.c[name] == _scores.c[name] for name in _KEY)
    # As above: the scores are walked from the highest, and each is looked up among the free or the taken items.
    found = select(among.c.item_id).where(*same_item, *conditions).scalar_subquery()
    query = select(_scores.c.item_id, _scores.c.shuffle_key, _scores.c.uncertainty).where(
        _scores.c.campaign_id == order.campaign_id, found.is_not(None)
    )
    return query.order_by(_scores.c.uncertainty.desc(), _scores.c.shuffle_key, _scores.c.item_id).limit(order.n_items)


def _take_sampled(connection: Connection, order: Order, kind: SourceKind) -> None:
    gold = order.purpose is Purpose.GOLD_QUESTION
    free = _walk(order, _free, _free.c.gold.is_(gold)).subquery()
    if gold or order.sharing is Sharing.NONE:
        candidates = free
    else:
        taken = _walk(order, _taken, not_(_conflict(order, kind, _taken.c.item_id))).subquery()
        candidates = union_all(select(free), select(taken)).subquery()
    sequence: list[ColumnElement[object]] = [candidates.c.shuffle_key, candidates.c.item_id]
    if order.sampling is Sampling.UNCERTAINTY:
        sequence.insert(0, candidates.c.uncertainty.desc())
    rank = func.row_number().over(order_by=sequence).label("rank")
    ranked = select(candidates.c.item_id, candidates.c.shuffle_key, rank).subquery()
    chosen = select(ranked).where(ranked.c.rank <= order.n_items).subquery()
    n_items = add_chosen(connection, order, chosen) // order.overlap
    if n_items == order.n_items:
        return
    if order.purpose is Purpose.GOLD_QUESTION:
        what, remedy = "gold questions", "add items with a gold_choice or order fewer"
    elif order.sampling is Sampling.UNCERTAINTY:
        what, remedy = "items with an uncertainty", "score more items with ScoreItems or order fewer"
    else:
        what, remedy = "items", "add items or order fewer"
    which = "free" if order.sharing is Sharing.NONE else "free or may be shared"
    raise FailedPreconditionError(
        f"{order.n_items} {what} are asked for, but only {n_items} of the pool are {which}; {remedy}", field="n_labels"
    )


def _take_of_order(connection: Connection, order: Order, kind: SourceKind) -> None:
    """The first items that another order holds and that the sharing allows, in that order's sequence."""
    first, held = _slots.alias("first"), _slots.alias("held")
    # An item that the other order gave up is left out: it is free, or a third order's.
    is_held = exists().where(
        held.c.order_id == first.c.order_id, held.c.item_id == first.c.item_id, held.c.released.is_(False)
    )
    allowed = true() if order.purpose is Purpose.GOLD_QUESTION else not_(_conflict(order, kind, first.c.item_id))
    found = (
        select(first.c.item_id, first.c.shuffle_key, first.c.position)
        .where(first.c.order_id == order.items_of_order_id, first.c.slot == 0, is_held, allowed)
        .order_by(first.c.position)
        .limit(order.n_items)
        .subquery()
    )
    rank = func.row_number().over(order_by=found.c.position).label("rank")
    chosen = select(found.c.item_id, found.c.shuffle_key, rank).subquery()
    n_items = add_chosen(connection, order, chosen) // order.overlap
    if n_items < order.n_items:
        raise FailedPreconditionError(
            f"{order.n_items} items of order {order.items_of_order_id!r} are asked for, but only {n_items} may be "
            f"taken: the others were given up, are bought from {order.source_id!r} already, or are for training where "
            "this order is for evaluation (or the reverse); order fewer, or set sharing to ALL",
            field="n_labels",
        )


def _check_given(connection: Connection, order: Order, kind: SourceKind, item_ids: Sequence[str]) -> None:
    found: dict[str, tuple[bool, str | None, bool]] = {}
    holder = and_(*(_taken.c[name] == _items.c[name] for name in _KEY))
    conflict = _conflict(order, kind, _items.c.item_id)
    for start in range(0, len(item_ids), IDS_MAX):
        query = (
            select(_items.c.item_id, _items.c.gold_choice.is_not(None), _taken.c.order_id, conflict)
            .join_from(_items, _taken, holder, isouter=True)
            .where(_items.c.campaign_id == order.campaign_id, _items.c.item_id.in_(item_ids[start : start + IDS_MAX]))
        )
        found.update((item_id, (gold, owner, clash)) for item_id, gold, owner, clash in connection.execute(query))
    for index, item_id in enumerate(item_ids):
        field = f"item_ids[{index}]"
        if item_id not in found:
            raise NotFoundError(
                f"item {item_id!r} is not in the pool of {order.campaign_id!r}; add it first", field=field
            )
        gold, owner, clash = found[item_id]
        if gold and order.purpose is not Purpose.GOLD_QUESTION:
            raise InvalidArgumentError(field, f"item {item_id!r} is a gold question; leave it out")
        if not gold and order.purpose is Purpose.GOLD_QUESTION:
            raise InvalidArgumentError(
                field, f"item {item_id!r} is no gold question: it has no gold_choice; leave it out"
            )
        if owner is not None and clash:
            hint = "leave it out, or set sharing" if order.sharing is Sharing.NONE else "leave it out"
            raise FailedPreconditionError(f"item {item_id!r} is taken by order {owner!r}; {hint}", field=field)


def _mark_taken(connection: Connection, order: Order) -> None:
    """Moves the free ones of an order's items to the taken ones."""
    if order.purpose is Purpose.GOLD_QUESTION:
        return
    own = select(_slots.c.shuffle_key, _slots.c.item_id).where(_slots.c.order_id == order.order_id)
    was_free = and_(
        _free.c.campaign_id == order.campaign_id,
        _free.c.gold.is_(False),
        tuple_(_free.c.shuffle_key, _free.c.item_id).in_(own),
    )
    _move(connection, _taken, select(*(_free.c[name] for name in _KEY), literal(order.order_id)).where(was_free))
    n_taken = connection.execute(delete(_free).where(was_free)).rowcount
    exclusive = order.sharing is Sharing.NONE
    assert n_taken == order.n_items or not exclusive, f"order {order.order_id} took {n_taken} of {order.n_items} items"
    _count_free(connection, order, -n_taken)


def _move(connection: Connection, to: Table, rows: Select[Any]) -> None:
    connection.execute(insert(to).from_select([column.name for column in to.columns], rows))


def free_items(connection: Connection, order: Order) -> None:
    """Frees the items of an order that were given up, and that none of its annotators has answered.

    An item that another order holds as well passes to the first such order. The campaign must be locked.
    """
    if order.purpose is Purpose.GOLD_QUESTION:
        return
    held = _slots.alias("held")
    still_held = exists().where(
        held.c.order_id == _slots.c.order_id, held.c.item_id == _slots.c.item_id, held.c.released.is_(False)
    )
    given_up = select(_slots.c.shuffle_key, _slots.c.item_id).where(
        _slots.c.order_id == order.order_id, _slots.c.released.is_(True), not_(still_held)
    )
    own = and_(
        _taken.c.campaign_id == order.campaign_id,
        tuple_(_taken.c.shuffle_key, _taken.c.item_id).in_(given_up),
        _taken.c.order_id == order.order_id,
    )
    next_holder = (
        select(_orders.c.order_id)
        .join_from(_orders, _slots, _slots.c.order_id == _orders.c.order_id)
        .where(
            _orders.c.campaign_id == order.campaign_id,
            _orders.c.sharing != Sharing.NONE.name,
            _slots.c.item_id == _taken.c.item_id,
            _slots.c.released.is_(False),
        )
        .order_by(_orders.c.position)
        .limit(1)
        .scalar_subquery()
    )
    connection.execute(update(_taken).where(own).values(order_id=func.coalesce(next_holder, _taken.c.order_id)))
    back = select(_taken.c.campaign_id, literal(False), _taken.c.shuffle_key, _taken.c.item_id).where(own)
    _move(connection, _free, back)
    _count_free(connection, order, connection.execute(delete(_taken).where(own)).rowcount)


def _count_free(connection: Connection, order: Order, change: int) -> None:
    campaigns = schema.campaigns
    connection.execute(
        update(campaigns)
        .where(campaigns.c.campaign_id == order.campaign_id)
        .values(n_items_free=campaigns.c.n_items_free + change)
    )
