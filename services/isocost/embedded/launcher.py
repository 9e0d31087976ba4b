"""Starts the services in this process, each on its own gRPC server."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Self

import structlog

from isocost.budget.service import BudgetService
from isocost.budget.settings import BudgetSettings
from isocost.client import BudgetClient, LabelerClient, TrainerClient
from isocost.core.grpc_server import ServiceHost
from isocost.core.logs import configure_logs
from isocost.labeler.service import LabelerService
from isocost.labeler.settings import LabelerSettings
from isocost.trainer.service import TrainerService
from isocost.trainer.settings import TrainerSettings

__all__ = ["EmbeddedServices"]


class EmbeddedServices:
    """The three services on free loopback ports, their state and their log below one folder, and a client of each.

    Usage::

        async with EmbeddedServices(Path("runs/demo/state")) as services:
            await services.budget.list_campaigns()
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        labeler_settings: LabelerSettings | None = None,
        trainer_settings: TrainerSettings | None = None,
    ) -> None:
        state_dir.mkdir(parents=True, exist_ok=True)
        self._log_path = state_dir / "isocost.log"
        self._budget = BudgetService(BudgetSettings(database_url=f"sqlite:///{state_dir / 'budget.db'}"))
        self._labeler = LabelerService(labeler_settings or LabelerSettings(state_dir=state_dir / "labeler"))
        self._trainer = TrainerService(trainer_settings or TrainerSettings(state_dir=state_dir / "trainer"))
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            log = stack.enter_context(self._log_path.open("a", encoding="utf-8", buffering=1))
            configure_logs(log)
            stack.callback(structlog.reset_defaults)
            hosts = [
                await stack.enter_async_context(ServiceHost(service, "127.0.0.1:0"))
                for service in (self._budget, self._labeler, self._trainer)
            ]
            self.budget = await stack.enter_async_context(BudgetClient(hosts[0].address))
            self.labeler = await stack.enter_async_context(LabelerClient(hosts[1].address))
            self.trainer = await stack.enter_async_context(TrainerClient(hosts[2].address))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()
