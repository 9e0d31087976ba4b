"""Labels: stored once, paid once, in a sequence that never changes."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from isocost.budget import ledger, schema
from isocost.budget.clock import now_us, time_from_us
from isocost.budget.orders import add_settled, lock_order
from isocost.budget.pool import stored_item
from isocost.budget.validation import check_count, check_text
from isocost.core.errors import FailedPreconditionError, InvalidArgumentError
from isocost.core.ids import canonical_json, new_id
from isocost.resources.campaign import Order
from isocost.resources.label import Label, LabelledItem, Purpose

__all__ = ["SubmittedLabels", "check_label", "labelled_items", "submit_labels"]

_items = schema.items
_labels = schema.labels
_order_items = schema.order_items
#: Ids in one IN list; SQLite's oldest limit on bound values is 999.
_IDS_MAX = 500
#: Rounding may take a probability mass a little above 1.
_MASS_MAX = 1.001


@dataclass(frozen=True, slots=True)
class SubmittedLabels:
    """What became of submitted labels, and the order after it."""

    n_accepted: int
    n_duplicate: int
    order: Order


@dataclass(frozen=True, slots=True)
class _Awaited:
    """An item of the order: whether it was given up, and who labelled it (None while nobody has)."""

    released: bool
    annotator: str | None


def check_label(index: int, label: Label) -> Label:
    """Returns the label where all of it can be stored.

    Raises:
        InvalidArgumentError: names the field by its place in the request, as `labels[3].annotator`.
    """
    prefix = f"labels[{index}]"
    check_text(f"{prefix}.item_id", label.item_id, required=True)
    check_text(f"{prefix}.annotator", label.annotator, bytes_max=512)
    check_text(f"{prefix}.engine_fingerprint", label.engine_fingerprint, bytes_max=4096)
    check_count(f"{prefix}.prompt_tokens", label.prompt_tokens)
    if not (math.isfinite(label.choices_mass) and 0 <= label.choices_mass <= _MASS_MAX):
        raise InvalidArgumentError(f"{prefix}.choices_mass", f"{label.choices_mass}; must be from 0 to 1")
    return label


def _awaited(connection: Connection, order_id: str, item_ids: Sequence[str]) -> dict[str, _Awaited]:
    awaited: dict[str, _Awaited] = {}
    for start in range(0, len(item_ids), _IDS_MAX):
        query = (
            select(_order_items.c.item_id, _order_items.c.released, _order_items.c.label_id, _labels.c.annotator)
            .join_from(_order_items, _labels, _labels.c.label_id == _order_items.c.label_id, isouter=True)
            .where(
                _order_items.c.order_id == order_id,
                _order_items.c.item_id.in_(item_ids[start : start + _IDS_MAX]),
            )
        )
        awaited.update((row.item_id, _Awaited(row.released, row.annotator)) for row in connection.execute(query))
    return awaited


def _select_new(order: Order, labels: Sequence[Label], awaited: dict[str, _Awaited]) -> list[Label]:
    """The labels that are to be stored and paid; the others are duplicates.

    Raises:
        InvalidArgumentError: where an item is not in the order.
        FailedPreconditionError: where an item was given up, or another annotator has labelled it.
    """
    new: list[Label] = []
    annotators = {item_id: item.annotator for item_id, item in awaited.items()}
    for index, label in enumerate(labels):
        name = f"labels[{index}].item_id"
        if label.item_id not in awaited:
            raise InvalidArgumentError(name, f"{label.item_id!r} is not an item of order {order.order_id!r}")
        if awaited[label.item_id].released:
            raise FailedPreconditionError(
                f"{label.item_id!r} was given up when order {order.order_id!r} was cancelled; order it anew", field=name
            )
        annotator = annotators[label.item_id]
        if annotator is None:
            annotators[label.item_id] = label.annotator
            new.append(label)
        elif annotator != label.annotator:
            raise FailedPreconditionError(
                f"{label.item_id!r} is labelled in this order by {annotator!r}, and an order pays one label an item; "
                f"leave out that of {label.annotator!r}",
                field=name,
            )
    return new


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
        InvalidArgumentError: names the label that answers no item of the order, or not one probability a choice.
        FailedPreconditionError: names the label whose item was given up or is labelled by another annotator.
    """
    campaign, order = lock_order(connection, order_id)
    n_choices = len(campaign.task.choices)
    for index, label in enumerate(labels):
        if len(label.probabilities) != n_choices:
            raise InvalidArgumentError(
                f"labels[{index}].probabilities",
                f"{len(label.probabilities)} given for item {label.item_id!r}; the task has {n_choices} choices",
            )
    awaited = _awaited(connection, order_id, [label.item_id for label in labels])
    new = _select_new(order, labels, awaited)
    if new:
        label_ids = _store(connection, order, new)
        ledger.settle(connection, order, label_ids)
        order = add_settled(connection, order, len(new))
    return SubmittedLabels(len(new), len(labels) - len(new), order)


def _store(connection: Connection, order: Order, labels: Sequence[Label]) -> list[str]:
    campaigns = schema.campaigns
    last = connection.execute(
        update(campaigns)
        .where(campaigns.c.campaign_id == order.campaign_id)
        .values(n_labels=campaigns.c.n_labels + len(labels))
        .returning(campaigns.c.n_labels)
    ).scalar_one()
    time_us = now_us()
    label_ids = [new_id("label") for _ in labels]
    rows = [
        {
            "campaign_id": order.campaign_id,
            "sequence": sequence,
            "label_id": label_id,
            "order_id": order.order_id,
            "item_id": label.item_id,
            "source_id": order.source_id,
            "purpose": order.purpose.name,
            "annotator": label.annotator,
            "probabilities_json": canonical_json(label.probabilities),
            "engine_fingerprint": label.engine_fingerprint,
            "prompt_tokens": label.prompt_tokens,
            "choices_mass": label.choices_mass,
            "create_time_us": time_us,
        }
        for sequence, label_id, label in zip(range(last - len(labels) + 1, last + 1), label_ids, labels, strict=True)
    ]
    connection.execute(insert(_labels), rows)
    connection.execute(
        update(_order_items)
        .where(_order_items.c.order_id == order.order_id, _order_items.c.item_id == bindparam("of_item"))
        .values(label_id=bindparam("by_label")),
        [{"of_item": row["item_id"], "by_label": row["label_id"]} for row in rows],
    )
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
    )
    return LabelledItem(label, stored_item(row.item_id, row.fields_json))


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
        select(_labels, _items.c.fields_json)
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
