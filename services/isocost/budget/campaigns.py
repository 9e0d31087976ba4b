"""Campaigns and where they stand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Row, Table, bindparam, func, insert, select, tuple_, update
from sqlalchemy.exc import IntegrityError

from isocost.budget import clock, schema
from isocost.budget.clock import time_from_us
from isocost.budget.reads import RowsById
from isocost.budget.validation import check_text
from isocost.core.errors import AlreadyExistsError, FailedPreconditionError, InvalidArgumentError, NotFoundError
from isocost.core.ids import canonical_json
from isocost.core.money import Money
from isocost.resources.campaign import Balance, Campaign, CampaignState
from isocost.resources.task import Task

__all__ = [
    "CampaignStatus",
    "check_currency",
    "create_campaign",
    "list_campaigns",
    "load_statuses",
    "lock_active",
    "lock_campaign",
    "mark_finished",
    "next_position",
    "read_campaign",
    "read_status",
    "require_status",
]

_campaigns = schema.campaigns
#: Built once: building a statement costs more than executing it.
_by_id = select(_campaigns).where(_campaigns.c.campaign_id == bindparam("id"))
_by_id_locked = _by_id.with_for_update()
_by_ids = RowsById(_campaigns, _campaigns.c.campaign_id)


@dataclass(frozen=True, slots=True)
class CampaignStatus:
    """A campaign, its money, the size of its pool (all items, and those no order has taken), and its rows.

    Labels and entries of the ledger are numbered from 1: the counts are the sequences of the last.
    """

    campaign: Campaign
    balance: Balance
    n_items: int
    n_items_free: int
    n_labels: int
    n_entries: int


def create_campaign(connection: Connection, campaign: Campaign) -> Campaign:
    """Stores a new campaign; its state and time are set here.

    Raises:
        AlreadyExistsError: where the id is taken.
        InvalidArgumentError: names a text that cannot be stored.
    """
    check_text("campaign.task.template", campaign.task.template)
    for index, choice in enumerate(campaign.task.choices):
        check_text(f"campaign.task.choices[{index}]", choice)
    check_text("campaign.strong_model", campaign.strong_model)
    check_text("campaign.config_json", campaign.config_json)
    time_us = clock.now_us()
    row = {
        "campaign_id": campaign.campaign_id,
        "task_name": campaign.task.name,
        "task_template": campaign.task.template,
        "task_choices_json": canonical_json(campaign.task.choices),
        "strong_model": campaign.strong_model,
        "config_json": campaign.config_json,
        "state": CampaignState.ACTIVE.name,
        "currency_code": campaign.budget.currency_code,
        "budget_micros": campaign.budget.micros,
        "reserved_micros": 0,
        "settled_micros": 0,
        "n_items": 0,
        "n_items_free": 0,
        "n_labels": 0,
        "n_entries": 0,
        "create_time_us": time_us,
    }
    try:
        with connection.begin_nested():
            connection.execute(insert(_campaigns), row)
    except IntegrityError:
        raise AlreadyExistsError(
            f"campaign {campaign.campaign_id!r} is there already; choose another id", field="campaign.campaign_id"
        ) from None
    return replace(campaign, state=CampaignState.ACTIVE, create_time=time_from_us(time_us))


def _campaign(row: Row[Any]) -> Campaign:
    return Campaign(
        campaign_id=row.campaign_id,
        task=Task(row.task_name, row.task_template, tuple(json.loads(row.task_choices_json))),
        budget=Money(row.budget_micros, row.currency_code),
        strong_model=row.strong_model,
        config_json=row.config_json,
        state=CampaignState[row.state],
        create_time=time_from_us(row.create_time_us),
    )


def _read_row(connection: Connection, campaign_id: str, *, lock: bool = False) -> Row[Any]:
    row = connection.execute(_by_id_locked if lock else _by_id, {"id": campaign_id}).first()
    if row is None:
        raise NotFoundError(f"there is no campaign {campaign_id!r}", field="campaign_id")
    return row


def read_campaign(connection: Connection, campaign_id: str) -> Campaign:
    """Reads one campaign.

    Raises:
        NotFoundError: where there is none.
    """
    return _campaign(_read_row(connection, campaign_id))


def lock_campaign(connection: Connection, campaign_id: str) -> Campaign:
    """Reads one campaign and keeps every other write to it waiting until this transaction ends.

    Raises:
        NotFoundError: where there is none.
    """
    return _campaign(_read_row(connection, campaign_id, lock=True))


def lock_active(connection: Connection, campaign_id: str) -> Campaign:
    """As `lock_campaign`, for what only an active campaign may do.

    Raises:
        NotFoundError: where there is none.
        FailedPreconditionError: where it is finished.
    """
    campaign = lock_campaign(connection, campaign_id)
    if campaign.state is not CampaignState.ACTIVE:
        raise FailedPreconditionError(
            f"campaign {campaign_id!r} is finished and takes nothing more; create a new campaign", field="campaign_id"
        )
    return campaign


def read_status(connection: Connection, campaign_id: str) -> CampaignStatus:
    """Reads one campaign with its money and counts, as of one instant.

    Raises:
        NotFoundError: where there is none.
    """
    return _status(_read_row(connection, campaign_id))


def _status(row: Row[Any]) -> CampaignStatus:
    campaign = _campaign(row)
    balance = Balance(
        campaign.budget,
        Money(row.settled_micros, row.currency_code),
        Money(row.reserved_micros, row.currency_code),
    )
    return CampaignStatus(campaign, balance, row.n_items, row.n_items_free, row.n_labels, row.n_entries)


def load_statuses(connection: Connection, campaign_ids: Sequence[str]) -> dict[str, CampaignStatus]:
    """Reads several campaigns with their money and counts; those that are not there are left out."""
    return {row.campaign_id: _status(row) for row in _by_ids.read(connection, campaign_ids)}


def require_status(campaign_id: str, status: CampaignStatus | None) -> CampaignStatus:
    """Returns what was found.

    Raises:
        NotFoundError: where nothing was.
    """
    if status is None:
        raise NotFoundError(f"there is no campaign {campaign_id!r}", field="campaign_id")
    return status


def list_campaigns(connection: Connection, *, after_campaign_id: str = "", limit: int | None = None) -> list[Campaign]:
    """The next campaigns, oldest first, after one ("" for the first)."""
    age = tuple_(_campaigns.c.create_time_us, _campaigns.c.campaign_id)
    query = select(_campaigns).order_by(_campaigns.c.create_time_us, _campaigns.c.campaign_id).limit(limit)
    if after_campaign_id:
        last = _campaigns.alias("last")
        last_age = select(last.c.create_time_us, last.c.campaign_id).where(last.c.campaign_id == after_campaign_id)
        query = query.where(age > last_age.scalar_subquery())
    return [_campaign(row) for row in connection.execute(query)]


def mark_finished(connection: Connection, campaign_id: str) -> None:
    """Sets the state; the open orders are cancelled by the caller."""
    connection.execute(
        update(_campaigns).where(_campaigns.c.campaign_id == campaign_id).values(state=CampaignState.FINISHED.name)
    )


def check_currency(field: str, amount: Money, campaign: Campaign) -> Money:
    """Returns the amount where it is in the campaign's currency.

    Raises:
        InvalidArgumentError: names `field` where it is not.
    """
    if amount.currency_code != campaign.budget.currency_code:
        raise InvalidArgumentError(
            field, f"in {amount.currency_code}, but the campaign's budget is in {campaign.budget.currency_code}"
        )
    return amount


def next_position(connection: Connection, table: Table, campaign_id: str) -> int:
    """The next place in a campaign's list of sources, orders, observations or plans; the campaign must be locked."""
    query = select(func.coalesce(func.max(table.c.position), 0)).where(table.c.campaign_id == campaign_id)
    return int(connection.execute(query).scalar_one()) + 1
