"""What to buy next: the policy behind the budget service's Plan.

The rule `doubling-gain`, stated in full:

1. The gain of a source is the accuracy that a doubling of its labels brings. What the last doubling brought was
   observed: the mean accuracy of runs on all labels bought, minus that of runs with half of this source's labels (and
   all of the other's). That difference is noisy, so it is averaged with a prior of `GAIN_PRIOR` +- `GAIN_PRIOR_SD`,
   each weighted by its precision. The variance of the observed difference counts the evaluation labels and the seeds:
   2 * (p (1 - p) / n_eval + `SEED_SD`^2 / n_seeds). Where no such pair was observed, the prior stands alone.
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

__all__ = [
    "GAIN_MIN",
    "GAIN_PRIOR",
    "GAIN_PRIOR_SD",
    "POLICY_NAME",
    "SEED_SD",
    "PolicyDecision",
    "PolicyInputs",
    "decide",
]

POLICY_NAME = "doubling-gain"
#: Accuracy that a doubling is taken to bring before anything is known, and how far that may be off: mean and standard
#: deviation over the 144 pairs of neighbouring points, on the six accuracy surfaces of Mallen & Belrose 2024, in which
#: one kind of label grows at least 1.5-fold and the other stays.
GAIN_PRIOR = 0.025
GAIN_PRIOR_SD = 0.034
#: Standard deviation of a run's accuracy over seeds; there 0.01 to 0.07.
SEED_SD = 0.04
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


@dataclass(frozen=True, slots=True)
class _Doubling:
    """What the last doubling of a source brought (None where not observed), and what one is expected to bring."""

    observed: float | None
    expected: float


def _runs(inputs: PolicyInputs, n_weak: int, n_human: int) -> list[ObservedPoint]:
    return [o for o in inputs.observations if (o.n_weak, o.n_human) == (n_weak, n_human)]


def _mean_accuracy(runs: Sequence[ObservedPoint]) -> float:
    return statistics.fmean(run.accuracy for run in runs)


def _variance(runs: Sequence[ObservedPoint]) -> float:
    """Variance of the mean accuracy of runs that share their evaluation labels."""
    accuracy, n_eval = _mean_accuracy(runs), min(run.n_eval for run in runs)
    # Agresti-Coull: the plain p (1 - p) is 0 where every answer was right, however few there were.
    adjusted = (accuracy * n_eval + 2) / (n_eval + 4)
    return adjusted * (1 - adjusted) / n_eval + SEED_SD**2 / len(runs)


def _doubling(inputs: PolicyInputs, *, weak: bool) -> _Doubling:
    here = _runs(inputs, inputs.n_weak, inputs.n_human)
    if weak:
        before = _runs(inputs, inputs.n_weak // 2, inputs.n_human)
    else:
        before = _runs(inputs, inputs.n_weak, inputs.n_human // 2)
    if not here or not before:
        return _Doubling(None, GAIN_PRIOR)
    observed = _mean_accuracy(here) - _mean_accuracy(before)
    precision = 1 / (_variance(here) + _variance(before))
    prior_precision = 1 / GAIN_PRIOR_SD**2
    return _Doubling(observed, (observed * precision + GAIN_PRIOR * prior_precision) / (precision + prior_precision))


def _tranche(inputs: PolicyInputs, *, weak: bool) -> tuple[int, float, _Doubling]:
    """Labels the tranche buys from one source, its expected gain, and the gain of a doubling."""
    price = inputs.weak_price_micros if weak else inputs.human_price_micros
    n_bought = inputs.n_weak if weak else inputs.n_human
    n_labels = min(min(inputs.tranche_micros, inputs.available_micros) // price, inputs.n_items_free)
    doubling = _doubling(inputs, weak=weak)
    doublings = math.log2((n_bought + n_labels) / n_bought) if n_bought else math.log2(1 + n_labels)
    return n_labels, max(0.0, doubling.expected) * doublings, doubling


def _regime(inputs: PolicyInputs) -> Regime:
    """Names the regime from the best weak-only, human-only and mixed means observed."""
    best: dict[str, float] = {}
    for n_weak, n_human in {(o.n_weak, o.n_human) for o in inputs.observations}:
        kind = "mixed" if n_weak and n_human else "weak" if n_weak else "human" if n_human else ""
        if kind:
            best[kind] = max(best.get(kind, 0.0), _mean_accuracy(_runs(inputs, n_weak, n_human)))
    if len(best) < 3:
        return Regime.UNSPECIFIED
    if best["mixed"] > max(best["weak"], best["human"]):
        return Regime.MIXED
    return Regime.QUANTITY_DOMINANT if best["weak"] >= best["human"] else Regime.QUALITY_DOMINANT


def _describe(name: str, doubling: _Doubling, expected: float, n_labels: int) -> str:
    if doubling.observed is None:
        basis = f"no doubling was observed yet, {doubling.expected:+.3f} is taken for one"
    else:
        basis = f"the last doubling brought {doubling.observed:+.3f}, {doubling.expected:+.3f} is expected of the next"
    return f"{n_labels} more {name} labels are expected to bring {expected:+.3f} ({basis})"


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
        stopped = "weak labels have stopped helping: " if weak_doubling.expected <= 0 else ""
        return PolicyDecision(
            0, n_human, weak_gain, human_gain, regime, f"buy human labels: {stopped}{human_words}; {weak_words}"
        )
    return PolicyDecision(n_weak, 0, weak_gain, human_gain, regime, f"buy weak labels: {weak_words}; {human_words}")
