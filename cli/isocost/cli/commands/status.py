"""`isocost status`: where campaigns stand."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from isocost.cli.connection import open_budget
from isocost.cli.console import print_status

__all__ = ["status"]


def status(
    out: Annotated[Path | None, typer.Option(help="Output folder of `isocost run`.")] = None,
    address: Annotated[str | None, typer.Option(help="host:port of a budget service.")] = None,
) -> None:
    """Shows each campaign's state, money and pool."""

    async def read() -> None:
        async with open_budget(out, address) as budget:
            campaigns = await budget.list_campaigns()
            print_status([await budget.get_campaign(campaign.campaign_id) for campaign in campaigns])

    asyncio.run(read())
