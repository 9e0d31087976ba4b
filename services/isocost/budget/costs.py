"""What labels to train on cost: by their number where the price is fixed, by what was settled where it is metered."""

from __future__ import annotations

from sqlalchemy import Connection, Select, func, select

from isocost.budget import schema
from isocost.core.errors import InvalidArgumentError
from isocost.resources.campaign import EntryKind
from isocost.resources.label import Purpose
from isocost.resources.task import Source

__all__ = ["TRAINED_ON", "cost_micros", "expected_price_micros"]

_entries = schema.ledger_entries
_labels = schema.labels
#: Labels of these purposes are trained on.
TRAINED_ON = (Purpose.TRAINING.name, Purpose.PILOT.name)


def _payments(campaign_id: str, source_id: str) -> Select[tuple[int]]:
    """What each of a source's labels to train on was settled at, in their sequence. Corrections are left out."""
    return (
        select(_entries.c.amount_micros)
        .join_from(_labels, _entries, _entries.c.label_id == _labels.c.label_id)
        .where(
            _labels.c.campaign_id == campaign_id,
            _labels.c.source_id == source_id,
            _labels.c.purpose.in_(TRAINED_ON),
            _entries.c.kind == EntryKind.SETTLE.name,
        )
        .order_by(_labels.c.sequence)
    )


def _total(connection: Connection, payments: Select[tuple[int]]) -> tuple[int, int]:
    """How many payments there are, and their sum."""
    of_labels = payments.subquery()
    query = select(func.count(), func.coalesce(func.sum(of_labels.c.amount_micros), 0)).select_from(of_labels)
    n_paid, micros = connection.execute(query).one()
    # PostgreSQL's sum of BIGINT is NUMERIC.
    return int(n_paid), int(micros)


def cost_micros(connection: Connection, campaign_id: str, source: Source, n_labels: int, *, field: str) -> int:
    """What a source's first labels to train on cost, by sequence. Labels never change, so neither does this.

    Args:
        connection: A transaction.
        campaign_id: The campaign.
        source: The source; its unit price where that is fixed.
        n_labels: How many.
        field: What an error names.

    Raises:
        InvalidArgumentError: where a metered source has fewer labels.
    """
    if source.price_per_million_tokens is None:
        return n_labels * source.unit_price.micros
    n_paid, micros = _total(connection, _payments(campaign_id, source.source_id).limit(n_labels))
    if n_paid < n_labels:
        raise InvalidArgumentError(
            field,
            f"{n_labels}, but {source.source_id!r} has {n_paid} labels to train on, and is paid by the token; "
            f"give at most {n_paid}",
        )
    return micros


def expected_price_micros(connection: Connection, campaign_id: str, source: Source) -> int:
    """What one more label is expected to cost.

    The fixed price; of a metered source the mean of its labels to train on, rounded up, or its unit price before any.
    """
    if source.price_per_million_tokens is None:
        return source.unit_price.micros
    n_paid, micros = _total(connection, _payments(campaign_id, source.source_id))
    return -(-micros // n_paid) if n_paid else source.unit_price.micros
