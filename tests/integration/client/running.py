"""A running budget service, and a campaign in it."""

from __future__ import annotations

from dataclasses import dataclass

from isocost.client import BudgetClient, ChannelSettings
from isocost.core.money import Money
from isocost.resources.campaign import Campaign
from isocost.resources.task import Item, Source, SourceKind, Task

TASK = Task("claims", "Is it true that {claim}?", ("no", "yes"))
WEAK = Source("weak", SourceKind.MODEL, Money(1_000), "small")
HUMAN = Source("human", SourceKind.HUMAN, Money(100_000))


def campaign(campaign_id: str = "c", *, budget_micros: int = 10_000_000) -> Campaign:
    return Campaign(campaign_id, TASK, Money(budget_micros), "strong")


def items(n_items: int) -> list[Item]:
    return [Item(f"i{number:05d}", {"claim": f"claim {number}"}) for number in range(n_items)]


@dataclass(frozen=True)
class Running:
    """Where the service listens, its database, and how it is reached."""

    address: str
    database_url: str
    channel: ChannelSettings | None = None

    async def create(self, *, n_items: int = 40, campaign_id: str = "c") -> None:
        """A campaign with a weak source at 1,000 micros, a human one at 100,000, and items i00000, i00001, ..."""
        async with BudgetClient(self.address, channel=self.channel) as budget:
            await budget.create_campaign(f"{campaign_id}/create", campaign(campaign_id))
            for source in (WEAK, HUMAN):
                await budget.create_source(f"{campaign_id}/{source.source_id}", campaign_id, source)
            await budget.add_items(f"{campaign_id}/items", campaign_id, items(n_items))
