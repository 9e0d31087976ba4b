"""The sweeper: ends leases and gives up orders whose time is over, in the background."""

from __future__ import annotations

import asyncio
import contextlib
import functools

import structlog
from sqlalchemy import Connection, select, union

from isocost.budget import clock, schema
from isocost.budget.campaigns import lock_campaign
from isocost.budget.database import Database
from isocost.budget.leases import expire_leases
from isocost.budget.orders import expire_orders
from isocost.core.errors import UnavailableError
from isocost.resources.campaign import OrderState
from isocost.resources.queue import LeaseState

__all__ = ["Sweeper", "sweep_campaign"]

_log = structlog.get_logger(__name__)


def _due_campaigns(connection: Connection) -> list[str]:
    leases, orders = schema.leases, schema.orders
    time_us = clock.now_us()
    due = union(
        select(leases.c.campaign_id).where(leases.c.state == LeaseState.OPEN.name, leases.c.expire_time_us <= time_us),
        select(orders.c.campaign_id).where(
            orders.c.state == OrderState.OPEN.name,
            orders.c.expire_time_us.is_not(None),
            orders.c.expire_time_us <= time_us,
        ),
    )
    return list(connection.execute(due).scalars())


def sweep_campaign(connection: Connection, campaign_id: str) -> tuple[int, int]:
    """Ends a campaign's leases and gives up the labels of its orders whose time is over.

    Returns:
        Leases ended, and labels given up.
    """
    lock_campaign(connection, campaign_id)
    # Leases first: what they had in hand is given up with their orders.
    return expire_leases(connection, campaign_id), expire_orders(connection, campaign_id)


class Sweeper:
    """Sweeps every few seconds until it is stopped; a database that is away is waited for.

    Several services on one database may sweep at once: each works under the campaign's lock.
    """

    def __init__(self, database: Database, interval_seconds: float) -> None:
        self._database = database
        self._interval_seconds = interval_seconds
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to sweep."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Lets a sweep in progress end its transaction, then ends."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def sweep(self) -> None:
        """One sweep over every campaign where something is due, each in a transaction of its own."""
        for campaign_id in await self._database.run_read(_due_campaigns):
            n_leases, n_labels = await self._database.run_write(
                functools.partial(sweep_campaign, campaign_id=campaign_id)
            )
            if n_leases or n_labels:
                _log.info("swept", campaign_id=campaign_id, n_leases_expired=n_leases, n_labels_given_up=n_labels)

    async def _run(self) -> None:
        while True:
            try:
                await self.sweep()
            except UnavailableError as error:
                _log.warning("sweep_failed", error=str(error))
            except Exception:  # noqa: BLE001 - a sweeper that died would leave money reserved for ever
                _log.exception("sweep_failed")
            await asyncio.sleep(self._interval_seconds)
