"""A real budget service, with clients that wait for nothing long."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from isocost.budget.service import BudgetService
from isocost.budget.settings import BudgetSettings
from isocost.core.grpc_server import ServiceHost
from tests.integration.client.running import Running


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    # Small pages, so that every list and stream takes several.
    settings = BudgetSettings(database_url=f"sqlite:///{tmp_path}/budget.db", page_rows=7)
    async with ServiceHost(BudgetService(settings), "127.0.0.1:0") as host:
        yield Running(host.address, settings.database_url)
