"""What waits for people: the slots that an annotator may be handed, and the queues that have any."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, exists, func, or_, select

from isocost.budget import clock, schema
from isocost.budget.annotators import read_annotator
from isocost.budget.campaigns import read_campaign
from isocost.budget.schema import is_waiting
from isocost.budget.slots import IDS_MAX, Slot
from isocost.resources.campaign import CampaignState, OrderState
from isocost.resources.label import Purpose
from isocost.resources.queue import LeaseState, Queue
from isocost.resources.task import SourceKind

__all__ = ["Seat", "list_queues", "waiting_slots"]

_campaigns = schema.campaigns
_labels = schema.labels
_leases = schema.leases
_orders = schema.orders
_slots = schema.order_items
_sources = schema.sources


@dataclass(frozen=True, slots=True)
class Seat:
    """Who answers for what: a campaign, its HUMAN source, and the annotator."""

    campaign_id: str
    source_id: str
    annotator: str

    def open_orders(self) -> ColumnElement[bool]:
        """The orders that hand out items, as a condition on `orders`."""
        return and_(_orders.c.campaign_id == self.campaign_id, _orders.c.source_id == self.source_id, _is_open())

    def may_take(self) -> ColumnElement[bool]:
        """The slots that wait for the annotator, as a condition on `order_items`."""
        answered = exists().where(
            _labels.c.campaign_id == self.campaign_id,
            _labels.c.item_id == _slots.c.item_id,
            _labels.c.source_id == self.source_id,
            _labels.c.annotator == self.annotator,
        )
        own_leases = select(_leases.c.lease_id).where(
            _leases.c.campaign_id == self.campaign_id,
            _leases.c.source_id == self.source_id,
            _leases.c.annotator == self.annotator,
            _leases.c.state == LeaseState.OPEN.name,
        )
        held = _slots.alias("held")
        in_hand = select(held.c.item_id).where(held.c.lease_id.in_(own_leases))
        return and_(is_waiting, ~answered, _slots.c.item_id.not_in(in_hand))


def _is_open() -> ColumnElement[bool]:
    in_time = or_(_orders.c.expire_time_us.is_(None), _orders.c.expire_time_us > clock.now_us())
    return and_(_orders.c.state == OrderState.OPEN.name, in_time)


def waiting_slots(connection: Connection, seat: Seat, n_slots: int, *, gold_questions: bool) -> list[Slot]:
    """The first waiting slots for this annotator, oldest order first, one for each item.

    Args:
        connection: A transaction.
        seat: Who would answer for what.
        n_slots: At most so many.
        gold_questions: Whether those of gold questions, or the others.
    """
    chosen: dict[str, Slot] = {}
    is_gold_order = _orders.c.purpose == Purpose.GOLD_QUESTION.name
    open_orders = select(_orders.c.order_id).where(
        seat.open_orders(), is_gold_order if gold_questions else ~is_gold_order
    )
    for order_id in connection.execute(open_orders.order_by(_orders.c.position)).scalars().all():
        for position, item_id in _waiting_in_order(connection, seat, order_id):
            if len(chosen) >= n_slots:
                return list(chosen.values())
            chosen.setdefault(item_id, Slot(order_id, position, item_id, False, "", None))
    return list(chosen.values())[:n_slots]


def _waiting_in_order(connection: Connection, seat: Seat, order_id: str) -> Iterator[tuple[int, str]]:
    """Waiting slots of one order whose items are new to the annotator, in sequence, read as they are asked for."""
    query = (
        select(_slots.c.position, _slots.c.item_id)
        .where(_slots.c.order_id == order_id, seat.may_take())
        .order_by(_slots.c.position)
    )
    after = 0
    while rows := connection.execute(query.where(_slots.c.position > after).limit(IDS_MAX)).all():
        for row in rows:
            yield row.position, row.item_id
        after = rows[-1].position


def list_queues(connection: Connection, annotator: str) -> list[Queue]:
    """The HUMAN sources with open orders, of campaigns that are not finished, oldest campaign first.

    Args:
        connection: A transaction.
        annotator: Who would answer.
    """
    with_orders = (
        select(_sources.c.campaign_id, _sources.c.source_id)
        .join_from(_sources, _campaigns, _campaigns.c.campaign_id == _sources.c.campaign_id)
        .where(
            _campaigns.c.state == CampaignState.ACTIVE.name,
            _sources.c.kind == SourceKind.HUMAN.name,
            exists().where(
                _orders.c.campaign_id == _sources.c.campaign_id,
                _orders.c.source_id == _sources.c.source_id,
                _is_open(),
            ),
        )
        .order_by(_campaigns.c.create_time_us, _campaigns.c.campaign_id, _sources.c.source_id)
    )
    return [
        _queue(connection, Seat(row.campaign_id, row.source_id, annotator))
        for row in connection.execute(with_orders).all()
    ]


def _queue(connection: Connection, seat: Seat) -> Queue:
    order_ids = connection.execute(select(_orders.c.order_id).where(seat.open_orders())).scalars().all()
    # One query an order, as each reads a range of the index of what waits.
    waiting: set[str] = set()
    n_awaited = 0
    for order_id in order_ids:
        waiting.update(item_id for _, item_id in _waiting_in_order(connection, seat, order_id))
        of_order = select(func.count()).where(
            _slots.c.order_id == order_id, _slots.c.label_id.is_(None), _slots.c.released.is_(False)
        )
        n_awaited += connection.execute(of_order).scalar_one()
    counts = read_annotator(connection, seat.campaign_id, seat.source_id, seat.annotator)
    return Queue(
        campaign_id=seat.campaign_id,
        source_id=seat.source_id,
        task=read_campaign(connection, seat.campaign_id).task,
        n_waiting=len(waiting),
        n_awaited=n_awaited,
        n_answered=counts["n_labels"],
    )
