"""What a replay found: rows of `result.json`, and their summary."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from isocost.core.money import MICROS_PER_UNIT
from isocost.replay.evaluation import Evaluation

__all__ = [
    "BudgetResult",
    "RegretSummary",
    "Skipped",
    "TargetResult",
    "TargetSummary",
    "amount",
    "regret_summary",
    "target_summary",
    "write_results",
]

Mix = tuple[int, int]
Key = TypeVar("Key", bound=Hashable)


def amount(micros: int) -> int | float:
    """Micros in units of the currency, a whole number where it is one."""
    units, rest = divmod(micros, MICROS_PER_UNIT)
    return micros / MICROS_PER_UNIT if rest else units


@dataclass(frozen=True, slots=True)
class Skipped:
    """A case that could not be replayed.

    Attributes:
        surface: Name of the surface's file.
        reason: In words.
        budget_micros, target: The one that the case was about.
    """

    surface: str
    reason: str
    budget_micros: int | None = None
    target: float | None = None


@dataclass(frozen=True, slots=True)
class BudgetResult:
    """What one policy reached within one budget.

    Attributes:
        surface: Name of the surface's file.
        budget_micros: Money for all labels.
        weak_price_micros, human_price_micros: Price of one label.
        policy: Its name.
        seed: Of the noise of evaluation.
        purchases: Totals (n_weak, n_human) after each purchase, rising.
        shipped: The mix whose model is shipped.
        evaluation: What accuracy was measured with.
        spent_micros: For all labels, those for evaluation included.
        accuracy: The surface's accuracy of the shipped mix.
        best_accuracy: The best of the surface within the whole budget.
        seconds: What the policy took for all its decisions, and `seconds_max` for the longest.
    """

    surface: str
    budget_micros: int
    weak_price_micros: int
    human_price_micros: int
    policy: str
    seed: int
    purchases: tuple[Mix, ...]
    shipped: Mix
    evaluation: Evaluation
    spent_micros: int
    accuracy: float
    best_accuracy: float
    seconds: float
    seconds_max: float

    @property
    def regret(self) -> float:
        """Accuracy that was missed."""
        return self.best_accuracy - self.accuracy

    def to_json(self) -> dict[str, Any]:
        """A row of `result.json`; money in units of the currency."""
        return {
            "surface": self.surface,
            "budget": amount(self.budget_micros),
            "weak_price": amount(self.weak_price_micros),
            "human_price": amount(self.human_price_micros),
            "policy": self.policy,
            "seed": self.seed,
            "purchases": [list(mix) for mix in self.purchases],
            "shipped": list(self.shipped),
            "eval_labels": self.evaluation.n_labels,
            "evaluation": self.evaluation.kind.value,
            "spent": amount(self.spent_micros),
            "accuracy": self.accuracy,
            "best_accuracy": self.best_accuracy,
            "regret": self.regret,
            "seconds": self.seconds,
        }


@dataclass(frozen=True, slots=True)
class TargetResult:
    """What it cost one policy to reach one accuracy.

    Attributes:
        surface, weak_price_micros, human_price_micros, policy, seed, purchases, shipped, evaluation, accuracy, seconds,
            seconds_max: As in `BudgetResult`.
        target: Accuracy to reach.
        cost_micros: What all labels cost, those for evaluation included.
        cheapest_micros: What the cheapest mix costs that reaches the target.
    """

    surface: str
    target: float
    weak_price_micros: int
    human_price_micros: int
    policy: str
    seed: int
    purchases: tuple[Mix, ...]
    shipped: Mix
    evaluation: Evaluation
    cost_micros: int
    cheapest_micros: int
    accuracy: float
    seconds: float
    seconds_max: float

    @property
    def cost_ratio(self) -> float:
        """Cost over that of the cheapest sufficient mix; of a failure too, where it says what was wasted."""
        return self.cost_micros / self.cheapest_micros

    @property
    def failed(self) -> bool:
        """Whether the shipped mix misses the target, which another mix reaches."""
        return self.accuracy < self.target

    def to_json(self) -> dict[str, Any]:
        """A row of `result.json`; money in units of the currency."""
        return {
            "surface": self.surface,
            "target": self.target,
            "weak_price": amount(self.weak_price_micros),
            "human_price": amount(self.human_price_micros),
            "policy": self.policy,
            "seed": self.seed,
            "purchases": [list(mix) for mix in self.purchases],
            "shipped": list(self.shipped),
            "eval_labels": self.evaluation.n_labels,
            "evaluation": self.evaluation.kind.value,
            "accuracy": self.accuracy,
            "cost": amount(self.cost_micros),
            "cheapest_cost": amount(self.cheapest_micros),
            "cost_ratio": self.cost_ratio,
            "failed": self.failed,
            "seconds": self.seconds,
        }


def write_results(path: Path, results: Iterable[BudgetResult | TargetResult]) -> None:
    """Writes `result.json`: a list of objects, one a line."""
    rows = ",\n".join(json.dumps(result.to_json(), allow_nan=False) for result in results)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"[\n{rows}\n]\n", encoding="utf-8")


@dataclass(frozen=True, slots=True)
class RegretSummary:
    """Regret over some cases: mean, 90 % quantile (linear between cases), largest."""

    n_cases: int
    mean: float
    p90: float
    max: float


@dataclass(frozen=True, slots=True)
class TargetSummary:
    """Target mode over some cases.

    Attributes:
        n_cases: Their number.
        failure_rate: Share that missed the target.
        cost_ratio_mean, cost_ratio_p90: Over those that reached it; None where none did.
    """

    n_cases: int
    failure_rate: float
    cost_ratio_mean: float | None
    cost_ratio_p90: float | None


def regret_summary(results: Iterable[BudgetResult], key: Callable[[BudgetResult], Key]) -> dict[Key, RegretSummary]:
    """Regret by groups, in order of first appearance."""
    groups: dict[Key, list[float]] = {}
    for result in results:
        groups.setdefault(key(result), []).append(result.regret)
    return {
        name: RegretSummary(len(regrets), statistics.fmean(regrets), _p90(regrets), max(regrets))
        for name, regrets in groups.items()
    }


def target_summary(results: Iterable[TargetResult], key: Callable[[TargetResult], Key]) -> dict[Key, TargetSummary]:
    """Target mode by groups, in order of first appearance."""
    groups: dict[Key, list[TargetResult]] = {}
    for result in results:
        groups.setdefault(key(result), []).append(result)
    summaries = {}
    for name, group in groups.items():
        ratios = [result.cost_ratio for result in group if not result.failed]
        summaries[name] = TargetSummary(
            len(group),
            1 - len(ratios) / len(group),
            statistics.fmean(ratios) if ratios else None,
            _p90(ratios) if ratios else None,
        )
    return summaries


def _p90(values: Sequence[float]) -> float:
    return float(np.quantile(values, 0.9))
