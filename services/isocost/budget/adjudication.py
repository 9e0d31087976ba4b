"""What a source's annotators say together: their answers read from the labels, for `agreement` to judge."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, select

from isocost.budget import schema
from isocost.budget.agreement import Answer, agreement, consensus
from isocost.budget.annotators import list_annotators
from isocost.budget.campaigns import read_campaign
from isocost.budget.pool import stored_item
from isocost.budget.slots import IDS_MAX
from isocost.budget.sources import read_source
from isocost.core.errors import InvalidArgumentError
from isocost.resources.label import Purpose
from isocost.resources.queue import Agreement, AnnotatorRecord, Consensus
from isocost.resources.task import Item, SourceKind

__all__ = ["AnsweredItem", "SourceAnswers", "agreement_of", "consensus_of", "read_answers", "with_items"]

_items = schema.items
_labels = schema.labels


@dataclass(frozen=True, slots=True)
class SourceAnswers:
    """What a HUMAN source's annotators answered.

    Attributes:
        answers: In the sequence in which they were accepted.
        purpose_of: What each item's labels were bought for.
        gold: The known right choices of the gold questions among the items.
        annotators: The counts of the source's annotators, by name.
        n_choices: Choices of the task.
    """

    answers: list[Answer]
    purpose_of: dict[str, Purpose]
    gold: dict[str, int]
    annotators: list[AnnotatorRecord]
    n_choices: int


@dataclass(frozen=True, slots=True)
class AnsweredItem:
    """The consensus about one item, by its id."""

    item_id: str
    probabilities: tuple[float, ...]
    n_labels: int
    share_agreeing: float
    purpose: Purpose


def read_answers(
    connection: Connection, campaign_id: str, source_id: str, purposes: Collection[Purpose]
) -> SourceAnswers:
    """Reads the answers of a source's annotators.

    Args:
        connection: A transaction.
        campaign_id: The campaign.
        source_id: A HUMAN source.
        purposes: Only labels bought for these; empty for all but gold questions' own.

    Raises:
        NotFoundError: where there is no such campaign or source.
        InvalidArgumentError: where the source is no HUMAN one.
    """
    campaign = read_campaign(connection, campaign_id)
    if read_source(connection, campaign_id, source_id).kind is not SourceKind.HUMAN:
        raise InvalidArgumentError("source_id", f"{source_id!r} is a model; name a HUMAN source")
    wanted = purposes or set(Purpose) - {Purpose.GOLD_QUESTION}
    query = (
        select(
            _labels.c.item_id,
            _labels.c.annotator,
            _labels.c.probabilities_json,
            _labels.c.purpose,
            _items.c.gold_choice,
        )
        .join_from(
            _labels, _items, (_items.c.campaign_id == _labels.c.campaign_id) & (_items.c.item_id == _labels.c.item_id)
        )
        .where(
            _labels.c.campaign_id == campaign_id,
            _labels.c.source_id == source_id,
            _labels.c.purpose.in_([purpose.name for purpose in wanted]),
        )
        .order_by(_labels.c.sequence)
    )
    rows = connection.execute(query).all()
    return SourceAnswers(
        answers=[Answer(row.item_id, row.annotator, _choice(json.loads(row.probabilities_json))) for row in rows],
        purpose_of={row.item_id: Purpose[row.purpose] for row in rows},
        gold={row.item_id: row.gold_choice for row in rows if row.gold_choice is not None},
        annotators=list_annotators(connection, campaign_id, source_id),
        n_choices=len(campaign.task.choices),
    )


def _choice(probabilities: Sequence[float]) -> int:
    """Index of the most probable choice; the first where several tie, as `Label.choice`."""
    return max(range(len(probabilities)), key=lambda index: probabilities[index])


def agreement_of(found: SourceAnswers) -> tuple[Agreement, list[AnnotatorRecord]]:
    """How well annotators agree with each other, and each one's record.

    Raises:
        FailedPreconditionError: where the libraries for it are not installed.
    """
    model = consensus(found.answers, found.n_choices)
    records = [
        replace(record, estimated_accuracy=model.accuracies.get(record.annotator)) for record in found.annotators
    ]
    return agreement(found.answers, found.n_choices), records


def consensus_of(found: SourceAnswers) -> list[AnsweredItem]:
    """The consensus about each item, by item id.

    Raises:
        FailedPreconditionError: where the libraries for it are not installed.
    """
    model = consensus(found.answers, found.n_choices, gold=found.gold)
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    for answer in found.answers:
        counts[answer.item_id][answer.choice] += 1
    answered: list[AnsweredItem] = []
    for item_id in sorted(counts):
        probabilities = model.probabilities[item_id]
        n_labels = counts[item_id].total()
        share = counts[item_id][_choice(probabilities)] / n_labels
        answered.append(AnsweredItem(item_id, probabilities, n_labels, share, found.purpose_of[item_id]))
    return answered


def with_items(connection: Connection, campaign_id: str, answered: Sequence[AnsweredItem]) -> list[Consensus]:
    """The same with the items themselves."""
    items: dict[str, Item] = {}
    item_ids = [part.item_id for part in answered]
    for start in range(0, len(item_ids), IDS_MAX):
        query = select(_items.c.item_id, _items.c.fields_json, _items.c.gold_choice).where(
            _items.c.campaign_id == campaign_id, _items.c.item_id.in_(item_ids[start : start + IDS_MAX])
        )
        items.update((row.item_id, stored_item(row)) for row in connection.execute(query))
    return [
        Consensus(items[part.item_id], part.probabilities, part.n_labels, part.share_agreeing, part.purpose)
        for part in answered
    ]
