"""Everything a report says, read from the budget service."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from isocost.client.budget import BudgetClient, CampaignStatus
from isocost.core.errors import FailedPreconditionError
from isocost.core.money import Money
from isocost.economics.frontier import CostedPoint, average_seeds, pareto
from isocost.economics.mixes import shipped_point
from isocost.report.mix_cost import cost_of_all_grades
from isocost.report.weak_source import WeakSources, gather_weak_sources
from isocost.resources.campaign import EntryKind, LedgerEntry
from isocost.resources.observation import FrontierPoint, Observation
from isocost.resources.plan import Plan
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
        paid: What they cost, likewise, corrections included.
        weak_sources: How good each weak source is, and which one was bought from.
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
    paid: dict[tuple[str, str], Money]
    weak_sources: WeakSources
    entries: tuple[LedgerEntry, ...]
    observations: tuple[Observation, ...]
    points: tuple[CostedPoint, ...]
    frontier: tuple[FrontierPoint, ...]
    plans: tuple[Plan, ...]

    @property
    def shipped(self) -> Observation:
        """The observation whose model is shipped: the one-standard-error rule over single runs.

        A run is shipped, not a mix: where seeds are bimodal, the mean of a mix says little of either of its runs.
        """
        point_of = {(point.method, point.n_weak, point.n_human): point for point in self.points}
        runs = {
            replace(
                point_of[o.method, o.n_weak, o.n_human],
                accuracy=o.evaluation.accuracy,
                accuracy_low=o.evaluation.accuracy_low,
                accuracy_high=o.evaluation.accuracy_high,
                n_seeds=1,
            ): o
            # Of equal runs the first seed's stays.
            for o in sorted(self.observations, key=lambda observation: -observation.seed)
        }
        return runs[shipped_point(list(runs))]

    @property
    def shipped_point(self) -> CostedPoint:
        """The mix of the shipped model, averaged over its seeds."""
        shipped = self.shipped
        mix = (shipped.method, shipped.n_weak, shipped.n_human)
        return next(point for point in self.points if (point.method, point.n_weak, point.n_human) == mix)

    @property
    def human_price_micros(self) -> int:
        """Price of one label of the first source of human labels: the reference, where there are several grades."""
        return next(source.unit_price.micros for source in self.sources if source.kind is SourceKind.HUMAN)

    def mean_price(self, source_id: str, purpose: str = "") -> Money | None:
        """What a label of a source cost on average (of one purpose, if named); None where none was bought."""
        keys = [key for key in self.paid if key[0] == source_id and purpose in ("", key[1])]
        n_labels = sum(self.labels_by_purpose.get(key, 0) for key in keys)
        if not n_labels:
            return None
        return Money(round(sum(self.paid[key].micros for key in keys) / n_labels), self.paid[keys[0]].currency_code)


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
    purpose_of = {order.order_id: order.purpose for order in await budget.list_orders(campaign_id)}
    purposes = {order_id: purpose.name.lower() for order_id, purpose in purpose_of.items()}
    settled = [entry for entry in entries if entry.kind is EntryKind.SETTLE]
    paid: dict[tuple[str, str], int] = defaultdict(int)
    for entry in entries:
        if entry.kind in (EntryKind.SETTLE, EntryKind.CORRECT):
            paid[entry.source_id, purposes[entry.order_id]] += entry.amount.micros
    currency = status.balance.budget.currency_code
    frontier = await budget.get_frontier(campaign_id)
    if status.campaign.config_json and sum(source.kind is SourceKind.HUMAN for source in sources) > 1:
        observations = cost_of_all_grades(observations, sources, entries, purpose_of)
        frontier = [FrontierPoint.of(point, currency) for point in pareto(_costed_points(observations))]
    return Evidence(
        status=status,
        sources=tuple(sources),
        labels_bought={source.source_id: sum(e.source_id == source.source_id for e in settled) for source in sources},
        labels_by_purpose=dict(Counter((entry.source_id, purposes[entry.order_id]) for entry in settled)),
        paid={key: Money(micros, currency) for key, micros in paid.items()},
        weak_sources=await gather_weak_sources(budget, status.campaign, sources),
        entries=tuple(entries),
        observations=tuple(observations),
        points=_costed_points(observations),
        frontier=tuple(frontier),
        plans=tuple(await budget.list_plans(campaign_id)),
    )


def _costed_points(observations: Sequence[Observation]) -> tuple[CostedPoint, ...]:
    """Observations averaged over seeds, in order of cost; a mix costs what its labels really did."""
    micros = {(o.n_weak, o.n_human): o.cost.micros for o in observations if o.cost}
    averaged = average_seeds([o.point for o in observations], weak_price_micros=0, human_price_micros=0)
    points = [replace(point, cost_micros=micros[point.n_weak, point.n_human]) for point in averaged]
    return tuple(sorted(points, key=lambda point: (point.cost_micros, -point.accuracy, point.method)))
