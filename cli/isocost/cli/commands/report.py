"""`isocost report`: writes the report of a campaign again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from isocost.cli.connection import open_budget
from isocost.cli.console import console, print_summary
from isocost.core.errors import InvalidArgumentError
from isocost.report.evidence import gather
from isocost.report.page import write_report

__all__ = ["report"]


def report(
    out: Annotated[Path, typer.Option(help="Folder to write to; also where the campaign lies, unless --address.")],
    campaign: Annotated[str | None, typer.Option(help="Campaign id, where there are several.")] = None,
    address: Annotated[str | None, typer.Option(help="host:port of a budget service.")] = None,
) -> None:
    """Writes report.html, result.json, observations.parquet and ledger.parquet from what the budget service holds."""

    async def write() -> list[Path]:
        async with open_budget(None if address else out, address) as budget:
            ids = [known.campaign_id for known in await budget.list_campaigns()]
            if campaign is None and len(ids) != 1:
                raise InvalidArgumentError(
                    "--campaign", f"name one of {', '.join(ids) or 'none; there is no campaign'}"
                )
            evidence = await gather(budget, campaign or ids[0])
        print_summary(evidence)
        return write_report(evidence, out)

    for path in asyncio.run(write()):
        console.print(f"[dim]written[/]  {escape(str(path))}")
