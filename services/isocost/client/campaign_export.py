"""What the budget service holds of a campaign, as a file of one table."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from isocost.client.budget import BudgetClient
from isocost.client.export import write_table
from isocost.client.table import AUDIT, CONSENSUS, ITEMS, LEDGER, ORDERS, labels_table

__all__ = ["ExportKind", "export_campaign"]


class ExportKind(StrEnum):
    """What to export."""

    ITEMS = "items"
    LABELS = "labels"
    LEDGER = "ledger"
    CONSENSUS = "consensus"
    ORDERS = "orders"
    AUDIT = "audit"


async def export_campaign(budget: BudgetClient, kind: ExportKind, campaign_id: str, source_id: str, path: Path) -> int:
    """Writes a table of a campaign; returns the number of rows.

    Args:
        budget: Reads it.
        kind: Which table.
        campaign_id: The campaign.
        source_id: For labels, only this source's, "" for all; for the consensus, the HUMAN source.
        path: The file; .csv, .jsonl or .parquet tells the format.

    Raises:
        InvalidArgumentError: where the suffix is another.
        IsocostError: what the service said.
    """
    match kind:
        case ExportKind.ITEMS:
            return await write_table(path, ITEMS, budget.items(campaign_id))
        case ExportKind.LABELS:
            choices = (await budget.get_campaign(campaign_id)).campaign.task.choices
            return await write_table(path, labels_table(choices), budget.labels(campaign_id, source_id=source_id))
        case ExportKind.LEDGER:
            return await write_table(path, LEDGER, budget.ledger(campaign_id))
        case ExportKind.CONSENSUS:
            return await write_table(path, CONSENSUS, budget.consensus(campaign_id, source_id))
        case ExportKind.ORDERS:
            return await write_table(path, ORDERS, budget.orders(campaign_id))
        case ExportKind.AUDIT:
            return await write_table(path, AUDIT, budget.audit_entries(campaign_id))
