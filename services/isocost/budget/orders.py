"""Orders: money reserved for labels of chosen items, then settled label by label or released."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from isocost.budget import ledger, pool, schema
from isocost.budget.campaigns import lock_active, lock_campaign, mark_finished, next_position, read_campaign
from isocost.budget.clock import now_us, time_from_us
from isocost.budget.sources import read_source
from isocost.budget.validation import check_count, check_text
from isocost.core.errors import InvalidArgumentError, NotFoundError
from isocost.core.ids import new_id
from isocost.core.money import Money
from isocost.resources.campaign import Campaign, CampaignState, Order, OrderState
from isocost.resources.label import Purpose

__all__ = ["add_settled", "cancel_order", "create_order", "finish_campaign", "list_orders", "lock_order", "read_order"]

_orders = schema.orders


def create_order(
    connection: Connection,
    *,
    request_id: str,
    campaign_id: str,
    source_id: str,
    purpose: Purpose,
    n_labels: int = 0,
    item_ids: Sequence[str] = (),
) -> Order:
    """Reserves the money for labels and chooses their items: the given ones, or random free ones.

    Args:
        connection: A write transaction.
        request_id: The caller's id of this purchase.
        campaign_id: The campaign.
        source_id: The source to buy from.
        purpose: What the labels are for.
        n_labels: How many; with given items their number, or 0.
        item_ids: The items; empty for random ones.

    Raises:
        InvalidArgumentError: where a count is out of range or an item is named twice.
        NotFoundError: where there is no such campaign, source or item.
        FailedPreconditionError: where the campaign is finished, too few items are free, or a given one is taken.
        BudgetExceededError: where the budget does not suffice.
    """
    n_labels = _check_choice(n_labels, item_ids)
    lock_active(connection, campaign_id)
    source = read_source(connection, campaign_id, source_id)
    time_us = now_us()
    order = Order(
        order_id=new_id("order"),
        campaign_id=campaign_id,
        source_id=source_id,
        purpose=purpose,
        n_labels=n_labels,
        n_settled=0,
        n_released=0,
        unit_price=source.unit_price,
        state=OrderState.OPEN,
        request_id=request_id,
        create_time=time_from_us(time_us),
    )
    connection.execute(
        insert(_orders).values(
            order_id=order.order_id,
            campaign_id=campaign_id,
            source_id=source_id,
            position=next_position(connection, _orders, campaign_id),
            purpose=purpose.name,
            n_labels=n_labels,
            n_settled=0,
            n_released=0,
            unit_price_micros=source.unit_price.micros,
            currency_code=source.unit_price.currency_code,
            state=OrderState.OPEN.name,
            request_id=request_id,
            create_time_us=time_us,
        )
    )
    ledger.reserve(connection, order)
    if item_ids:
        pool.take_given(connection, campaign_id, order.order_id, item_ids)
    else:
        pool.take_random(connection, campaign_id, order.order_id, n_labels)
    return order


def _check_choice(n_labels: int, item_ids: Sequence[str]) -> int:
    """How many labels are ordered."""
    if not item_ids:
        return check_count("n_labels", n_labels, minimum=1)
    if n_labels not in (0, len(item_ids)):
        raise InvalidArgumentError("n_labels", f"{n_labels}, but {len(item_ids)} items are given; leave it 0")
    seen: set[str] = set()
    for index, item_id in enumerate(item_ids):
        check_text(f"item_ids[{index}]", item_id, required=True)
        if item_id in seen:
            raise InvalidArgumentError(f"item_ids[{index}]", f"item {item_id!r} is named twice; name it once")
        seen.add(item_id)
    return len(item_ids)


def _order(row: Row[Any]) -> Order:
    return Order(
        order_id=row.order_id,
        campaign_id=row.campaign_id,
        source_id=row.source_id,
        purpose=Purpose[row.purpose],
        n_labels=row.n_labels,
        n_settled=row.n_settled,
        n_released=row.n_released,
        unit_price=Money(row.unit_price_micros, row.currency_code),
        state=OrderState[row.state],
        request_id=row.request_id,
        create_time=time_from_us(row.create_time_us),
    )


def read_order(connection: Connection, order_id: str) -> Order:
    """Reads one order.

    Raises:
        NotFoundError: where there is none.
    """
    row = connection.execute(select(_orders).where(_orders.c.order_id == order_id)).first()
    if row is None:
        raise NotFoundError(f"there is no order {order_id!r}", field="order_id")
    return _order(row)


def lock_order(connection: Connection, order_id: str) -> tuple[Campaign, Order]:
    """Locks an order's campaign, and reads both.

    Raises:
        NotFoundError: where there is no such order.
    """
    campaign = lock_campaign(connection, read_order(connection, order_id).campaign_id)
    # Read again: only under the lock does the order stand still.
    return campaign, read_order(connection, order_id)


def list_orders(connection: Connection, campaign_id: str) -> list[Order]:
    """A campaign's orders, oldest first.

    Raises:
        NotFoundError: where there is no such campaign.
    """
    read_campaign(connection, campaign_id)
    query = select(_orders).where(_orders.c.campaign_id == campaign_id).order_by(_orders.c.position)
    return [_order(row) for row in connection.execute(query)]


def _store_progress(connection: Connection, order: Order) -> Order:
    connection.execute(
        update(_orders)
        .where(_orders.c.order_id == order.order_id)
        .values(n_settled=order.n_settled, n_released=order.n_released, state=order.state.name)
    )
    return order


def add_settled(connection: Connection, order: Order, n_settled: int) -> Order:
    """Counts labels that were just paid; an order with nothing pending is SETTLED. The campaign must be locked."""
    order = replace(order, n_settled=order.n_settled + n_settled)
    if order.n_pending == 0 and order.state is OrderState.OPEN:
        order = replace(order, state=OrderState.SETTLED)
    return _store_progress(connection, order)


def _cancel(connection: Connection, order: Order) -> Order:
    if order.state is not OrderState.OPEN:
        return order
    n_freed = pool.free_pending(connection, order.campaign_id, order.order_id)
    assert n_freed == order.n_pending, f"order {order.order_id}: {n_freed} items freed, {order.n_pending} pending"
    ledger.release(connection, order, n_freed)
    released = replace(order, n_released=order.n_released + n_freed, state=OrderState.CANCELLED)
    return _store_progress(connection, released)


def cancel_order(connection: Connection, order_id: str) -> Order:
    """Gives up the labels that have not arrived, releases their money and frees their items.

    An order that is settled or cancelled already stays as it is.

    Raises:
        NotFoundError: where there is no such order.
    """
    _, order = lock_order(connection, order_id)
    return _cancel(connection, order)


def finish_campaign(connection: Connection, campaign_id: str) -> Campaign:
    """Cancels a campaign's open orders and marks it as finished; a finished one stays as it is.

    Raises:
        NotFoundError: where there is no such campaign.
    """
    campaign = lock_campaign(connection, campaign_id)
    query = (
        select(_orders)
        .where(_orders.c.campaign_id == campaign_id, _orders.c.state == OrderState.OPEN.name)
        .order_by(_orders.c.position)
    )
    for row in connection.execute(query).all():
        _cancel(connection, _order(row))
    mark_finished(connection, campaign_id)
    return replace(campaign, state=CampaignState.FINISHED)
