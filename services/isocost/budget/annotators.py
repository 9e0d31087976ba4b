"""Annotators: how much each has answered, and how often rightly."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from isocost.budget import schema
from isocost.resources.queue import AnnotatorRecord

__all__ = ["count_annotator", "list_annotators", "read_annotator"]

_annotators = schema.annotators
_COUNTS = ("n_leased", "n_gold_leased", "n_labels", "n_gold", "n_gold_right")


def read_annotator(connection: Connection, campaign_id: str, source_id: str, annotator: str) -> dict[str, int]:
    """An annotator's counts, all 0 where there is no row yet."""
    row = connection.execute(
        select(_annotators).where(
            _annotators.c.campaign_id == campaign_id,
            _annotators.c.source_id == source_id,
            _annotators.c.annotator == annotator,
        )
    ).first()
    return {name: 0 if row is None else int(getattr(row, name)) for name in _COUNTS}


def count_annotator(
    connection: Connection,
    campaign_id: str,
    source_id: str,
    annotator: str,
    *,
    n_leased: int = 0,
    n_gold_leased: int = 0,
    n_labels: int = 0,
    n_gold: int = 0,
    n_gold_right: int = 0,
) -> None:
    """Adds to an annotator's counts. The campaign must be locked."""
    added = dict(zip(_COUNTS, (n_leased, n_gold_leased, n_labels, n_gold, n_gold_right), strict=True))
    changed = connection.execute(
        update(_annotators)
        .where(
            _annotators.c.campaign_id == campaign_id,
            _annotators.c.source_id == source_id,
            _annotators.c.annotator == annotator,
        )
        .values({name: _annotators.c[name] + count for name, count in added.items()})
    ).rowcount
    if not changed:
        connection.execute(
            insert(_annotators).values(campaign_id=campaign_id, source_id=source_id, annotator=annotator, **added)
        )


def _record(row: Row[Any]) -> AnnotatorRecord:
    return AnnotatorRecord(row.annotator, row.n_labels, row.n_gold, row.n_gold_right)


def list_annotators(connection: Connection, campaign_id: str, source_id: str) -> list[AnnotatorRecord]:
    """The annotators of a source who gave a label, by name; without the estimates of the Dawid-Skene model."""
    query = (
        select(_annotators)
        .where(
            _annotators.c.campaign_id == campaign_id, _annotators.c.source_id == source_id, _annotators.c.n_labels > 0
        )
        .order_by(_annotators.c.annotator)
    )
    return [_record(row) for row in connection.execute(query)]
