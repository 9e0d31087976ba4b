"""Leases: items in the hands of one annotator for a while. `queue` makes and answers them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Row, exists, select, update

from isocost.budget import clock, schema
from isocost.budget.campaigns import lock_campaign, read_campaign
from isocost.budget.clock import time_from_us, us_from_delta
from isocost.core.errors import FailedPreconditionError, NotFoundError
from isocost.resources.campaign import Campaign
from isocost.resources.queue import Lease, LeaseState

__all__ = [
    "LEASE_AGE_MAX",
    "add_answered",
    "close_idle",
    "expire_leases",
    "extend_lease",
    "list_leases",
    "lock_lease",
    "read_lease",
    "release_lease",
]

_leases = schema.leases
_slots = schema.order_items
#: Heartbeats keep a lease no longer than this after it began.
LEASE_AGE_MAX = timedelta(hours=24)


def _lease(row: Row[Any]) -> Lease:
    return Lease(
        lease_id=row.lease_id,
        campaign_id=row.campaign_id,
        source_id=row.source_id,
        annotator=row.annotator,
        state=LeaseState[row.state],
        n_items=row.n_items,
        n_answered=row.n_answered,
        expire_time=time_from_us(row.expire_time_us),
        create_time=time_from_us(row.create_time_us),
    )


def read_lease(connection: Connection, lease_id: str) -> Lease:
    """Reads one lease.

    Raises:
        NotFoundError: where there is none.
    """
    row = connection.execute(select(_leases).where(_leases.c.lease_id == lease_id)).first()
    if row is None:
        raise NotFoundError(f"there is no lease {lease_id!r}", field="lease_id")
    return _lease(row)


def lock_lease(connection: Connection, lease_id: str) -> tuple[Campaign, Lease]:
    """Locks a lease's campaign, ends its leases whose time is over, and reads both.

    Raises:
        NotFoundError: where there is no such lease.
    """
    campaign = lock_campaign(connection, read_lease(connection, lease_id).campaign_id)
    expire_leases(connection, campaign.campaign_id)
    return campaign, read_lease(connection, lease_id)


def list_leases(
    connection: Connection, campaign_id: str, *, after_position: int = 0, limit: int | None = None, annotator: str = ""
) -> list[tuple[int, Lease]]:
    """A campaign's next leases with their positions, oldest first.

    Args:
        connection: A transaction.
        campaign_id: The campaign.
        after_position: 0 for the first.
        limit: At most so many; None for all.
        annotator: Only this annotator's; "" for all.

    Raises:
        NotFoundError: where there is no such campaign.
    """
    read_campaign(connection, campaign_id)
    query = (
        select(_leases)
        .where(_leases.c.campaign_id == campaign_id, _leases.c.position > after_position)
        .order_by(_leases.c.position)
        .limit(limit)
    )
    if annotator:
        query = query.where(_leases.c.annotator == annotator)
    return [(row.position, _lease(row)) for row in connection.execute(query)]


def _store(connection: Connection, lease: Lease) -> Lease:
    connection.execute(
        update(_leases)
        .where(_leases.c.lease_id == lease.lease_id)
        .values(state=lease.state.name, n_answered=lease.n_answered)
    )
    return lease


def _hand_back(connection: Connection, lease_id: str) -> None:
    connection.execute(update(_slots).where(_slots.c.lease_id == lease_id).values(lease_id=None))


def add_answered(connection: Connection, lease: Lease, n_answered: int) -> Lease:
    """Counts answers that were just paid; an open lease with nothing left to answer is ANSWERED."""
    lease = replace(lease, n_answered=lease.n_answered + n_answered)
    if lease.state is LeaseState.OPEN and lease.n_answered == lease.n_items:
        lease = replace(lease, state=LeaseState.ANSWERED)
    return _store(connection, lease)


def extend_lease(connection: Connection, lease_id: str) -> Lease:
    """Lets an open lease run for its whole duration from now, but no longer than 24 hours after it began.

    Raises:
        NotFoundError: where there is no such lease.
        FailedPreconditionError: where it is not open any more.
    """
    _, lease = lock_lease(connection, lease_id)
    if lease.state is not LeaseState.OPEN:
        raise FailedPreconditionError(
            f"lease {lease_id!r} is {lease.state.name}; lease items anew (what is answered is kept)", field="lease_id"
        )
    row = connection.execute(select(_leases).where(_leases.c.lease_id == lease_id)).one()
    expire_time_us = min(clock.now_us() + row.duration_us, row.create_time_us + us_from_delta(LEASE_AGE_MAX))
    connection.execute(update(_leases).where(_leases.c.lease_id == lease_id).values(expire_time_us=expire_time_us))
    return replace(lease, expire_time=time_from_us(expire_time_us))


def release_lease(connection: Connection, lease_id: str) -> Lease:
    """Gives the items of a lease that are not answered back to the queue; a lease that ended stays as it is.

    Raises:
        NotFoundError: where there is no such lease.
    """
    _, lease = lock_lease(connection, lease_id)
    if lease.state is not LeaseState.OPEN:
        return lease
    _hand_back(connection, lease_id)
    return _store(connection, replace(lease, state=LeaseState.RELEASED))


def expire_leases(connection: Connection, campaign_id: str) -> int:
    """Ends a campaign's open leases whose time is over; returns how many. The campaign must be locked."""
    query = select(_leases).where(
        _leases.c.campaign_id == campaign_id,
        _leases.c.state == LeaseState.OPEN.name,
        _leases.c.expire_time_us <= clock.now_us(),
    )
    rows = connection.execute(query).all()
    for row in rows:
        _hand_back(connection, row.lease_id)
        _store(connection, replace(_lease(row), state=LeaseState.EXPIRED))
    return len(rows)


def close_idle(connection: Connection, campaign_id: str) -> None:
    """Ends a campaign's open leases that have nothing in hand any more, as their orders were cancelled."""
    in_hand = exists().where(_slots.c.lease_id == _leases.c.lease_id)
    connection.execute(
        update(_leases)
        .where(_leases.c.campaign_id == campaign_id, _leases.c.state == LeaseState.OPEN.name, ~in_hand)
        .values(state=LeaseState.RELEASED.name)
    )
