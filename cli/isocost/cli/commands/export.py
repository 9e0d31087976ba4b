"""`isocost export`: what the budget service holds, as a file."""

from __future__ import annotations

import asyncio
from enum import StrEnum
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
from isocost.client import BudgetClient
from isocost.client.export import write_table
from isocost.client.table import AUDIT, CONSENSUS, ITEMS, LEDGER, ORDERS, labels_table
from isocost.core.errors import InvalidArgumentError

__all__ = ["Kind", "export"]


class Kind(StrEnum):
    """What to export."""

    ITEMS = "items"
    LABELS = "labels"
    LEDGER = "ledger"
    CONSENSUS = "consensus"
    ORDERS = "orders"
    AUDIT = "audit"


async def _write(budget: BudgetClient, kind: Kind, campaign_id: str, source_id: str, file: Path) -> int:
    """Writes the file and returns how many rows it has."""
    match kind:
        case Kind.ITEMS:
            return await write_table(file, ITEMS, budget.items(campaign_id))
        case Kind.LABELS:
            choices = (await budget.get_campaign(campaign_id)).campaign.task.choices
            return await write_table(file, labels_table(choices), budget.labels(campaign_id, source_id=source_id))
        case Kind.LEDGER:
            return await write_table(file, LEDGER, budget.ledger(campaign_id))
        case Kind.CONSENSUS:
            return await write_table(file, CONSENSUS, budget.consensus(campaign_id, source_id))
        case Kind.ORDERS:
            return await write_table(file, ORDERS, budget.orders(campaign_id))
        case Kind.AUDIT:
            return await write_table(file, AUDIT, budget.audit_entries(campaign_id))


def export(
    kind: Annotated[Kind, typer.Argument(help="What to export.", show_default=False)],
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
    if kind is Kind.CONSENSUS and not source:
        raise InvalidArgumentError("--source", "not given; the consensus is that of one HUMAN source's annotators")
    if source and kind not in (Kind.CONSENSUS, Kind.LABELS):
        raise InvalidArgumentError("--source", f"says nothing about {kind.value}; leave it out")

    async def write() -> int:
        async with open_budget(out, address, channel_settings(token, ca_file, cert_file, key_file)) as budget:
            return await _write(budget, kind, campaign, source, file)

    n_rows = asyncio.run(write())
    console.print(f"[dim]written[/]  {escape(str(file))}  ({n_rows:,} rows)")
