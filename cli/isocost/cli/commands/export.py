"""`isocost export`: what the budget service holds, as a file."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from isocost.cli.connection import (
    AddressOption,
    CaFileOption,
    CertFileOption,
    KeyFileOption,
    OutOption,
    TokenOption,
    channel_settings,
    open_budget,
)
from isocost.cli.console import console
from isocost.client.campaign_export import ExportKind, export_campaign
from isocost.core.errors import InvalidArgumentError

__all__ = ["export"]


def export(
    kind: Annotated[ExportKind, typer.Argument(help="What to export.", show_default=False)],
    campaign: Annotated[str, typer.Option(help="Campaign id.")],
    file: Annotated[Path, typer.Option(help="File to write; .parquet, .jsonl or .csv tells the format.")],
    source: Annotated[str, typer.Option(help="Only this source's labels; the consensus needs it.")] = "",
    out: OutOption = None,
    address: AddressOption = None,
    token: TokenOption = None,
    ca_file: CaFileOption = None,
    cert_file: CertFileOption = None,
    key_file: KeyFileOption = None,
) -> None:
    """Writes items, labels, the ledger, the consensus of annotators, orders or the audit log, with their provenance."""
    if kind is ExportKind.CONSENSUS and not source:
        raise InvalidArgumentError("--source", "not given; the consensus is that of one HUMAN source's annotators")
    if source and kind not in (ExportKind.CONSENSUS, ExportKind.LABELS):
        raise InvalidArgumentError("--source", f"says nothing about {kind.value}; leave it out")

    async def write() -> int:
        async with open_budget(out, address, channel_settings(token, ca_file, cert_file, key_file)) as budget:
            return await export_campaign(budget, kind, campaign, source, file)

    n_rows = asyncio.run(write())
    console.print(f"[dim]written[/]  {escape(str(file))}  ({n_rows:,} rows)")
