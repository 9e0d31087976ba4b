"""What the page of a campaign shows: its money, orders and queue as they are now, and the report's evidence."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from isocost.client import BudgetClient
from isocost.client.answer import CampaignStatus
from isocost.report.evidence import gather
from isocost.report.page import page_parts
from isocost.resources.campaign import LedgerEntry, Order
from isocost.resources.queue import Lease, LeaseState
from isocost.resources.task import Source

__all__ = ["LEDGER_ROWS", "Dashboard", "Evidences", "ledger_rows", "read_dashboard"]

#: Entries of the ledger on one page of its own, and the newest ones on the campaign's page.
LEDGER_ROWS = 50
_NEWEST_ROWS = 12
#: Campaigns whose charts are remembered.
_REMEMBERED_MAX = 32


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One campaign at one moment.

    Attributes:
        status: The campaign, its money and its counts.
        sources: Its label sources.
        orders: Its orders, newest first.
        open_leases: Items in annotators' hands.
        parts: What the templates of frontier and plans show; None before the first observation.
        entries: The newest entries of the ledger, newest first.
    """

    status: CampaignStatus
    sources: Sequence[Source]
    orders: Sequence[Order]
    open_leases: Sequence[Lease]
    parts: Mapping[str, Any] | None
    entries: Sequence[LedgerEntry]

    @property
    def price_of(self) -> dict[str, str]:
        """What a label of each source costs, as text."""
        return {
            source.source_id: (
                str(source.unit_price)
                if source.price_per_million_tokens is None
                else f"{source.price_per_million_tokens} a million tokens, {source.unit_price} at most"
            )
            for source in self.sources
        }


class Evidences:
    """The charts and tables of campaigns, made once for each new observation or plan: drawing takes a second."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[tuple[int, int], Mapping[str, Any]]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def parts(self, budget: BudgetClient, campaign_id: str, counts: tuple[int, int]) -> Mapping[str, Any]:
        """What the templates of frontier and plans show.

        Args:
            budget: A client that has read this campaign's observations, and so may read the rest.
            campaign_id: A campaign with an observation.
            counts: Its observations and plans, by which what is remembered is known to be stale.
        """
        async with self._locks.setdefault(campaign_id, asyncio.Lock()):
            known = self._known.pop(campaign_id, None)
            if known is None or known[0] != counts:
                evidence = await gather(budget, campaign_id)
                known = (counts, await asyncio.to_thread(page_parts, evidence))
            # The one that was used last is forgotten last.
            self._known[campaign_id] = known
            while len(self._known) > _REMEMBERED_MAX:
                forgotten = next(iter(self._known))
                del self._known[forgotten]
                self._locks.pop(forgotten, None)
            return known[1]


async def read_dashboard(budget: BudgetClient, campaign_id: str, evidences: Evidences) -> Dashboard:
    """Reads a campaign.

    Raises:
        NotFoundError: where there is no such campaign.
        PermissionDeniedError: where the client's token may not see it.
    """
    status = await budget.get_campaign(campaign_id)
    sources, orders, leases, observations, plans = await asyncio.gather(
        budget.list_sources(campaign_id),
        budget.list_orders(campaign_id),
        budget.list_leases(campaign_id),
        budget.list_observations(campaign_id),
        budget.list_plans(campaign_id),
    )
    counts = (len(observations), len(plans))
    return Dashboard(
        status=status,
        sources=sources,
        orders=orders[::-1],
        open_leases=[lease for lease in leases if lease.state is LeaseState.OPEN],
        parts=await evidences.parts(budget, campaign_id, counts) if observations else None,
        entries=await ledger_rows(budget, campaign_id, status.n_entries + 1, _NEWEST_ROWS),
    )


async def ledger_rows(budget: BudgetClient, campaign_id: str, before_sequence: int, n_rows: int) -> list[LedgerEntry]:
    """The entries of the ledger before a sequence, newest first, at most n_rows.

    Raises:
        NotFoundError: where there is no such campaign.
    """
    first = max(before_sequence - 1 - n_rows, 0)
    entries: list[LedgerEntry] = []
    async for entry in budget.ledger(campaign_id, after_sequence=first):
        if entry.sequence >= before_sequence:
            break
        entries.append(entry)
    return entries[::-1]
