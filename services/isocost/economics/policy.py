"""What to buy next: the policy behind the budget service's Plan.

The rule `doubling-gain`, stated in full:

1. The gain of a source is the accuracy that its last doubling brought: the mean accuracy of runs on all labels bought
   minus that of runs with half of this source's labels (and all of the other's). Where no such pair was observed, the
   gain is unknown and counted as `GAIN_PRIOR`.
2. A tranche of money T spent on a source with n labels at price c makes log2((n + T/c) / n) doublings; the expected
   gain of the tranche is the gain a doubling brought times that number.
3. The whole tranche goes to the source whose expected gain is larger.
4. Stop when the money left buys no label, when no free item is left, or when both expected gains are below
   `GAIN_MIN`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from isocost.economics.frontier import ObservedPoint
from isocost.economics.regime import Regime

__all__ = ["GAIN_MIN", "GAIN_PRIOR", "POLICY_NAME", "PolicyDecision", "PolicyInputs", "decide"]

POLICY_NAME = "doubling-gain"
#: Accuracy a doubling is taken to bring while nothing is known: the mean over the paper's surfaces is about this.
GAIN_PRIOR = 0.03
#: Expected gain of a whole tranche below which it is not worth its price.
GAIN_MIN = 0.005


@dataclass(frozen=True, slots=True)
class PolicyInputs:
    """Everything the policy sees.

    Attributes:
        weak_price_micros, human_price_micros: Price of one label; greater than zero.
        available_micros: Free to spend.
        tranche_micros: What the next tranche may cost at most.
        n_weak, n_human: Labels bought for training so far.
        n_items_free: Items of the pool that no order has taken.
        observations: What runs showed.
    """

    weak_price_micros: int
    human_price_micros: int
    available_micros: int
    tranche_micros: int
    n_weak: int
    n_human: int
    n_items_free: int
    observations: tuple[ObservedPoint, ...]


@dataclass(frozen=True, slots=True)
class PolicyDecision:
    """Labels to buy (both 0 means stop), the expected gain of the tranche on each source, and the reason."""

    n_weak: int
    n_human: int
    weak_gain: float
    human_gain: float
    regime: Regime
    reason: str

    @property
    def stop(self) -> bool:
        """Whether nothing more is bought."""
        return self.n_weak == 0 and self.n_human == 0


def _mean_accuracy(observations: Sequence[ObservedPoint], n_weak: int, n_human: int) -> float | None:
    accuracies = [o.accuracy for o in observations if o.n_weak == n_weak and o.n_human == n_human]
    return statistics.fmean(accuracies) if accuracies else None


def _doubling_gain(inputs: PolicyInputs, *, weak: bool) -> float | None:
    """The accuracy that the last doubling of one source brought, or None where it was not observed."""
    here = _mean_accuracy(inputs.observations, inputs.n_weak, inputs.n_human)
    if weak:
        before = _mean_accuracy(inputs.observations, inputs.n_weak // 2, inputs.n_human)
    else:
        before = _mean_accuracy(inputs.observations, inputs.n_weak, inputs.n_human // 2)
    return None if here is None or before is None else here - before


def _tranche(inputs: PolicyInputs, *, weak: bool) -> tuple[int, float, float | None]:
    """Labels the tranche buys from one source, its expected gain, and the gain of the last doubling."""
    price = inputs.weak_price_micros if weak else inputs.human_price_micros
    n_bought = inputs.n_weak if weak else inputs.n_human
    n_labels = min(min(inputs.tranche_micros, inputs.available_micros) // price, inputs.n_items_free)
    gain = _doubling_gain(inputs, weak=weak)
    doublings = math.log2((n_bought + n_labels) / n_bought) if n_bought else math.log2(1 + n_labels)
    return n_labels, max(0.0, GAIN_PRIOR if gain is None else gain) * doublings, gain


def _regime(inputs: PolicyInputs) -> Regime:
    """Names the regime from the best weak-only, human-only and mixed points within what was spent on training."""
    means = {(o.n_weak, o.n_human) for o in inputs.observations}
    best: dict[str, float] = {}
    for n_weak, n_human in means:
        kind = "mixed" if n_weak and n_human else "weak" if n_weak else "human" if n_human else ""
        accuracy = _mean_accuracy(inputs.observations, n_weak, n_human)
        if kind and accuracy is not None:
            best[kind] = max(best.get(kind, 0.0), accuracy)
    if len(best) < 3:
        return Regime.UNSPECIFIED
    if best["mixed"] > max(best["weak"], best["human"]):
        return Regime.MIXED
    return Regime.QUANTITY_DOMINANT if best["weak"] >= best["human"] else Regime.QUALITY_DOMINANT


def _describe(name: str, gain: float | None, expected: float, n_labels: int) -> str:
    observed = f"the last doubling brought {gain:+.3f}" if gain is not None else "no doubling was observed yet"
    return f"{n_labels} more {name} labels are expected to bring {expected:+.3f} ({observed})"


def decide(inputs: PolicyInputs) -> PolicyDecision:
    """Decides by the rule above. Deterministic given its inputs."""
    n_weak, weak_gain, weak_doubling = _tranche(inputs, weak=True)
    n_human, human_gain, human_doubling = _tranche(inputs, weak=False)
    regime = _regime(inputs)

    def stop(reason: str) -> PolicyDecision:
        return PolicyDecision(0, 0, weak_gain, human_gain, regime, reason)

    if inputs.n_items_free == 0:
        return stop("stop: the pool has no free item left")
    if n_weak == 0 and n_human == 0:
        return stop("stop: the money left buys no label")
    weak_words = _describe("weak", weak_doubling, weak_gain, n_weak)
    human_words = _describe("human", human_doubling, human_gain, n_human)
    if max(weak_gain if n_weak else 0.0, human_gain if n_human else 0.0) < GAIN_MIN:
        return stop(f"stop: no tranche is worth its price any more: {weak_words}; {human_words}")
    if n_human and (human_gain >= weak_gain or not n_weak):
        stopped = "weak labels have stopped helping: " if weak_doubling is not None and weak_doubling <= 0 else ""
        return PolicyDecision(
            0, n_human, weak_gain, human_gain, regime, f"buy human labels: {stopped}{human_words}; {weak_words}"
        )
    return PolicyDecision(n_weak, 0, weak_gain, human_gain, regime, f"buy weak labels: {weak_words}; {human_words}")
