"""How often sources give the answer that people give, measured on the labels that are stored.

The measured items are those that were labelled twice: by the source and by a person. The first label of an item by the
oldest HUMAN source that has answered it counts as right. In a campaign of `isocost run`, weak sources label items of
the pilot for that purpose, and the figures are those of its report. Two kinds of label tell nothing of the items to
come, and are left out: answers to gold questions, and labels of items that were chosen for being uncertain.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, select

from isocost.budget import schema
from isocost.resources.campaign import Sampling
from isocost.resources.label import Purpose
from isocost.resources.task import Source, SourceKind

__all__ = ["MEASURED_MIN", "MeasuredAccuracy", "measure_sources"]

#: Fewer items than this say nothing.
MEASURED_MIN = 10

_orders, _slots, _labels = schema.orders, schema.order_items, schema.labels


@dataclass(frozen=True, slots=True)
class MeasuredAccuracy:
    """What measuring a source showed: labels of items that people have answered too, and how many of them are right."""

    n_measured: int = 0
    n_right: int = 0

    @property
    def accuracy(self) -> float | None:
        """Share of right answers, 0 to 1; None where it was measured on fewer than `MEASURED_MIN`."""
        return self.n_right / self.n_measured if self.n_measured >= MEASURED_MIN else None


def _labels_of(campaign_id: str, source_ids: Collection[str]) -> Select[Any]:
    """The labels of some sources that can be measured with, in sequence; found by their orders, not by all labels."""
    return (
        select(_labels.c.item_id, _labels.c.source_id, _labels.c.probabilities_json)
        .select_from(_orders)
        .join(_slots, _slots.c.order_id == _orders.c.order_id)
        .join(_labels, _labels.c.label_id == _slots.c.label_id)
        .where(
            _orders.c.campaign_id == campaign_id,
            _orders.c.source_id.in_(source_ids),
            _orders.c.purpose != Purpose.GOLD_QUESTION.name,
            _orders.c.sampling != Sampling.UNCERTAINTY.name,
        )
        .order_by(_labels.c.sequence)
    )


def _labels_beside(campaign_id: str, source_ids: Collection[str], human_ids: Collection[str]) -> Select[Any]:
    """The labels of some sources on items that people have answered."""
    answered = _labels_of(campaign_id, human_ids).order_by(None).subquery()
    own = schema.orders.alias("own")
    return (
        select(_labels.c.item_id, _labels.c.source_id, _labels.c.probabilities_json)
        .join(own, own.c.order_id == _labels.c.order_id)
        .where(
            _labels.c.campaign_id == campaign_id,
            _labels.c.item_id.in_(select(answered.c.item_id)),
            _labels.c.source_id.in_(source_ids),
            own.c.sampling != Sampling.UNCERTAINTY.name,
        )
    )


def _choice(row: Row[Any]) -> int:
    """Index of the most probable choice; the first where several tie."""
    probabilities: list[float] = json.loads(row.probabilities_json)
    return max(range(len(probabilities)), key=lambda index: probabilities[index])


def _measured(rows: Iterable[Row[Any]], right: dict[str, int]) -> dict[str, MeasuredAccuracy]:
    """By source; labels of items without a right answer are left out."""
    measured: dict[str, MeasuredAccuracy] = {}
    for row in rows:
        if row.item_id in right:
            before = measured.get(row.source_id, MeasuredAccuracy())
            is_right = _choice(row) == right[row.item_id]
            measured[row.source_id] = MeasuredAccuracy(before.n_measured + 1, before.n_right + is_right)
    return measured


def measure_sources(connection: Connection, campaign_id: str, sources: Sequence[Source]) -> dict[str, MeasuredAccuracy]:
    """By source: MODEL sources against all people, HUMAN sources against the oldest of them, itself left out.

    Args:
        connection: A transaction.
        campaign_id: The campaign.
        sources: All of its sources, oldest first.
    """
    human_ids = [source.source_id for source in sources if source.kind is SourceKind.HUMAN]
    weak_ids = [source.source_id for source in sources if source.kind is SourceKind.MODEL]
    by_people = connection.execute(_labels_of(campaign_id, human_ids)).all()
    of_source: dict[str, dict[str, int]] = {source_id: {} for source_id in human_ids}
    for row in by_people:
        of_source[row.source_id].setdefault(row.item_id, _choice(row))
    right: dict[str, int] = {}
    for source_id in reversed(human_ids):
        # The oldest comes last and has the last word.
        right |= of_source[source_id]
    measured = {source.source_id: MeasuredAccuracy() for source in sources}
    measured |= _measured(connection.execute(_labels_beside(campaign_id, weak_ids, human_ids)), right)
    if human_ids:
        reference, *others = human_ids
        measured |= _measured([row for row in by_people if row.source_id in others], of_source[reference])
    return measured
