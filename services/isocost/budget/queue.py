"""The human queue: handing out the items that await a label, and taking the answers."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from sqlalchemy import ColumnElement, Connection, insert, select, update

from isocost.budget import clock, schema
from isocost.budget.annotators import count_annotator, read_annotator
from isocost.budget.campaigns import lock_active, next_position
from isocost.budget.clock import time_from_us
from isocost.budget.database import insert_rows
from isocost.budget.labels import Placed, check_choices, check_in_time, settle_labels
from isocost.budget.leases import LEASE_AGE_MAX, add_answered, expire_leases, lock_lease
from isocost.budget.orders import read_order
from isocost.budget.pool import stored_item
from isocost.budget.slots import IDS_MAX, Slot, slots_of_items
from isocost.budget.sources import read_source
from isocost.budget.validation import check_count, check_text
from isocost.budget.waiting import Seat, waiting_slots
from isocost.core.errors import FailedPreconditionError, InvalidArgumentError
from isocost.core.ids import new_id
from isocost.resources.label import Label
from isocost.resources.queue import LEASE_ITEMS_MAX, Lease, LeaseState
from isocost.resources.task import Item, SourceKind, Task

__all__ = ["AnsweredItems", "GoldRule", "LeaseRequest", "LeasedItems", "answer_items", "lease_items"]

_items = schema.items
_labels = schema.labels
_leases = schema.leases
_orders = schema.orders
_slots = schema.order_items


@dataclass(frozen=True, slots=True)
class GoldRule:
    """How gold questions are used.

    Attributes:
        fraction: Share of the items handed to an annotator that are gold questions, while there are any; 0 to 1.
        accuracy_min: An annotator whose share of right gold answers is below this gets no more items; 0 for no limit.
        n_answers_min: Gold answers before accuracy_min counts.
    """

    fraction: float
    accuracy_min: float
    n_answers_min: int


@dataclass(frozen=True, slots=True)
class LeaseRequest:
    """Items that are asked for.

    Attributes:
        campaign_id, source_id: The campaign, and its HUMAN source to answer for.
        annotator: Who answers.
        n_items: At most so many.
        duration: How long.

    Raises:
        InvalidArgumentError: names the field that is wrong.
    """

    campaign_id: str
    source_id: str
    annotator: str
    n_items: int = 10
    duration: timedelta = timedelta(minutes=30)

    def __post_init__(self) -> None:
        check_text("annotator", self.annotator, required=True, bytes_max=512)
        check_count("n_items", self.n_items, minimum=1, maximum=LEASE_ITEMS_MAX)
        if not timedelta(seconds=1) <= self.duration <= LEASE_AGE_MAX:
            raise InvalidArgumentError("duration", f"{self.duration}; must be from one second to 24 hours")


@dataclass(frozen=True, slots=True)
class LeasedItems:
    """A lease, its items in the sequence in which to show them, without their gold answers, and the question."""

    lease: Lease
    items: list[Item]
    task: Task


@dataclass(frozen=True, slots=True)
class AnsweredItems:
    """What became of answers, and the lease after it."""

    n_accepted: int
    n_duplicate: int
    lease: Lease


def lease_items(connection: Connection, request: LeaseRequest, gold: GoldRule) -> LeasedItems | None:
    """Hands out items that await a label and that the annotator has not answered for this source.

    Args:
        connection: A write transaction.
        request: What is asked for.
        gold: How many of the items are gold questions, and who gets none any more.

    Returns:
        None where nothing waits for this annotator.

    Raises:
        NotFoundError: where there is no such campaign or source.
        InvalidArgumentError: where the source is no HUMAN one.
        FailedPreconditionError: where the campaign is finished, or the annotator fails the gold questions.
    """
    campaign = lock_active(connection, request.campaign_id)
    source = read_source(connection, request.campaign_id, request.source_id)
    if source.kind is not SourceKind.HUMAN:
        raise InvalidArgumentError("source_id", f"{source.source_id!r} is a model; lease items of a HUMAN source")
    expire_leases(connection, request.campaign_id)
    counts = read_annotator(connection, request.campaign_id, request.source_id, request.annotator)
    n_right, n_gold = counts["n_gold_right"], counts["n_gold"]
    if n_gold >= gold.n_answers_min and n_right < gold.accuracy_min * n_gold:
        raise FailedPreconditionError(
            f"{request.annotator!r} answered {n_right} of {n_gold} gold questions rightly, and "
            f"{gold.accuracy_min:.0%} are asked for; no more items are handed out",
            field="annotator",
        )
    # Rounded up, so that the first item of a new annotator is a gold question.
    n_gold_due = math.ceil(gold.fraction * (counts["n_leased"] + request.n_items)) - counts["n_gold_leased"]
    n_gold_due = min(max(n_gold_due, 0), request.n_items)
    seat = Seat(request.campaign_id, request.source_id, request.annotator)
    gold_slots = waiting_slots(connection, seat, n_gold_due, gold_questions=True)
    slots = [*gold_slots, *waiting_slots(connection, seat, request.n_items - len(gold_slots), gold_questions=False)]
    if not slots:
        return None
    lease_id = new_id("lease")
    # An annotator cannot tell the gold questions by their place.
    slots.sort(key=lambda slot: hashlib.blake2b(f"{lease_id}\0{slot.item_id}".encode(), digest_size=8).digest())
    lease = _store_lease(connection, lease_id, request, slots)
    count_annotator(
        connection,
        request.campaign_id,
        request.source_id,
        request.annotator,
        n_leased=len(slots),
        n_gold_leased=len(gold_slots),
    )
    return LeasedItems(lease, _read_items(connection, request.campaign_id, slots), campaign.task)


def _store_lease(connection: Connection, lease_id: str, request: LeaseRequest, slots: Sequence[Slot]) -> Lease:
    time_us = clock.now_us()
    duration_us = clock.us_from_delta(request.duration)
    connection.execute(
        insert(_leases).values(
            lease_id=lease_id,
            campaign_id=request.campaign_id,
            source_id=request.source_id,
            position=next_position(connection, _leases, request.campaign_id),
            annotator=request.annotator,
            state=LeaseState.OPEN.name,
            n_items=len(slots),
            n_answered=0,
            duration_us=duration_us,
            create_time_us=time_us,
            expire_time_us=time_us + duration_us,
        )
    )
    names = ("lease_id", "position", "order_id", "order_position")
    rows = [(lease_id, place, slot.order_id, slot.position) for place, slot in enumerate(slots, start=1)]
    insert_rows(connection, schema.lease_items, names, rows)
    for slot in slots:
        connection.execute(
            update(_slots)
            .where(_slots.c.order_id == slot.order_id, _slots.c.position == slot.position)
            .values(lease_id=lease_id)
        )
    return Lease(
        lease_id=lease_id,
        campaign_id=request.campaign_id,
        source_id=request.source_id,
        annotator=request.annotator,
        state=LeaseState.OPEN,
        n_items=len(slots),
        n_answered=0,
        expire_time=time_from_us(time_us + duration_us),
        create_time=time_from_us(time_us),
    )


def _read_items(connection: Connection, campaign_id: str, slots: Sequence[Slot]) -> list[Item]:
    found: dict[str, Item] = {}
    item_ids = [slot.item_id for slot in slots]
    for start in range(0, len(item_ids), IDS_MAX):
        query = select(_items.c.item_id, _items.c.fields_json, _items.c.gold_choice).where(
            _items.c.campaign_id == campaign_id, _items.c.item_id.in_(item_ids[start : start + IDS_MAX])
        )
        found.update((row.item_id, replace(stored_item(row), gold_choice=None)) for row in connection.execute(query))
    return [found[item_id] for item_id in item_ids]


def answer_items(connection: Connection, lease_id: str, labels: Sequence[Label]) -> AnsweredItems:
    """Stores the answers to a lease's items and pays each, all or none of them.

    An answer that comes after the lease ended is taken while its item still awaits one and nobody else has it in hand.
    A lease pays one answer an item, whoever gives it.

    Args:
        connection: A write transaction.
        lease_id: The lease.
        labels: Checked by `check_label`; one that names no annotator is the lease's annotator's.

    Raises:
        NotFoundError: where there is no such lease.
        InvalidArgumentError: names the label that answers no item of the lease, or not one probability a choice.
        FailedPreconditionError: names the label that comes too late, or whose item somebody else has answered under the
            lease.
    """
    campaign, lease = lock_lease(connection, lease_id)
    check_choices(campaign, labels)
    labels = [label if label.annotator else replace(label, annotator=lease.annotator) for label in labels]
    order_of = _orders_of_items(connection, lease_id)
    for index, label in enumerate(labels):
        if label.item_id not in order_of:
            raise InvalidArgumentError(
                f"labels[{index}].item_id", f"{label.item_id!r} is not an item of lease {lease_id!r}"
            )
    n_accepted = 0
    # Sorted, so that orders are settled in the same sequence whatever the answers' own.
    for order_id in sorted({order_of[label.item_id] for label in labels}):
        of_order = [(index, label) for index, label in enumerate(labels) if order_of[label.item_id] == order_id]
        placed = _place(connection, lease, order_id, of_order)
        if placed:
            settle_labels(connection, read_order(connection, order_id), placed, lease_id=lease_id)
            n_accepted += len(placed)
    lease = add_answered(connection, lease, n_accepted)
    return AnsweredItems(n_accepted, len(labels) - n_accepted, lease)


def _orders_of_items(connection: Connection, lease_id: str) -> dict[str, str]:
    """The order that each item of a lease is answered for."""
    parts = schema.lease_items
    at_slot: ColumnElement[bool] = (_slots.c.order_id == parts.c.order_id) & (
        _slots.c.position == parts.c.order_position
    )
    query = (
        select(_slots.c.item_id, parts.c.order_id).join_from(parts, _slots, at_slot).where(parts.c.lease_id == lease_id)
    )
    return {row.item_id: row.order_id for row in connection.execute(query)}


def _place(connection: Connection, lease: Lease, order_id: str, labels: Sequence[tuple[int, Label]]) -> list[Placed]:
    """A slot for each answer that is to be stored and paid; the others are duplicates."""
    slots = slots_of_items(connection, order_id, [label.item_id for _, label in labels])
    placed: list[Placed] = []
    given: dict[str, str] = {}
    for index, label in labels:
        of_item, who = slots[label.item_id], label.annotator
        if given.get(label.item_id) == who or any(slot.answered_by == who for slot in of_item):
            continue
        own = [slot for slot in of_item if slot.lease_id == lease.lease_id]
        waiting = [slot for slot in of_item if slot.is_waiting]
        # The slot in hand was filled, or given back: rare, and worth a look at who did.
        before = given.get(label.item_id) or (None if own else _answered_under(connection, lease, label.item_id))
        if before is not None:
            raise FailedPreconditionError(
                f"{label.item_id!r} was answered by {before!r} under this lease, which pays one answer an item; "
                f"lease it for {who!r}",
                field=f"labels[{index}].item_id",
            )
        if not own and not waiting:
            raise FailedPreconditionError(
                f"{label.item_id!r} awaits no answer any more: the lease is {lease.state.name}, and the item was given "
                "up or handed to another; leave it out",
                field=f"labels[{index}].item_id",
            )
        if not own:
            check_in_time(read_order(connection, order_id))
        given[label.item_id] = who
        placed.append(Placed((own or waiting)[0].position, label))
    return placed


def _answered_under(connection: Connection, lease: Lease, item_id: str) -> str | None:
    """Who answered an item under a lease; None where nobody did."""
    query = select(_labels.c.annotator).where(
        _labels.c.campaign_id == lease.campaign_id,
        _labels.c.item_id == item_id,
        _labels.c.source_id == lease.source_id,
        _labels.c.lease_id == lease.lease_id,
    )
    annotator: str | None = connection.execute(query).scalar_one_or_none()
    return annotator
