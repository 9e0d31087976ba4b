"""`isocost report`: writes the report of a sweep, or that of a campaign again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from isocost.cli.connection import open_budget
from isocost.cli.console import console, print_summary
from isocost.cli.sweep_view import print_sweep, print_written
from isocost.core.errors import InvalidArgumentError
from isocost.report.evidence import gather
from isocost.report.page import write_report
from isocost.report.sweep.findings import find
from isocost.report.sweep.page import write_sweep_report
from isocost.report.sweep.source import is_sweep

__all__ = ["report"]


def report(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="DIR", help="Folder of a sweep or a campaign; the report is written into it."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The same as DIR. With --address, the folder to write a campaign's report to.")
    ] = None,
    campaign: Annotated[str | None, typer.Option(help="Campaign id, where there are several.")] = None,
    address: Annotated[str | None, typer.Option(help="host:port of a budget service.")] = None,
) -> None:
    """Writes what a sweep or a campaign showed.

    Of a sweep: report.html, and the figures (SVG, PNG) and tables (CSV, Parquet, LaTeX) beside it. Of a campaign:
    report.html, result.json, observations.parquet and ledger.parquet from what the budget service holds.
    """
    if (folder is None) == (out is None):
        raise InvalidArgumentError("DIR", "give one folder, as DIR or as --out DIR")
    target = folder or out
    assert target is not None
    if is_sweep(target):
        if address or campaign:
            raise InvalidArgumentError("DIR", f"{str(target)!r} holds a sweep; leave --address and --campaign out")
        findings = find(target)
        print_sweep(findings)
        print_written(write_sweep_report(target, findings), target)
        return
    for path in asyncio.run(_write_campaign(target, campaign, address)):
        console.print(f"[dim]written[/]  {escape(str(path))}")


async def _write_campaign(out: Path, campaign: str | None, address: str | None) -> list[Path]:
    async with open_budget(None if address else out, address) as budget:
        ids = [known.campaign_id for known in await budget.list_campaigns()]
        if campaign is None and len(ids) != 1:
            raise InvalidArgumentError("--campaign", f"name one of {', '.join(ids) or 'none; there is no campaign'}")
        evidence = await gather(budget, campaign or ids[0])
    print_summary(evidence)
    return write_report(evidence, out)
