"""What a policy decides, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from isocost.economics.policy.inputs import PolicyInputs
from isocost.economics.regime import Regime

__all__ = ["Explanation", "LineForecast", "Policy", "PolicyDecision", "SourcePurchase", "TrancheValue"]


@dataclass(frozen=True, slots=True)
class SourcePurchase:
    """Labels to buy from one source, and the gain in accuracy that the whole purchase is expected to bring at once."""

    source_id: str
    n_labels: int
    expected_gain: float = 0.0


@dataclass(frozen=True, slots=True)
class LineForecast:
    """One mix on the isocost line of all that can be spent: the posterior of its accuracy.

    Attributes:
        weak_share: Share of the cost of its labels that is weak, 0 to 1.
        n_weak, n_human: Labels in all.
        accuracy: Posterior mean.
        accuracy_low, accuracy_high: Posterior 5 % and 95 % quantiles.
        probability_best: That no other mix of the line is better.
    """

    weak_share: float
    n_weak: int
    n_human: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    probability_best: float


@dataclass(frozen=True, slots=True)
class TrancheValue:
    """What the next tranche would bring if all of it were spent on one source.

    Attributes:
        source_id: The source.
        n_labels: Labels that it buys; 0 where not even one.
        cost_micros: Their price.
        gain: Expected gain in accuracy once the tranche is spent, over stopping now.
        final_gain: Expected gain in accuracy at the end, the rest spent as well as is then known, over stopping now.
    """

    source_id: str
    n_labels: int
    cost_micros: int
    gain: float
    final_gain: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """The numbers behind a decision.

    Attributes:
        line: The posterior along the isocost line of bought labels and available money, all human first.
        regime: The most probable regime of that line.
        regime_probability: Its probability.
        tranches: The value of the next tranche of each source.
        accuracy_now: Expected accuracy of the best model that the labels at hand train.
        accuracy_final: The same once everything is spent as planned.
    """

    line: tuple[LineForecast, ...]
    regime: Regime
    regime_probability: float
    tranches: tuple[TrancheValue, ...]
    accuracy_now: float
    accuracy_final: float


@dataclass(frozen=True, slots=True)
class PolicyDecision:
    """What to buy next.

    Attributes:
        purchases: What to buy; empty means stop.
        reason: Why, in words with the numbers behind it.
        shipped: The mix (n_weak, n_human) of labels at hand whose model the policy would ship now; None where it leaves
            that to the caller (the best that was observed).
        explanation: The posterior it decided by; None for a policy that has none.
    """

    purchases: tuple[SourcePurchase, ...]
    reason: str
    shipped: tuple[int, int] | None = None
    explanation: Explanation | None = None

    @property
    def stop(self) -> bool:
        """Whether nothing more is bought."""
        return not self.purchases

    def n_labels(self, source_id: str) -> int:
        """Labels to buy from one source."""
        return sum(purchase.n_labels for purchase in self.purchases if purchase.source_id == source_id)


class Policy(Protocol):
    """A rule for buying labels. Deterministic: the same inputs give the same decision."""

    @property
    def name(self) -> str:
        """As it is written on a command line, for example "adaptive" or "fixed:0.5"."""
        ...

    def decide(self, inputs: PolicyInputs) -> PolicyDecision:
        """What to buy next. Terminates: every decision that does not stop buys at least one label."""
        ...
