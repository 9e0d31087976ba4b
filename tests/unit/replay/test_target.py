from __future__ import annotations

import pytest

from isocost.economics.policy.registry import POLICY_NAMES
from isocost.replay.replay import Setting
from isocost.replay.results import Skipped, TargetResult
from isocost.replay.target import replay_target
from tests.unit.replay.surfaces import HUMAN, WEAK, accuracy, make_surface

_UNIT = 1_000_000
_NAMES = tuple(name.replace("X", "0.5") for name in POLICY_NAMES)


def _results(name: str, target: float, n_eval: int = 0, n_seeds: int = 1) -> list[TargetResult]:
    found = replay_target(Setting(make_surface(), 100_000, _UNIT, name, n_eval), target, n_seeds=n_seeds)
    assert isinstance(found, list)
    return found


def _cheapest(target: float) -> int:
    return min(w * 100_000 + h * _UNIT for w in WEAK for h in HUMAN if (w or h) and accuracy(w, h) >= target)


@pytest.mark.parametrize("name", _NAMES)
@pytest.mark.parametrize("target", [0.6, 0.75])
def test_cost_is_compared_with_that_of_the_cheapest_sufficient_mix(name: str, target: float) -> None:
    result = _results(name, target)[0]
    assert result.cheapest_micros == _cheapest(target)
    last = result.purchases[-1]
    assert result.cost_micros == last[0] * 100_000 + last[1] * _UNIT
    assert result.cost_ratio == result.cost_micros / result.cheapest_micros
    assert result.failed == (accuracy(*result.shipped) < target)
    if not result.failed:
        assert result.cost_ratio >= 1


@pytest.mark.parametrize("name", ["all-weak", "all-human", "fixed:0.5", "paper-advice", "loc", "power-law"])
def test_a_policy_stops_at_the_first_purchase_whose_runs_show_the_target(name: str) -> None:
    target = 0.6
    result = _results(name, target)[0]

    def shown(mix: tuple[int, int]) -> bool:
        return any(accuracy(w, h) >= target for w in WEAK for h in HUMAN if (w or h) and w <= mix[0] and h <= mix[1])

    assert [shown(mix) for mix in result.purchases] == [False] * (len(result.purchases) - 1) + [True]
    assert not result.failed


def test_a_rule_that_cannot_reach_the_target_fails_at_what_it_spent() -> None:
    target = accuracy(640, 0) + 0.01
    result = _results("all-weak", target)[0]
    assert result.failed
    assert result.purchases[-1] == (640, 0)
    assert result.cost_micros == 64 * _UNIT


def test_evaluation_labels_come_on_top_and_are_part_of_the_cost() -> None:
    results = _results("all-human", 0.6, n_eval=500, n_seeds=2)
    assert [result.seed for result in results] == [0, 1]
    for result in results:
        assert result.cost_micros == (500 + result.purchases[-1][1]) * _UNIT


def test_a_target_that_the_surface_never_reaches_is_skipped() -> None:
    found = replay_target(Setting(make_surface(), 100_000, _UNIT, "all-human"), 0.95)
    assert isinstance(found, Skipped)
    assert (found.target, found.surface) == (0.95, "made.csv")
