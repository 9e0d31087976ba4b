"""Everything a report says, read from the budget service."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from isocost.client.budget import BudgetClient, CampaignStatus
from isocost.core.errors import FailedPreconditionError
from isocost.economics.frontier import CostedPoint, average_seeds
from isocost.economics.mixes import shipped_point
from isocost.resources.campaign import EntryKind, LedgerEntry
from isocost.resources.observation import FrontierPoint, Observation, Plan
from isocost.resources.task import Source, SourceKind

__all__ = ["Evidence", "gather"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """A campaign as the budget service holds it.

    Attributes:
        status: The campaign and its money.
        sources: Its label sources.
        labels_bought: Labels paid, by source id.
        labels_by_purpose: Labels paid, by source id and purpose.
        entries: The ledger, in sequence.
        observations: What runs showed, oldest first.
        points: Observations averaged over seeds, in order of cost.
        frontier: The Pareto set of the points.
        plans: What was decided, oldest first.
    """

    status: CampaignStatus
    sources: tuple[Source, ...]
    labels_bought: dict[str, int]
    labels_by_purpose: dict[tuple[str, str], int]
    entries: tuple[LedgerEntry, ...]
    observations: tuple[Observation, ...]
    points: tuple[CostedPoint, ...]
    frontier: tuple[FrontierPoint, ...]
    plans: tuple[Plan, ...]

    @property
    def shipped_point(self) -> CostedPoint:
        """The point whose model is shipped."""
        return shipped_point(self.points)

    @property
    def shipped(self) -> Observation:
        """The observation whose model is shipped: of the shipped point's seeds, the first."""
        point = self.shipped_point
        return min(
            (
                o
                for o in self.observations
                if (o.method, o.n_weak, o.n_human) == (point.method, point.n_weak, point.n_human)
            ),
            key=lambda observation: observation.seed,
        )

    def price_micros(self, kind: SourceKind) -> int:
        """Price of one label of the (only) source of a kind."""
        return next(source.unit_price.micros for source in self.sources if source.kind is kind)


async def gather(budget: BudgetClient, campaign_id: str) -> Evidence:
    """Reads a campaign.

    Raises:
        NotFoundError: where there is no such campaign.
        FailedPreconditionError: where it has no observation yet.
    """
    status = await budget.get_campaign(campaign_id)
    sources = await budget.list_sources(campaign_id)
    observations = await budget.list_observations(campaign_id)
    if not observations:
        raise FailedPreconditionError(
            f"campaign {campaign_id!r} has no observation yet; let a training run finish, then ask again"
        )
    entries = [entry async for entry in budget.ledger(campaign_id)]
    purposes = {order.order_id: order.purpose.name.lower() for order in await budget.list_orders(campaign_id)}
    paid = [entry for entry in entries if entry.kind is EntryKind.SETTLE]
    prices = {source.kind: source.unit_price.micros for source in sources}
    points = average_seeds(
        [observation.point for observation in observations],
        weak_price_micros=prices[SourceKind.MODEL],
        human_price_micros=prices[SourceKind.HUMAN],
    )
    return Evidence(
        status=status,
        sources=tuple(sources),
        labels_bought={source.source_id: sum(e.source_id == source.source_id for e in paid) for source in sources},
        labels_by_purpose=dict(Counter((entry.source_id, purposes[entry.order_id]) for entry in paid)),
        entries=tuple(entries),
        observations=tuple(observations),
        points=tuple(points),
        frontier=tuple(await budget.get_frontier(campaign_id)),
        plans=tuple(await budget.list_plans(campaign_id)),
    )
