"""The budget service: its database, its servicers, and what runs beside them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import grpc

from isocost.budget.database import Database
from isocost.budget.rpcs.annotation import AnnotationRpcs
from isocost.budget.rpcs.campaigns import CampaignRpcs
from isocost.budget.rpcs.decisions import DecisionRpcs
from isocost.budget.rpcs.ledger import LedgerRpcs
from isocost.budget.rpcs.orders import OrderRpcs
from isocost.budget.rpcs.pool import PoolRpcs
from isocost.budget.rpcs.queue import QueueRpcs
from isocost.budget.settings import BudgetSettings
from isocost.budget.sweeper import Sweeper
from isocost.budget.tokens import TokenAuthenticator, allowed_roles
from isocost.core.access import Access
from isocost.v1 import budget_service_pb2_grpc, queue_service_pb2_grpc

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

__all__ = ["BudgetService"]


class _BudgetRpcs(
    CampaignRpcs,
    PoolRpcs,
    OrderRpcs,
    LedgerRpcs,
    AnnotationRpcs,
    DecisionRpcs,
    budget_service_pb2_grpc.BudgetServiceServicer,
):
    """The servicer of `isocost.v1.BudgetService`."""


class BudgetService:
    """`isocost.v1.BudgetService` and `isocost.v1.QueueService` on one database.

    Usage::

        service = BudgetService(BudgetSettings(database_url="sqlite:///campaigns.db"))
        await service.start()
        service.register(server)
        ...
        await service.close()
    """

    SERVICE_NAME = "isocost.v1.BudgetService"
    SERVICE_NAMES = (SERVICE_NAME, "isocost.v1.QueueService")

    def __init__(self, settings: BudgetSettings) -> None:
        self._settings = settings
        self._budget_rpcs = _BudgetRpcs(settings)
        self._queue_rpcs = QueueRpcs(settings)
        self._database: Database | None = None
        self._sweeper: Sweeper | None = None

    @property
    def access(self) -> Access | None:
        """What is asked of callers once the service is started; None where calls need no token."""
        if not self._settings.require_tokens:
            return None
        authenticator = TokenAuthenticator(self._open_database, cache_seconds=self._settings.token_cache_seconds)
        return Access(authenticator, allowed_roles)

    @property
    def collectors(self) -> Sequence[Collector]:
        """What Prometheus sees of the money, once the service is started."""
        from isocost.budget.metrics import BudgetCollector  # noqa: PLC0415 - only with the extra `telemetry`

        return (BudgetCollector(self._open_database),)

    @property
    def _open_database(self) -> Database:
        if self._database is None:
            raise RuntimeError("the budget service is not started")
        return self._database

    def register(self, server: grpc.aio.Server) -> None:
        """Adds the rpcs to a server."""
        budget_service_pb2_grpc.add_BudgetServiceServicer_to_server(self._budget_rpcs, server)
        queue_service_pb2_grpc.add_QueueServiceServicer_to_server(self._queue_rpcs, server)

    async def start(self) -> None:
        """Opens the database, brings its tables to the newest revision, and begins to sweep.

        Raises:
            InvalidArgumentError: where the database's URL is not supported.
            FailedPreconditionError: where a newer isocost made the database.
            UnavailableError: where the database is away or locked.
        """
        database = Database(
            self._settings.database_url,
            busy_timeout_seconds=self._settings.busy_timeout_seconds,
            reader_threads=self._settings.reader_threads,
        )
        try:
            await asyncio.to_thread(database.migrate)
        except BaseException:
            database.close()
            raise
        self._database = self._budget_rpcs.database = self._queue_rpcs.database = database
        self._sweeper = Sweeper(database, self._settings.sweep_seconds)
        self._sweeper.start()

    async def close(self) -> None:
        """Lets running transactions end and closes the database."""
        if self._sweeper is not None:
            await self._sweeper.stop()
            self._sweeper = None
        if self._database is not None:
            database, self._database = self._database, None
            self._budget_rpcs.database = self._queue_rpcs.database = None
            await asyncio.to_thread(database.close)
