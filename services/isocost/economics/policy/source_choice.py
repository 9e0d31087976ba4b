"""Which weak source and which grade of human to buy from, by price and measured accuracy."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from isocost.economics.policy.forecast import forecast_pairs
from isocost.economics.policy.inputs import PolicyInputs
from isocost.economics.policy.prior import surface_prior

__all__ = ["RankedPair", "rank_sources"]


@dataclass(frozen=True, slots=True)
class RankedPair:
    """One weak and one human source, and the accuracy expected once all that is available is spent on the two."""

    weak_source_id: str
    human_source_id: str
    accuracy_final: float


def rank_sources(inputs: PolicyInputs, held_out_datasets: Collection[str] = ()) -> tuple[RankedPair, ...]:
    """Every pair of a weak and a human source, the best first; of equally good ones, the first given. Deterministic.

    Args:
        inputs: As for a plan; what may still be spent and what was measured of the sources matter most.
        held_out_datasets: See `AdaptivePolicy`.
    """
    pairs = [
        RankedPair(forecast.options.weak.source_id, forecast.options.human.source_id, forecast.shown(forecast.final))
        for forecast in forecast_pairs(inputs, surface_prior(held_out_datasets))
    ]
    return tuple(sorted(pairs, key=lambda pair: -pair.accuracy_final))
