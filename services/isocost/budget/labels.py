"""Labels: stored once, paid once, in a sequence that never changes."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select, update

from isocost.budget import clock, ledger, schema
from isocost.budget.annotators import count_annotator
from isocost.budget.clock import time_from_us
from isocost.budget.database import insert_rows
from isocost.budget.orders import add_settled, lock_order
from isocost.budget.pool import stored_item
from isocost.budget.slots import IDS_MAX, Slot, fill, slots_of_items
from isocost.budget.sources import read_source
from isocost.budget.validation import LABELS_MAX, TEXT_BYTES_MAX, check_count, check_text
from isocost.core.errors import FailedPreconditionError, InvalidArgumentError
from isocost.core.ids import new_id
from isocost.resources.campaign import Campaign, Order
from isocost.resources.label import Label, LabelledItem, Purpose
from isocost.resources.task import SourceKind

__all__ = [
    "Placed",
    "SubmittedLabels",
    "check_choices",
    "check_in_time",
    "check_label",
    "labelled_items",
    "settle_labels",
    "submit_labels",
]

_items = schema.items
_labels = schema.labels
#: Rounding may take a probability mass a little above 1.
_MASS_MAX = 1.001


@dataclass(frozen=True, slots=True)
class SubmittedLabels:
    """What became of submitted labels, and the order after it."""

    n_accepted: int
    n_duplicate: int
    order: Order


@dataclass(frozen=True, slots=True)
class Placed:
    """A label, and the position of the slot in its order that awaits it."""

    position: int
    label: Label


def check_label(index: int, label: Label) -> Label:
    """Returns the label where all of it can be stored.

    Raises:
        InvalidArgumentError: names the field by its place in the request, as `labels[3].annotator`.
    """
    for name, text, bytes_max in (
        ("item_id", label.item_id, TEXT_BYTES_MAX),
        ("annotator", label.annotator, 512),
        ("engine_fingerprint", label.engine_fingerprint, 4096),
    ):
        # Most are short: only the others are counted in bytes.
        if len(text) > 128 or "\0" in text:
            check_text(f"labels[{index}].{name}", text, bytes_max=bytes_max)
    if not 0 <= label.prompt_tokens <= LABELS_MAX:
        check_count(f"labels[{index}].prompt_tokens", label.prompt_tokens)
    if not 0 <= label.choices_mass <= _MASS_MAX:
        raise InvalidArgumentError(f"labels[{index}].choices_mass", f"{label.choices_mass}; must be from 0 to 1")
    return label


def check_choices(campaign: Campaign, labels: Sequence[Label]) -> None:
    """Raises where a label does not give one probability for each choice of the campaign's task.

    Raises:
        InvalidArgumentError: names the label.
    """
    n_choices = len(campaign.task.choices)
    for index, label in enumerate(labels):
        if len(label.probabilities) != n_choices:
            raise InvalidArgumentError(
                f"labels[{index}].probabilities",
                f"{len(label.probabilities)} given for item {label.item_id!r}; the task has {n_choices} choices",
            )


def _place(order: Order, labels: Sequence[Label], slots: Mapping[str, Sequence[Slot]]) -> list[Placed]:
    """A slot for each label that is to be stored and paid; the others are duplicates.

    Raises:
        InvalidArgumentError: where an item is not in the order, or a metered label cannot be paid.
        FailedPreconditionError: where no slot of an item waits.
    """
    placed: list[Placed] = []
    given: set[tuple[str, str]] = set()
    metered = order.price_per_million_tokens is not None
    waiting = {item_id: [slot for slot in of_item if slot.is_waiting] for item_id, of_item in slots.items()}
    for index, label in enumerate(labels):
        field = f"labels[{index}].item_id"
        if label.item_id not in slots:
            raise InvalidArgumentError(field, f"{label.item_id!r} is not an item of order {order.order_id!r}")
        key = (label.item_id, label.annotator)
        if key in given or any(slot.answered_by == label.annotator for slot in slots[label.item_id]):
            continue
        if not waiting[label.item_id]:
            raise FailedPreconditionError(_no_slot(order, label, slots[label.item_id]), field=field)
        if metered:
            _check_metered(order, index, label)
        given.add(key)
        placed.append(Placed(waiting[label.item_id].pop(0).position, label))
    return placed


def _check_metered(order: Order, index: int, label: Label) -> None:
    """Raises where a label does not say its tokens, or costs more than is reserved for it.

    Raises:
        InvalidArgumentError: names the label's prompt_tokens.
    """
    field = f"labels[{index}].prompt_tokens"
    if not label.prompt_tokens:
        raise InvalidArgumentError(
            field, f"0 for item {label.item_id!r}; its source is paid by the token, so give the tokens of the prompt"
        )
    if order.label_micros(label.prompt_tokens) > order.unit_price.micros:
        raise InvalidArgumentError(
            field,
            f"{label.prompt_tokens} for item {label.item_id!r}, which at {order.price_per_million_tokens} per million "
            f"cost more than the {order.unit_price} reserved for a label; shorten the prompt, or cancel the order and "
            "buy from a source with a higher unit_price",
        )


def _no_slot(order: Order, label: Label, slots: Sequence[Slot]) -> str:
    """Why an item takes no label any more."""
    if any(slot.lease_id for slot in slots):
        return f"{label.item_id!r} is leased to an annotator; wait for the answer or for the lease to end"
    if any(slot.released for slot in slots):
        return f"{label.item_id!r} was given up when order {order.order_id!r} was cancelled or expired; order it anew"
    others = ", ".join(repr(slot.answered_by) for slot in slots if slot.answered_by is not None) or "others"
    wanted = "one label" if order.overlap == 1 else f"{order.overlap} labels"
    return (
        f"{label.item_id!r} is labelled in this order by {others}, and an order pays {wanted} an item; "
        f"leave out that of {label.annotator!r}"
    )


def submit_labels(connection: Connection, order_id: str, labels: Sequence[Label]) -> SubmittedLabels:
    """Stores the labels of an order and pays each, all or none of them.

    A label of an item that the same annotator has labelled in this order counts as a duplicate, whatever it says:
    labels never change.

    Args:
        connection: A write transaction.
        order_id: The order.
        labels: Checked by `check_label`.

    Raises:
        NotFoundError: where there is no such order.
        InvalidArgumentError: names the label that answers no item of the order, or gives not one probability a choice;
            or whose metered price is unknown, as it gives no prompt_tokens, or above the order's unit price.
        FailedPreconditionError: names the label whose item was given up, is labelled by enough annotators or is leased
            to one; or the order's time is over.
    """
    campaign, order = lock_order(connection, order_id)
    check_choices(campaign, labels)
    placed = _place(order, labels, slots_of_items(connection, order_id, [label.item_id for label in labels]))
    if placed:
        check_in_time(order)
        order = settle_labels(connection, order, placed, lease_id="")
    return SubmittedLabels(len(placed), len(labels) - len(placed), order)


def check_in_time(order: Order) -> None:
    """Raises where an order's time is over.

    Raises:
        FailedPreconditionError: says since when.
    """
    if order.expire_time is not None and order.expire_time <= time_from_us(clock.now_us()):
        raise FailedPreconditionError(
            f"order {order.order_id!r} expired at {order.expire_time.isoformat()}; order the labels anew",
            field="order_id",
        )


def settle_labels(connection: Connection, order: Order, placed: Sequence[Placed], *, lease_id: str) -> Order:
    """Stores labels in the slots chosen for them and pays each. The campaign must be locked.

    Args:
        connection: A write transaction.
        order: The order.
        placed: Labels with the slots that await them.
        lease_id: The lease under which they were given; "" where there was none.

    Returns:
        The order after it.

    Raises:
        FailedPreconditionError: where an annotator has answered an item for the source already, in another order.
    """
    asks_people = read_source(connection, order.campaign_id, order.source_id).kind is SourceKind.HUMAN
    if asks_people:
        _check_new(connection, order, placed)
    label_ids = _store(connection, order, placed, lease_id)
    fill(connection, order.order_id, [(part.position, id_) for part, id_ in zip(placed, label_ids, strict=True)])
    ledger.settle(connection, order, list(zip(_amounts(order, placed), label_ids, strict=True)))
    if asks_people:
        _count(connection, order, [part.label for part in placed])
    return add_settled(connection, order, len(placed))


def _amounts(order: Order, placed: Sequence[Placed]) -> list[int]:
    """What each label costs, in micros."""
    if order.price_per_million_tokens is None:
        return [order.unit_price.micros] * len(placed)
    return [order.label_micros(part.label.prompt_tokens) for part in placed]


def _check_new(connection: Connection, order: Order, placed: Sequence[Placed]) -> None:
    """Another order may have paid for the label: one that shares the items of this one, or asks the same gold question.

    No order shares items within a MODEL source.
    """
    given = {(part.label.item_id, part.label.annotator) for part in placed}
    item_ids = [item_id for item_id, _ in given]
    for start in range(0, len(item_ids), IDS_MAX):
        query = select(_labels.c.item_id, _labels.c.annotator, _labels.c.order_id).where(
            _labels.c.campaign_id == order.campaign_id,
            _labels.c.source_id == order.source_id,
            _labels.c.item_id.in_(item_ids[start : start + IDS_MAX]),
        )
        for row in connection.execute(query):
            if (row.item_id, row.annotator) in given:
                raise FailedPreconditionError(
                    f"{row.annotator!r} has answered {row.item_id!r} for this source in order {row.order_id!r}; "
                    "ask another annotator",
                    field="labels",
                )


def _count(connection: Connection, order: Order, labels: Sequence[Label]) -> None:
    """Adds to the counts of the annotators."""
    gold: dict[str, int] = {}
    if order.purpose is Purpose.GOLD_QUESTION:
        item_ids = [label.item_id for label in labels]
        for start in range(0, len(item_ids), IDS_MAX):
            query = select(_items.c.item_id, _items.c.gold_choice).where(
                _items.c.campaign_id == order.campaign_id, _items.c.item_id.in_(item_ids[start : start + IDS_MAX])
            )
            gold.update((row.item_id, row.gold_choice) for row in connection.execute(query))
    for annotator in sorted({label.annotator for label in labels}):
        own = [label for label in labels if label.annotator == annotator]
        count_annotator(
            connection,
            order.campaign_id,
            order.source_id,
            annotator,
            n_labels=len(own),
            n_gold=sum(label.item_id in gold for label in own),
            n_gold_right=sum(gold.get(label.item_id) == label.choice for label in own),
        )


def _store(connection: Connection, order: Order, placed: Sequence[Placed], lease_id: str) -> list[str]:
    campaigns = schema.campaigns
    last = connection.execute(
        update(campaigns)
        .where(campaigns.c.campaign_id == order.campaign_id)
        .values(n_labels=campaigns.c.n_labels + len(placed))
        .returning(campaigns.c.n_labels)
    ).scalar_one()
    time_us = clock.now_us()
    label_ids = [new_id("label") for _ in placed]
    rows = [
        (
            order.campaign_id,
            sequence,
            label_id,
            order.order_id,
            part.label.item_id,
            order.source_id,
            order.purpose.name,
            part.label.annotator,
            # As canonical_json writes it, several times as fast.
            f"[{','.join(map(repr, part.label.probabilities))}]",
            part.label.engine_fingerprint,
            part.label.prompt_tokens,
            part.label.choices_mass,
            time_us,
            lease_id or None,
        )
        for sequence, label_id, part in zip(range(last - len(placed) + 1, last + 1), label_ids, placed, strict=True)
    ]
    insert_rows(connection, _labels, tuple(_labels.columns.keys()), rows)
    return label_ids


def _labelled_item(row: Row[Any]) -> LabelledItem:
    label = Label(
        item_id=row.item_id,
        probabilities=tuple(json.loads(row.probabilities_json)),
        annotator=row.annotator,
        engine_fingerprint=row.engine_fingerprint,
        prompt_tokens=row.prompt_tokens,
        choices_mass=row.choices_mass,
        label_id=row.label_id,
        source_id=row.source_id,
        order_id=row.order_id,
        create_time=time_from_us(row.create_time_us),
        sequence=row.sequence,
        purpose=Purpose[row.purpose],
        lease_id=row.lease_id or "",
    )
    return LabelledItem(label, stored_item(row))


def labelled_items(
    connection: Connection,
    campaign_id: str,
    *,
    after_sequence: int,
    limit: int,
    source_id: str = "",
    purposes: Collection[Purpose] = (),
) -> list[LabelledItem]:
    """The next labels of a campaign with their items, after a sequence number.

    Args:
        connection: A transaction.
        campaign_id: The campaign.
        after_sequence: 0 for the first.
        limit: At most so many.
        source_id: Only this source's; "" for all.
        purposes: Only those bought for these; empty for all.
    """
    query = (
        select(_labels, _items.c.fields_json, _items.c.gold_choice)
        .join_from(
            _labels, _items, (_items.c.campaign_id == _labels.c.campaign_id) & (_items.c.item_id == _labels.c.item_id)
        )
        .where(_labels.c.campaign_id == campaign_id, _labels.c.sequence > after_sequence)
        .order_by(_labels.c.sequence)
        .limit(limit)
    )
    if source_id:
        query = query.where(_labels.c.source_id == source_id)
    if purposes:
        query = query.where(_labels.c.purpose.in_([purpose.name for purpose in purposes]))
    return [_labelled_item(row) for row in connection.execute(query)]
