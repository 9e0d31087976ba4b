"""The race: which source's last doubling brought more, without a model of the surface.

The guard for runs that contradict the posterior. What the last doubling of a source brought is the accuracy of the
largest mix that was seen, less that of the next one with half of this source's labels or fewer and as many of the
other's.
An option is worth the doublings that it makes of either source, each at what the last one brought: it extrapolates no
further than that (model-free racing on nested subsets, as in successive halving).
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from dataclasses import dataclass

from isocost.economics.policy.inputs import PolicyInputs
from isocost.economics.policy.options import Option, Options

__all__ = ["Raced", "choose", "doubling_gains"]

#: Doublings that are believed of one purchase.
_DOUBLINGS_MAX = 1.5


@dataclass(frozen=True, slots=True)
class Raced:
    """The option that wins, and why."""

    option: Option
    reason: str


def doubling_gains(inputs: PolicyInputs) -> tuple[float | None, float | None]:
    """What a doubling of the weak and of the human labels last brought; None where no pair of mixes shows it."""
    runs: dict[tuple[int, int], list[float]] = defaultdict(list)
    for point in inputs.observations:
        runs[point.n_weak, point.n_human].append(point.accuracy)
    accuracy = {mix: statistics.fmean(values) for mix, values in runs.items()}
    gains = []
    for kind in (0, 1):
        pairs = [
            (
                sum(large),
                small[kind],
                (accuracy[large] - accuracy[small]) / max(1.0, math.log2(large[kind] / max(1, small[kind]))),
            )
            for large in accuracy
            for small in accuracy
            if large[1 - kind] == small[1 - kind] and 0 < 2 * small[kind] <= large[kind]
        ]
        gains.append(max(pairs)[2] if pairs else None)
    return gains[0], gains[1]


def choose(inputs: PolicyInputs, options: Options) -> Raced | None:
    """The option with the largest extrapolated gain; None where the runs do not show one that brings `gain_min`."""
    weak_gain, human_gain = doubling_gains(inputs)
    if weak_gain is None or human_gain is None:
        return None

    def gain(option: Option) -> float:
        total = 0.0
        for bought, more, brought in zip(
            options.bought, (option.n_weak, option.n_human), (weak_gain, human_gain), strict=True
        ):
            doublings = math.log2((max(bought, 1.0) + more) / max(bought, 1.0))
            total += min(doublings, _DOUBLINGS_MAX) * max(0.0, brought or 0.0)
        return total

    def waste_micros(option: Option) -> int:
        weak_micros = 0 if weak_gain > 0 else option.n_weak * options.weak.price_micros
        human_micros = 0 if human_gain > 0 else option.n_human * options.human.price_micros
        return weak_micros + human_micros

    # Of equal gains the one without labels that brought nothing, then the cheapest.
    best = max(options.first, key=lambda option: (gain(option), -waste_micros(option), -option.cost_micros))
    if gain(best) < inputs.gain_min:
        return None
    words = (
        "the runs contradict what other tasks showed, so the source whose labels last brought more is bought: a "
        f"doubling of the weak labels brought {weak_gain:+.3f}, one of the human labels {human_gain:+.3f}"
    )
    return Raced(best, words)
