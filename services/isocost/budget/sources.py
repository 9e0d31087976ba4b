"""Label sources and their prices."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, insert, select

from isocost.budget import clock, schema
from isocost.budget.campaigns import check_currency, lock_active, next_position, read_campaign
from isocost.budget.validation import check_text
from isocost.core.errors import AlreadyExistsError, NotFoundError
from isocost.core.money import Money
from isocost.resources.task import Source, SourceKind

__all__ = ["create_source", "list_sources", "read_source"]

_sources = schema.sources


def create_source(connection: Connection, campaign_id: str, source: Source) -> Source:
    """Adds a source to a campaign.

    Raises:
        NotFoundError: where there is no such campaign.
        FailedPreconditionError: where the campaign is finished.
        AlreadyExistsError: where the id is taken.
        InvalidArgumentError: where the price is not in the campaign's currency.
    """
    campaign = lock_active(connection, campaign_id)
    check_currency("source.unit_price", source.unit_price, campaign)
    check_text("source.model", source.model)
    taken = select(_sources.c.source_id).where(
        _sources.c.campaign_id == campaign_id, _sources.c.source_id == source.source_id
    )
    if connection.execute(taken).first() is not None:
        raise AlreadyExistsError(
            f"source {source.source_id!r} is there already; its price cannot change, so choose another id",
            field="source.source_id",
        )
    metered = source.price_per_million_tokens
    connection.execute(
        insert(_sources).values(
            campaign_id=campaign_id,
            source_id=source.source_id,
            position=next_position(connection, _sources, campaign_id),
            kind=source.kind.name,
            unit_price_micros=source.unit_price.micros,
            model=source.model,
            create_time_us=clock.now_us(),
            million_tokens_micros=metered.micros if metered else None,
        )
    )
    return source


def _source(row: Row[Any]) -> Source:
    return Source(
        row.source_id,
        SourceKind[row.kind],
        Money(row.unit_price_micros, row.currency_code),
        row.model,
        None if row.million_tokens_micros is None else Money(row.million_tokens_micros, row.currency_code),
    )


def list_sources(
    connection: Connection, campaign_id: str, *, after_position: int = 0, limit: int | None = None
) -> list[Source]:
    """A campaign's next sources, oldest first; positions count from 1 without gaps.

    Raises:
        NotFoundError: where there is no such campaign.
    """
    read_campaign(connection, campaign_id)
    query = (
        select(_sources, schema.campaigns.c.currency_code)
        .join_from(_sources, schema.campaigns)
        .where(_sources.c.campaign_id == campaign_id, _sources.c.position > after_position)
        .order_by(_sources.c.position)
        .limit(limit)
    )
    return [_source(row) for row in connection.execute(query)]


def read_source(connection: Connection, campaign_id: str, source_id: str, *, field: str = "source_id") -> Source:
    """Reads one source.

    Raises:
        NotFoundError: names `field` where the campaign has no such source.
    """
    query = (
        select(_sources, schema.campaigns.c.currency_code)
        .join_from(_sources, schema.campaigns)
        .where(_sources.c.campaign_id == campaign_id, _sources.c.source_id == source_id)
    )
    row = connection.execute(query).first()
    if row is None:
        raise NotFoundError(f"campaign {campaign_id!r} has no source {source_id!r}; create it first", field=field)
    return _source(row)
