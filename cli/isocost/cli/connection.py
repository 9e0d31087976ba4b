"""Reaching a budget service: a remote one by its address, or the one whose state lies in an output folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from isocost.client import BudgetClient
from isocost.core.errors import InvalidArgumentError

__all__ = ["open_budget"]


@asynccontextmanager
async def open_budget(out: Path | None, address: str | None) -> AsyncIterator[BudgetClient]:
    """A client of the budget service.

    Raises:
        InvalidArgumentError: where neither or both are given, or the folder holds no campaign.
    """
    if (out is None) == (address is None):
        raise InvalidArgumentError("--out", "give either --out DIR or --address HOST:PORT")
    if address is not None:
        async with BudgetClient(address) as client:
            yield client
        return
    assert out is not None
    database = (out / "state" / "budget.db").resolve()
    if not database.is_file():
        raise InvalidArgumentError(
            "--out", f"{str(out)!r} holds no campaign; give the folder that `isocost run` wrote to"
        )
    from isocost.budget.service import BudgetService  # noqa: PLC0415 - only for a local folder
    from isocost.budget.settings import BudgetSettings  # noqa: PLC0415
    from isocost.core.grpc_server import ServiceHost  # noqa: PLC0415

    service = BudgetService(BudgetSettings(database_url=f"sqlite:///{database}"))
    async with ServiceHost(service, "127.0.0.1:0") as host, BudgetClient(host.address) as client:
        yield client
