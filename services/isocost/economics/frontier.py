"""The frontier: the Pareto set of cost and accuracy over what runs showed."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from isocost.economics.interval import Z_95, wilson_interval

__all__ = ["CostedPoint", "ObservedPoint", "average_seeds", "pareto"]


@dataclass(frozen=True, slots=True)
class ObservedPoint:
    """The accuracy of one run: method, labels trained on, seed, evaluation labels."""

    method: str
    n_weak: int
    n_human: int
    seed: int
    accuracy: float
    n_eval: int
    weak_source_id: str = ""
    human_source_id: str = ""


@dataclass(frozen=True, slots=True)
class CostedPoint:
    """The mean accuracy of one mix over its seeds, with a 95 % interval and the price of the labels."""

    cost_micros: int
    n_weak: int
    n_human: int
    method: str
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    n_seeds: int


def average_seeds(
    observations: Iterable[ObservedPoint], *, weak_price_micros: int, human_price_micros: int
) -> list[CostedPoint]:
    """One point for each method and mix, in order of cost.

    The seeds share one evaluation set, so its noise does not average out: the half-width joins, in quadrature, the
    Wilson interval at n_eval and the seeds' standard error.
    """
    groups: dict[tuple[str, int, int], list[ObservedPoint]] = defaultdict(list)
    for observation in observations:
        groups[observation.method, observation.n_weak, observation.n_human].append(observation)
    points = []
    for (method, n_weak, n_human), group in groups.items():
        accuracies = [observation.accuracy for observation in group]
        accuracy = statistics.fmean(accuracies)
        low, high = wilson_interval(accuracy, min(observation.n_eval for observation in group))
        seed_half = Z_95 * statistics.stdev(accuracies) / math.sqrt(len(group)) if len(group) > 1 else 0.0
        points.append(
            CostedPoint(
                cost_micros=n_weak * weak_price_micros + n_human * human_price_micros,
                n_weak=n_weak,
                n_human=n_human,
                method=method,
                accuracy=accuracy,
                accuracy_low=max(0.0, accuracy - math.hypot(accuracy - low, seed_half)),
                accuracy_high=min(1.0, accuracy + math.hypot(high - accuracy, seed_half)),
                n_seeds=len(group),
            )
        )
    return sorted(points, key=lambda point: (point.cost_micros, -point.accuracy, point.method))


def pareto(points: Sequence[CostedPoint]) -> list[CostedPoint]:
    """The points that no other point beats in both cost and accuracy, cheapest first, accuracy strictly rising."""
    best: list[CostedPoint] = []
    for point in sorted(points, key=lambda point: (point.cost_micros, -point.accuracy, point.method)):
        if not best or point.accuracy > best[-1].accuracy:
            best.append(point)
    return best
