from __future__ import annotations

import math

import numpy as np
import pytest

from isocost.economics.frontier import ObservedPoint
from isocost.economics.policy.inputs import PolicyInputs, SourceState
from isocost.economics.policy.loc import LocPolicy, predict_additive

_COUNTS = (0, 10, 20, 40, 80, 160, 320, 640)
_MENU = tuple((w, h) for w in _COUNTS for h in _COUNTS if w or h)
_WEAK_PRICE, _HUMAN_PRICE = 1, 4


def _accuracy(n_weak: int, n_human: int) -> float:
    """The law itself: saturating in weak labels, a square root of human ones."""
    return 0.5 + 0.15 * (1 - math.pow(1 + n_weak, -0.5)) + 0.012 * (math.sqrt(1 + n_human) - 1)


def _cost(mix: tuple[int, int]) -> int:
    return mix[0] * _WEAK_PRICE + mix[1] * _HUMAN_PRICE


def _inputs(budget: int, mix: tuple[int, int], target: float | None = None) -> PolicyInputs:
    seen = [(w, h) for w, h in _MENU if w <= mix[0] and h <= mix[1]]
    left = budget - _cost(mix)
    return PolicyInputs(
        weak=(SourceState("weak", _WEAK_PRICE, mix[0]),),
        human=(SourceState("human", _HUMAN_PRICE, mix[1]),),
        available_micros=left,
        tranche_micros=left,
        n_items_free=10_000,
        observations=tuple(ObservedPoint("m", w, h, 0, _accuracy(w, h), 0) for w, h in seen),
        menu=_MENU,
        target_accuracy=target,
    )


def _play(budget: int, target: float | None = None) -> list[tuple[int, int]]:
    policy, path = LocPolicy(), [(0, 0)]
    while True:
        decision = policy.decide(_inputs(budget, path[-1], target))
        if decision.stop:
            return path[1:]
        path.append((path[-1][0] + decision.n_labels("weak"), path[-1][1] + decision.n_labels("human")))


def test_the_law_is_recovered_from_exact_runs_and_extrapolates() -> None:
    seen = [ObservedPoint("m", w, h, 0, _accuracy(w, h), 0) for w, h in _MENU if w <= 160 and h <= 160]
    far = [(640, 0), (0, 640), (640, 640), (320, 160)]
    predicted = predict_additive(seen, far)
    assert predicted.shape == (20, 4)
    np.testing.assert_allclose(predicted, np.tile([_accuracy(*mix) for mix in far], (20, 1)), atol=5e-3)


def test_a_source_that_was_not_seen_teaches_nothing_and_without_runs_there_is_no_law() -> None:
    seen = [ObservedPoint("m", 0, h, 0, _accuracy(0, h), 0) for h in _COUNTS[1:5]]
    predicted = predict_additive(seen, [(0, 80), (640, 80)])
    np.testing.assert_allclose(predicted[:, 0], predicted[:, 1])
    with pytest.raises(ValueError, match="needs a run"):
        predict_additive([], [(0, 80)])


def test_within_a_budget_it_ends_at_the_best_mix_of_an_additive_surface() -> None:
    budget = 1600
    best = max((mix for mix in _MENU if _cost(mix) <= budget), key=lambda mix: (_accuracy(*mix), _cost(mix)))
    path = _play(budget)
    assert path[-1] == best == (320, 320)
    # A pilot of at most a tenth, in both kinds, and no more than three rounds after it.
    assert min(path[0]) > 0
    assert _cost(path[0]) <= budget // 10
    assert 2 <= len(path) <= 4


def test_towards_a_target_it_stops_when_a_run_has_reached_it() -> None:
    target = 0.75
    path = _play(10_000, target)
    reached = [_accuracy(*mix) >= target for mix in path]
    assert reached == [False] * (len(path) - 1) + [True]
    cheapest = min(_cost(mix) for mix in _MENU if _accuracy(*mix) >= target)
    assert _cost(path[-1]) <= 2 * cheapest


def test_a_target_out_of_reach_ends_when_nothing_more_can_be_bought() -> None:
    path = _play(1000, 0.99)
    left = 1000 - _cost(path[-1])
    assert all(
        _cost(mix) - _cost(path[-1]) > left
        for mix in _MENU
        if mix != path[-1] and mix[0] >= path[-1][0] and mix[1] >= path[-1][1]
    )


def test_the_same_inputs_give_the_same_decision() -> None:
    given = _inputs(1600, (80, 40))
    assert LocPolicy().decide(given) == LocPolicy().decide(given)


def test_it_wants_a_tenth_of_the_money_in_evaluation_labels_but_leaves_enough_to_buy_others() -> None:
    policy = LocPolicy()
    assert policy.choose_n_eval(_inputs(1600, (0, 0))) == 40
    assert policy.choose_n_eval(_inputs(100_000, (0, 0))) == 256
    assert policy.choose_n_eval(_inputs(11, (0, 0))) == 0
