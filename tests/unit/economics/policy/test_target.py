from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from isocost.economics.frontier import ObservedPoint
from isocost.economics.policy.adaptive import AdaptivePolicy
from isocost.economics.policy.forecast import Forecast
from isocost.economics.policy.inputs import PolicyInputs, SourceState
from isocost.economics.policy.kernel import Floats
from isocost.economics.policy.options import Options
from isocost.economics.policy.prior import surface_prior
from isocost.economics.policy.target import Path, cheapest

_UNIT = 1_000_000
_POLICY = AdaptivePolicy()
_MENU = ((0, 64), (0, 1024), (0, 4096), (1000, 0), (50_000, 0), (50_000, 1024))


def _inputs(
    seen: dict[tuple[int, int], float] | None = None,
    *,
    available: int = 5000,
    target_accuracy: float = 0.8,
    menu: tuple[tuple[int, int], ...] | None = _MENU,
) -> PolicyInputs:
    seen = seen or {}
    return PolicyInputs(
        weak=(SourceState("weak", _UNIT // 100, max((mix[0] for mix in seen), default=0)),),
        human=(SourceState("human", _UNIT, max((mix[1] for mix in seen), default=0)),),
        available_micros=available * _UNIT,
        tranche_micros=available * _UNIT,
        n_items_free=1_000_000,
        observations=tuple(ObservedPoint("m", *mix, 0, accuracy, 0) for mix, accuracy in seen.items()),
        menu=menu,
        target_accuracy=target_accuracy,
    )


def _path(inputs: PolicyInputs, accuracy: dict[tuple[int, int], list[float]]) -> Path:
    """The path under a posterior of a few draws, given by mix."""
    options = Options(inputs, inputs.weak[0], inputs.human[0])
    draws: Floats = np.array([accuracy[int(mix[1]), int(mix[2])] for mix in options.mixes]).T
    fake = SimpleNamespace(
        options=options,
        lookahead=SimpleNamespace(truth_sp=draws),
        seen=np.unique(np.array(options.observed, dtype=np.int64)),
        binary=lambda value: value,
    )
    return cheapest(inputs, cast(Forecast, fake), 0.8)


_POOR = {mix: [0.6, 0.6] for mix in _MENU}


def test_the_cheapest_sufficient_purchase_is_made() -> None:
    accuracy = {**_POOR, (50_000, 0): [0.85, 0.85], (0, 1024): [0.85, 0.85], (0, 4096): [0.9, 0.9]}
    path = _path(_inputs(menu=tuple(mix for mix in _MENU if mix != (1000, 0))), accuracy)
    assert path.option.total == (50_000, 0)
    assert path.probability == 1.0
    assert path.cost_micros == pytest.approx(500 * _UNIT, rel=1e-9)
    # A part of it first loses nothing.
    path = _path(_inputs(), accuracy)
    assert path.option.total == (1000, 0)
    assert path.probability == 0.0
    assert path.cost_micros == pytest.approx(500 * _UNIT, rel=1e-9)


def test_smaller_purchases_come_first_where_the_way_leads_over_them() -> None:
    path = _path(_inputs(), {**_POOR, (0, 64): [0.85, 0.6], (0, 1024): [0.9, 0.85], (0, 4096): [0.9, 0.9]})
    assert path.option.total == (0, 64)
    assert path.probability == 0.5
    # The geometric mean of both draws.
    assert path.cost_micros == pytest.approx((64 * 1024) ** 0.5 * _UNIT, rel=1e-6)


def test_a_purchase_from_which_the_target_cannot_be_reached_is_not_made() -> None:
    # Many weak labels leave no money for the human ones that reach it.
    path = _path(_inputs(), {**_POOR, (0, 4096): [0.9, 0.9]})
    assert path.option.total[0] == 0


@pytest.mark.parametrize("n_bought", [0, 1000])
def test_money_that_is_spent_already_makes_sure_purchases_worth_more(n_bought: int) -> None:
    cheap, dear, sure = (0, n_bought + 8), (0, n_bought + 1000), (10_000, n_bought)
    inputs = _inputs(menu=(cheap, dear, sure))
    inputs = replace(inputs, human=(replace(inputs.human[0], n_bought=n_bought),))
    # Twice the cost in all weighs alike: 8 or 1,000 are less than 100, but 1,008 or 2,000 are more than 1,100.
    path = _path(inputs, {cheap: [0.9, 0.6], dear: [0.9, 0.9], sure: [0.9, 0.9]})
    assert path.option.total == (sure if n_bought else cheap)


@pytest.mark.parametrize("menu", [_MENU, None])
def test_it_stops_once_the_target_is_reached(menu: tuple[tuple[int, int], ...] | None) -> None:
    seen = {(0, 64): 0.82}
    reached = _POLICY.decide(_inputs(seen, target_accuracy=0.8, menu=menu))
    assert reached.stop
    assert "the target of 0.800 is reached" in reached.reason
    assert not _POLICY.decide(_inputs(seen, target_accuracy=0.85, menu=menu)).stop


def test_other_tasks_alone_do_not_reach_a_target() -> None:
    # Guessing reaches one half, but no model was trained yet.
    assert not _POLICY.decide(_inputs(target_accuracy=0.5)).stop


def test_the_decision_is_that_path_in_words() -> None:
    inputs = _inputs({(0, 64): 0.7}, target_accuracy=0.85)
    path = cheapest(inputs, Forecast(inputs, inputs.weak[0], inputs.human[0], surface_prior()), 0.85)
    decision = _POLICY.decide(inputs)
    assert (decision.n_labels("weak"), decision.n_labels("human")) == (path.option.n_weak, path.option.n_human)
    assert f"reach the target of 0.850 with probability {path.probability:.0%}" in decision.reason
    assert f"{path.cost_micros / 1e6:,.2f} more" in decision.reason


def test_a_higher_target_costs_more_and_is_less_sure() -> None:
    paths = []
    for target_accuracy in (0.6, 0.8, 0.9, 0.97):
        inputs = _inputs(target_accuracy=target_accuracy)
        forecast = Forecast(inputs, inputs.weak[0], inputs.human[0], surface_prior())
        paths.append(cheapest(inputs, forecast, target_accuracy))
    costs = [path.cost_micros for path in paths]
    assert costs == sorted(costs)
    assert costs[0] < costs[-1]
    assert paths[0].probability > paths[-1].probability


def test_a_target_of_many_choices_is_one_of_the_task() -> None:
    four = replace(_inputs(target_accuracy=0.25 + 1.5 * 0.3), n_choices=4)
    two = _POLICY.decide(_inputs(target_accuracy=0.8))
    found = _POLICY.decide(four)
    assert (found.n_labels("weak"), found.n_labels("human")) == (two.n_labels("weak"), two.n_labels("human"))
