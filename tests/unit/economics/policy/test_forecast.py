from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from isocost.economics.frontier import ObservedPoint
from isocost.economics.policy.decision import LineForecast
from isocost.economics.policy.forecast import Forecast, regime_of
from isocost.economics.policy.inputs import PolicyInputs, SourceState
from isocost.economics.policy.prior import surface_prior
from isocost.economics.regime import Regime

_UNIT = 1_000_000
_SEEN = {(0, 32): 0.62, (0, 64): 0.71, (500, 0): 0.66, (1000, 0): 0.7, (1000, 64): 0.76}


def _run(mix: tuple[int, int], accuracy: float, n_eval: int = 0, seed: int = 0) -> ObservedPoint:
    return ObservedPoint("m", *mix, seed, accuracy, n_eval, "weak" if mix[0] else "", "human" if mix[1] else "")


def _inputs(
    *runs: ObservedPoint, n_eval: int | None = 0, n_choices: int = 2, available: int = 500, tranche: int = 200
) -> PolicyInputs:
    return PolicyInputs(
        weak=(SourceState("weak", _UNIT // 100, max((run.n_weak for run in runs), default=0)),),
        human=(SourceState("human", _UNIT, max((run.n_human for run in runs), default=0)),),
        available_micros=available * _UNIT,
        tranche_micros=tranche * _UNIT,
        n_items_free=100_000,
        observations=runs,
        n_choices=n_choices,
        n_eval=n_eval,
    )


def _forecast(inputs: PolicyInputs) -> Forecast:
    return Forecast(inputs, inputs.weak[0], inputs.human[0], surface_prior())


_USUAL = _inputs(*(_run(mix, accuracy) for mix, accuracy in _SEEN.items()))


def _mean(forecast: Forecast, mix: tuple[int, int]) -> float:
    return float(forecast.posterior.mean[forecast.options.mixes.index((0, *mix))])


@pytest.mark.parametrize("n_choices", [2, 3, 5])
def test_accuracies_are_told_as_those_of_two_choices_and_back(n_choices: int) -> None:
    forecast = _forecast(_inputs(n_choices=n_choices))
    assert forecast.binary(1 / n_choices) == pytest.approx(0.5)
    assert forecast.binary(1.0) == pytest.approx(1.0)
    for accuracy in np.linspace(1 / n_choices, 1.0, 5).tolist():
        assert forecast.shown(forecast.binary(accuracy)) == pytest.approx(accuracy)
    assert forecast.shown(1.2) == 1.0
    assert forecast.shown(-0.7) == 0.0


def test_exact_accuracies_are_believed() -> None:
    forecast = _forecast(_USUAL)
    for mix, accuracy in _SEEN.items():
        assert _mean(forecast, mix) == pytest.approx(accuracy, abs=1e-4)
    assert forecast.now == pytest.approx(max(_SEEN.values()), abs=1e-4)


def test_runs_of_one_mix_are_averaged() -> None:
    runs = [_run((0, 64), accuracy, seed=seed) for seed, accuracy in enumerate((0.7, 0.8, 0.72))]
    forecast = _forecast(_inputs(*runs))
    assert len(forecast.seen) == 1
    assert forecast.now == pytest.approx(np.mean([0.7, 0.8, 0.72]), abs=1e-4)
    # The noise of their common evaluation labels does not average out.
    once = _forecast(_inputs(_run((0, 64), 0.74, 50), n_eval=50))
    often = _forecast(_inputs(*(_run((0, 64), 0.74, 50, seed) for seed in range(100)), n_eval=50))
    fine = _forecast(_inputs(_run((0, 64), 0.74, 5000), n_eval=5000))
    assert abs(_mean(fine, (0, 64)) - 0.74) < 0.005
    assert abs(_mean(often, (0, 64)) - 0.74) > 0.02
    assert _mean(often, (0, 64)) == pytest.approx(_mean(once, (0, 64)), abs=0.01)


def test_an_accuracy_on_few_labels_is_not_certain() -> None:
    means = [_forecast(_inputs(_run((0, 64), 1.0, n_eval), n_eval=n_eval)).now for n_eval in (5, 50, 5000)]
    assert means == sorted(means)
    assert means[0] < 0.9
    assert means[2] > 0.98
    # The coarsest measurement of a mix counts.
    both = _forecast(_inputs(_run((0, 64), 1.0, 5), _run((0, 64), 1.0, 5000, 1), n_eval=5)).now
    assert both < means[1]


def test_a_measurement_among_many_choices_is_finer() -> None:
    # 40 labels tell 0.70 of four choices better from guessing than 0.80 of two, which is as far above it.
    two = _forecast(_inputs(_run((0, 64), 0.8, 40), n_eval=40))
    four = _forecast(_inputs(_run((0, 64), 0.7, 40), n_eval=40, n_choices=4))
    assert 0.8 > _mean(four, (0, 64)) > _mean(two, (0, 64))


def test_what_is_spent_as_planned_is_worth_no_less_than_any_purchase() -> None:
    for inputs in (_USUAL, _inputs(), replace(_USUAL, n_eval=None), replace(_USUAL, n_eval=50)):
        forecast = _forecast(inputs)
        assert forecast.final == max(forecast.now, *forecast.last_values, *forecast.first_values)
        best = forecast.best_first()
        assert forecast.first_values[best] >= forecast.first_values.max() - 1e-5
        for option, then, value in zip(
            forecast.options.first, forecast.options.then, forecast.first_values, strict=True
        ):
            at_least = [forecast.lookahead.last(one.sees) for one in then] or [forecast.lookahead.last(option.sees)]
            assert value >= max(at_least)
            if inputs.n_eval is None:
                assert value == max(at_least)


def test_of_equally_good_next_purchases_the_one_that_is_worth_most_at_once_is_made() -> None:
    forecast = _forecast(_USUAL)
    forecast.first_values = np.full(len(forecast.options.first), 0.8)
    at_once = [forecast.lookahead.last(option.sees) for option in forecast.options.first]
    assert forecast.best_first() == int(np.argmax(at_once))
    forecast.first_values[int(np.argmin(at_once))] += 0.01
    assert forecast.best_first() == int(np.argmin(at_once))


def test_measurements_are_worth_something_the_finer_the_more() -> None:
    values = [_forecast(replace(_inputs(), n_eval=n_eval)).final for n_eval in (None, 20, 500, 0)]
    assert values == sorted(values)
    assert values[0] < values[3]


def test_more_money_promises_more() -> None:
    values = [_forecast(_inputs(available=money, tranche=money)).final for money in (4, 40, 400, 4000)]
    assert values == sorted(values)
    assert values[3] > values[0] + 0.1


@pytest.mark.parametrize("n_choices", [2, 4])
def test_gains_are_in_accuracy_of_the_task_and_end_at_1(n_choices: int) -> None:
    forecast = _forecast(_inputs(_run((0, 64), 0.9), n_choices=n_choices))
    assert forecast.gain(forecast.now) == 0.0
    assert forecast.gain(forecast.binary(0.95)) == pytest.approx(0.05, abs=1e-3)
    assert forecast.gain(1.3) == pytest.approx(0.1, abs=1e-3)
    assert forecast.gain(forecast.binary(0.8)) == pytest.approx(-0.1, abs=1e-3)


@pytest.mark.parametrize("inputs", [_inputs(), _USUAL, replace(_USUAL, n_choices=4)])
def test_the_line_is_told_with_its_doubts(inputs: PolicyInputs) -> None:
    forecast = _forecast(inputs)
    line = forecast.line()
    assert sum(point.probability_best for point in line) == pytest.approx(1.0)
    assert line[0].weak_share == 0.0
    assert line[-1].weak_share == 1.0
    assert [point.weak_share for point in line] == sorted(point.weak_share for point in line)
    for point in line:
        assert 0.0 <= point.accuracy_low <= point.accuracy <= point.accuracy_high <= 1.0
        assert point.accuracy_low < point.accuracy_high
        cost = point.n_weak * _UNIT // 100 + point.n_human * _UNIT
        assert point.weak_share == pytest.approx(point.n_weak * _UNIT / 100 / cost)
        assert point.accuracy == pytest.approx(forecast.shown(_mean(forecast, (point.n_weak, point.n_human))))


def test_no_money_and_no_label_make_no_line() -> None:
    assert _forecast(_inputs(available=0, tranche=1)).line() == ()


def _line(*probabilities: tuple[int, int, float]) -> tuple[LineForecast, ...]:
    return tuple(LineForecast(0.5, w, h, 0.7, 0.6, 0.8, probability) for w, h, probability in probabilities)


def test_the_regime_is_the_most_probable_kind_of_mix() -> None:
    assert regime_of(_line((0, 9, 0.5), (5, 5, 0.25), (9, 0, 0.25))) == (Regime.QUALITY_DOMINANT, 0.5)
    assert regime_of(_line((0, 9, 0.25), (5, 5, 0.25), (9, 0, 0.5))) == (Regime.QUANTITY_DOMINANT, 0.5)
    # The mixes count together.
    assert regime_of(_line((0, 9, 0.375), (5, 6, 0.25), (6, 5, 0.25), (9, 0, 0.125))) == (Regime.MIXED, 0.5)
    assert regime_of(_line((0, 9, 0.6), (0, 8, 0.4))) == (Regime.UNSPECIFIED, 0.0)
    assert regime_of(()) == (Regime.UNSPECIFIED, 0.0)
