"""Orders: money reserved for labels of chosen items, then settled label by label, released or expired."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from isocost.budget import clock, ledger, schema
from isocost.budget.campaigns import lock_active, lock_campaign, mark_finished, next_position, read_campaign
from isocost.budget.clock import time_from_us
from isocost.budget.leases import close_idle
from isocost.budget.reads import RowsById
from isocost.budget.sampling import free_items, take_items
from isocost.budget.slots import release_pending
from isocost.budget.sources import read_source
from isocost.budget.validation import check_count, check_text
from isocost.core.errors import InvalidArgumentError, NotFoundError
from isocost.core.ids import new_id
from isocost.core.money import Money
from isocost.resources.campaign import Campaign, CampaignState, EntryKind, Order, OrderState, Sampling, Sharing
from isocost.resources.label import Purpose
from isocost.resources.task import Source, SourceKind

__all__ = [
    "OVERLAP_MAX",
    "OrderRequest",
    "add_settled",
    "cancel_order",
    "create_order",
    "expire_orders",
    "finish_campaign",
    "list_orders",
    "load_orders",
    "lock_order",
    "read_order",
    "require_order",
]

_orders = schema.orders
_by_ids = RowsById(_orders, _orders.c.order_id)
#: Annotators who may be asked for one item.
OVERLAP_MAX = 100
#: Longest time to live of an order.
TIME_TO_LIVE_MAX = timedelta(days=3_650)


@dataclass(frozen=True, slots=True)
class OrderRequest:
    """A purchase that is asked for.

    Attributes:
        request_id: The caller's id of this purchase.
        campaign_id: The campaign.
        source_id: The source to buy from.
        purpose: What the labels are for.
        n_labels: How many: items times overlap; with given items that, or 0.
        sampling: How the items are chosen.
        item_ids: For GIVEN sampling, the items; else empty.
        overlap: Annotators who answer each item; above 1 for HUMAN sources only.
        time_to_live: How long the labels are awaited; None for ever.
        sharing: Which items of other orders may be taken.
        items_of_order_id: An order of another source whose first items are taken, in its sequence; "" for none. The
            sampling is GIVEN then, and the sharing at least SOURCES.

    Raises:
        InvalidArgumentError: names the field that is wrong in itself or does not fit the others.
    """

    request_id: str
    campaign_id: str
    source_id: str
    purpose: Purpose
    n_labels: int = 0
    sampling: Sampling = Sampling.RANDOM
    item_ids: Sequence[str] = ()
    overlap: int = 1
    time_to_live: timedelta | None = None
    sharing: Sharing = Sharing.NONE
    items_of_order_id: str = ""

    def __post_init__(self) -> None:
        check_count("overlap", self.overlap, minimum=1, maximum=OVERLAP_MAX)
        if self.items_of_order_id:
            self._check_items_of_order()
        if self.time_to_live is not None and not timedelta(seconds=1) <= self.time_to_live <= TIME_TO_LIVE_MAX:
            raise InvalidArgumentError("time_to_live", f"{self.time_to_live}; must be from one second to ten years")
        if not self._names_items:
            check_count("n_labels", self.n_labels, minimum=1)
        elif self.n_labels not in (0, self.n_items * self.overlap):
            raise InvalidArgumentError(
                "n_labels",
                f"{self.n_labels}, but {self.n_items} items are given, {self.overlap} labels each; leave it 0",
            )
        if self.n_labels % self.overlap:
            raise InvalidArgumentError(
                "n_labels", f"{self.n_labels} is no multiple of the overlap of {self.overlap}; give items times overlap"
            )
        seen: set[str] = set()
        for index, item_id in enumerate(self.item_ids):
            check_text(f"item_ids[{index}]", item_id, required=True)
            if item_id in seen:
                raise InvalidArgumentError(f"item_ids[{index}]", f"item {item_id!r} is named twice; name it once")
            seen.add(item_id)

    def _check_items_of_order(self) -> None:
        if self.item_ids:
            raise InvalidArgumentError("item_ids", "given beside items_of_order_id; leave out one of them")
        if self.sampling is Sampling.UNCERTAINTY:
            raise InvalidArgumentError(
                "sampling",
                "UNCERTAINTY, but items_of_order_id gives the items and their sequence; leave out one of them",
            )

    @property
    def _names_items(self) -> bool:
        return self.sampling is Sampling.GIVEN and not self.items_of_order_id

    @property
    def n_items(self) -> int:
        """Items asked for."""
        return len(self.item_ids) if self._names_items else self.n_labels // self.overlap


def create_order(connection: Connection, request: OrderRequest) -> Order:
    """Reserves the money for labels and chooses their items.

    Args:
        connection: A write transaction.
        request: What is asked for.

    Raises:
        InvalidArgumentError: where the source is a model and several annotators are asked for, or a given item is a
            gold question, or the order whose items are asked for is not one of another source of the campaign, is of
            fewer items, or buys gold questions where this one does not.
        NotFoundError: where there is no such campaign, source, item, or order whose items are asked for.
        FailedPreconditionError: where the campaign is finished, or too few items may be taken, or a given one may not.
        BudgetExceededError: where the budget does not suffice.
    """
    lock_active(connection, request.campaign_id)
    source = read_source(connection, request.campaign_id, request.source_id)
    if source.kind is SourceKind.MODEL and (request.overlap > 1 or request.purpose is Purpose.GOLD_QUESTION):
        field = "overlap" if request.overlap > 1 else "purpose"
        raise InvalidArgumentError(field, f"source {source.source_id!r} is a model, and only people are asked so")
    if request.items_of_order_id:
        _check_other(request, load_orders(connection, [request.items_of_order_id]).get(request.items_of_order_id))
    # What has run out pays for what is new.
    expire_orders(connection, request.campaign_id)
    order = _new_order(connection, request, source)
    ledger.reserve(connection, order)
    take_items(connection, order, source.kind, request.item_ids)
    return order


def _check_other(request: OrderRequest, other: Order | None) -> None:
    """Raises where a request may not have the items of another order."""
    field, name = "items_of_order_id", f"order {request.items_of_order_id!r}"
    if other is None:
        raise NotFoundError(f"there is no {name}", field=field)
    if other.campaign_id != request.campaign_id:
        raise InvalidArgumentError(
            field, f"{name} is of campaign {other.campaign_id!r}; name an order of {request.campaign_id!r}"
        )
    if other.source_id == request.source_id:
        raise InvalidArgumentError(
            field, f"{name} buys from {request.source_id!r} as well; give another source_id or another order"
        )
    if (other.purpose is Purpose.GOLD_QUESTION) != (request.purpose is Purpose.GOLD_QUESTION):
        raise InvalidArgumentError(
            field, f"{name} is for {other.purpose.name}, and gold questions are for nothing else; name another order"
        )
    n_labels_max = other.n_items * request.overlap
    if request.n_labels > n_labels_max:
        raise InvalidArgumentError(
            "n_labels",
            f"{request.n_labels}, but {name} has {other.n_items} items, {request.overlap} labels each; "
            f"order at most {n_labels_max}",
        )


def _new_order(connection: Connection, request: OrderRequest, source: Source) -> Order:
    time_us = clock.now_us()
    expire_time_us = None if request.time_to_live is None else time_us + clock.us_from_delta(request.time_to_live)
    sampling, sharing = request.sampling, request.sharing
    if request.items_of_order_id:
        sampling, sharing = Sampling.GIVEN, Sharing.SOURCES if sharing is Sharing.NONE else sharing
    metered = source.price_per_million_tokens
    order = Order(
        order_id=new_id("order"),
        campaign_id=request.campaign_id,
        source_id=request.source_id,
        purpose=request.purpose,
        n_labels=request.n_items * request.overlap,
        n_settled=0,
        n_released=0,
        unit_price=source.unit_price,
        state=OrderState.OPEN,
        request_id=request.request_id,
        create_time=time_from_us(time_us),
        overlap=request.overlap,
        sampling=sampling,
        sharing=sharing,
        expire_time=None if expire_time_us is None else time_from_us(expire_time_us),
        price_per_million_tokens=metered,
        items_of_order_id=request.items_of_order_id,
    )
    connection.execute(
        insert(_orders).values(
            order_id=order.order_id,
            campaign_id=order.campaign_id,
            source_id=order.source_id,
            position=next_position(connection, _orders, order.campaign_id),
            purpose=order.purpose.name,
            n_labels=order.n_labels,
            n_settled=0,
            n_released=0,
            unit_price_micros=order.unit_price.micros,
            currency_code=order.unit_price.currency_code,
            state=order.state.name,
            request_id=order.request_id,
            create_time_us=time_us,
            overlap=order.overlap,
            sampling=order.sampling.name,
            sharing=order.sharing.name,
            expire_time_us=expire_time_us,
            million_tokens_micros=metered.micros if metered else None,
            items_of_order_id=order.items_of_order_id,
        )
    )
    return order


def _order(row: Row[Any]) -> Order:
    million_tokens_micros = row.million_tokens_micros
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
        overlap=row.overlap,
        sampling=Sampling[row.sampling],
        sharing=Sharing[row.sharing],
        expire_time=None if row.expire_time_us is None else time_from_us(row.expire_time_us),
        price_per_million_tokens=(
            None if million_tokens_micros is None else Money(million_tokens_micros, row.currency_code)
        ),
        items_of_order_id=row.items_of_order_id,
    )


def read_order(connection: Connection, order_id: str) -> Order:
    """Reads one order.

    Raises:
        NotFoundError: where there is none.
    """
    return require_order(order_id, load_orders(connection, [order_id]).get(order_id))


def load_orders(connection: Connection, order_ids: Sequence[str]) -> dict[str, Order]:
    """Reads several orders; those that are not there are left out."""
    return {row.order_id: _order(row) for row in _by_ids.read(connection, order_ids)}


def require_order(order_id: str, order: Order | None) -> Order:
    """Returns what was found.

    Raises:
        NotFoundError: where nothing was.
    """
    if order is None:
        raise NotFoundError(f"there is no order {order_id!r}", field="order_id")
    return order


def lock_order(connection: Connection, order_id: str) -> tuple[Campaign, Order]:
    """Locks an order's campaign, and reads both.

    Raises:
        NotFoundError: where there is no such order.
    """
    campaign = lock_campaign(connection, read_order(connection, order_id).campaign_id)
    # Read again: only under the lock does the order stand still.
    return campaign, read_order(connection, order_id)


def list_orders(
    connection: Connection, campaign_id: str, *, after_position: int = 0, limit: int | None = None
) -> list[Order]:
    """A campaign's next orders, oldest first; positions count from 1 without gaps.

    Raises:
        NotFoundError: where there is no such campaign.
    """
    read_campaign(connection, campaign_id)
    query = (
        select(_orders)
        .where(_orders.c.campaign_id == campaign_id, _orders.c.position > after_position)
        .order_by(_orders.c.position)
        .limit(limit)
    )
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
        # Part of it may have expired while the rest was in an annotator's hands.
        order = replace(order, state=OrderState.EXPIRED if order.n_released else OrderState.SETTLED)
    return _store_progress(connection, order)


def _give_up(connection: Connection, order: Order, kind: EntryKind, *, keep_leased: bool = False) -> Order:
    """Gives up what an open order awaits: slots, items and money."""
    n_released = release_pending(connection, order, keep_leased=keep_leased)
    free_items(connection, order)
    if not keep_leased:
        close_idle(connection, order.campaign_id)
    ledger.release(connection, order, n_released, kind)
    order = replace(order, n_released=order.n_released + n_released)
    if order.n_pending == 0:
        order = replace(order, state=OrderState.EXPIRED if kind is EntryKind.EXPIRE else OrderState.CANCELLED)
    return _store_progress(connection, order)


def _cancel(connection: Connection, order: Order) -> Order:
    if order.state is not OrderState.OPEN:
        return order
    return _give_up(connection, order, EntryKind.RELEASE)


def expire_orders(connection: Connection, campaign_id: str) -> int:
    """Gives up what a campaign's orders still await whose time is over; the campaign must be locked.

    A label that an annotator has in hand under a lease is awaited until the lease ends: work begun is paid.

    Returns:
        How many labels were given up.
    """
    query = (
        select(_orders)
        .where(
            _orders.c.campaign_id == campaign_id,
            _orders.c.state == OrderState.OPEN.name,
            _orders.c.expire_time_us <= clock.now_us(),
        )
        .order_by(_orders.c.position)
    )
    n_released = 0
    for row in connection.execute(query).all():
        order = _order(row)
        n_released += _give_up(connection, order, EntryKind.EXPIRE, keep_leased=True).n_released - order.n_released
    return n_released


def cancel_order(connection: Connection, order_id: str) -> Order:
    """Gives up the labels that have not arrived, releases their money and frees their items; leases on them end.

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
