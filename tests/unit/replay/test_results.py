from __future__ import annotations

import json
from pathlib import Path

import pytest

from isocost.replay.evaluation import Evaluation, EvaluationKind
from isocost.replay.results import (
    BudgetResult,
    TargetResult,
    amount,
    regret_summary,
    target_summary,
    write_results,
)

_UNIT = 1_000_000


def _budget(accuracy: float, policy: str = "loc", budget: int = 64) -> BudgetResult:
    return BudgetResult(
        surface="s.csv",
        budget_micros=budget * _UNIT,
        weak_price_micros=10_000,
        human_price_micros=_UNIT,
        policy=policy,
        seed=0,
        purchases=((10, 7), (80, 7)),
        shipped=(10, 7),
        evaluation=Evaluation(EvaluationKind.BOUGHT, 20),
        spent_micros=27_800_000,
        accuracy=accuracy,
        best_accuracy=0.9,
        seconds=0.5,
        seconds_max=0.3,
    )


def _target(cost: int, accuracy: float) -> TargetResult:
    exact = Evaluation(EvaluationKind.EXACT)
    return TargetResult(
        "s.csv", 0.8, 10_000, _UNIT, "loc", 0, ((10, 7),), (10, 7), exact, cost, 10 * _UNIT, accuracy, 0.5, 0.3
    )


def test_rows_hold_exactly_what_the_format_says(tmp_path: Path) -> None:
    path = tmp_path / "new" / "result.json"
    write_results(path, [_budget(0.75)])
    assert json.loads(path.read_text()) == [
        {
            "surface": "s.csv",
            "budget": 64,
            "weak_price": 0.01,
            "human_price": 1,
            "policy": "loc",
            "seed": 0,
            "purchases": [[10, 7], [80, 7]],
            "shipped": [10, 7],
            "eval_labels": 20,
            "evaluation": "bought",
            "spent": 27.8,
            "accuracy": 0.75,
            "best_accuracy": 0.9,
            "regret": pytest.approx(0.15),
            "seconds": 0.5,
        }
    ]
    write_results(path, [_target(25 * _UNIT, 0.79), _target(15 * _UNIT, 0.8)])
    rows = json.loads(path.read_text())
    assert [(row["target"], row["cost"], row["cheapest_cost"], row["cost_ratio"], row["failed"]) for row in rows] == [
        (0.8, 25, 10, 2.5, True),
        (0.8, 15, 10, 1.5, False),
    ]
    write_results(path, [])
    assert json.loads(path.read_text()) == []


def test_regret_is_summed_up_by_groups() -> None:
    results = [_budget(0.9 - regret) for regret in (0.0, 0.1, 0.2, 0.3)] + [_budget(0.8, "power-law")]
    summary = regret_summary(results, lambda one: one.policy)
    assert list(summary) == ["loc", "power-law"]
    loc = summary["loc"]
    assert loc.n_cases == 4
    assert [loc.mean, loc.p90, loc.max] == pytest.approx([0.15, 0.27, 0.3])


def test_a_failure_counts_for_no_cost_ratio() -> None:
    results = [_target(10 * _UNIT, 0.8), _target(20 * _UNIT, 0.85), _target(90 * _UNIT, 0.5)]
    summary = target_summary(results, lambda _: "all")["all"]
    assert summary.failure_rate == pytest.approx(1 / 3)
    assert summary.cost_ratio_mean == pytest.approx(1.5)
    nothing = target_summary(results[2:], lambda _: "all")["all"]
    assert (nothing.failure_rate, nothing.cost_ratio_mean, nothing.cost_ratio_p90) == (1.0, None, None)


def test_amounts_are_in_units_of_the_currency() -> None:
    assert [amount(micros) for micros in (64_000_000, 10_000, 1)] == [64, 0.01, 0.000001]
