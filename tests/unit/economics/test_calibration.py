from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import log_loss

from isocost.economics.calibration import (
    PROBABILITY_MIN,
    TEMPERATURE_MAX,
    Calibration,
    CalibrationMethod,
    calibrate,
    calibration_error,
    fit_calibration,
    negative_log_likelihood,
)

METHODS = (CalibrationMethod.TEMPERATURE, CalibrationMethod.ISOTONIC)


@st.composite
def labelled(draw: st.DrawFn) -> tuple[list[list[float]], list[int]]:
    """Labels of 2 to 5 choices, zeros, ones and ties among them, and the human's answers."""
    n_choices = draw(st.integers(2, 5))
    weight = st.one_of(st.just(0.0), st.integers(1, 4).map(float), st.floats(1e-12, 1.0))
    row = st.lists(weight, min_size=n_choices, max_size=n_choices).filter(lambda values: sum(values) > 0)
    rows = draw(st.lists(row.map(lambda values: [value / sum(values) for value in values]), min_size=1, max_size=25))
    choices = draw(st.lists(st.integers(0, n_choices - 1), min_size=len(rows), max_size=len(rows)))
    return rows, choices


def overconfident(n: int, temperature: float, n_choices: int = 3, seed: int = 0) -> tuple[list[list[float]], list[int]]:
    """Labels whose true calibration is a temperature: answers are drawn from p, labels are p^T, normalised."""
    draw = np.random.default_rng(seed)
    true = draw.dirichlet([1.0] * n_choices, n)
    choices = [int(draw.choice(n_choices, p=row)) for row in true]
    sharp = true**temperature
    return (sharp / sharp.sum(axis=1, keepdims=True)).tolist(), choices


@pytest.mark.parametrize("method", METHODS)
@given(data=labelled(), asked=labelled())
@settings(deadline=None)
def test_calibrated_probabilities_sum_to_one(
    method: CalibrationMethod, data: tuple[list[list[float]], list[int]], asked: tuple[list[list[float]], list[int]]
) -> None:
    calibration = fit_calibration(method, *data)
    n_choices = len(data[0][0])
    for row in (*data[0], *(row for row in asked[0] if len(row) == n_choices)):
        calibrated = calibration.apply(row)
        assert len(calibrated) == n_choices
        assert all(0 <= p <= 1 for p in calibrated)
        assert sum(calibrated) == pytest.approx(1, abs=1e-9)


@given(labelled())
@settings(deadline=None)
def test_a_temperature_keeps_the_order_of_the_choices(data: tuple[list[list[float]], list[int]]) -> None:
    calibration = fit_calibration(CalibrationMethod.TEMPERATURE, *data)
    assert 1 / TEMPERATURE_MAX <= calibration.temperature <= TEMPERATURE_MAX
    for row in data[0]:
        calibrated = calibration.apply(row)
        assert calibrated[max(range(len(row)), key=row.__getitem__)] == max(calibrated)
        order = sorted(range(len(row)), key=row.__getitem__)
        assert all(calibrated[a] <= calibrated[b] + 1e-12 for a, b in pairwise(order))


@given(labelled())
@settings(deadline=None)
def test_isotonic_functions_never_fall_and_keep_within_what_the_answers_can_tell(
    data: tuple[list[list[float]], list[int]],
) -> None:
    margin = 1 / (len(data[1]) + 2)
    for x, y in fit_calibration(CalibrationMethod.ISOTONIC, *data).knots:
        assert all(a < b for a, b in pairwise(x))
        assert all(a <= b for a, b in pairwise(y))
        assert all(margin - 1e-12 <= value <= 1 - margin + 1e-12 for value in y)


@pytest.mark.parametrize(("n", "n_choices", "seed"), [(40, 2, 0), (200, 3, 1), (200, 5, 2)])
def test_the_temperature_is_the_one_another_optimiser_finds(n: int, n_choices: int, seed: int) -> None:
    rows, choices = overconfident(n, 2.5, n_choices, seed)
    log_p = np.log(np.maximum(rows, PROBABILITY_MIN))

    def loss(log_temperature: np.ndarray) -> float:
        scores = np.exp(log_p / math.exp(log_temperature[0]))
        likelihood = scores[np.arange(n), choices] / scores.sum(axis=1)
        return float(-np.log(likelihood).sum() + log_temperature[0] ** 2 / 2)

    expected = math.exp(minimize(loss, [0.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12}).x[0])
    assert fit_calibration(CalibrationMethod.TEMPERATURE, rows, choices).temperature == pytest.approx(expected, 1e-4)


def test_a_known_temperature_is_found_again() -> None:
    rows, choices = overconfident(20_000, 2.0)
    assert fit_calibration(CalibrationMethod.TEMPERATURE, rows, choices).temperature == pytest.approx(2.0, abs=0.06)


@pytest.mark.parametrize("n_choices", [2, 4])
def test_isotonic_equals_scikit_learns(n_choices: int) -> None:
    rows, choices = overconfident(150, 2.0, n_choices)
    # Ties: rounded labels.
    rounded = np.round(rows, 2)
    rows = (rounded / rounded.sum(axis=1, keepdims=True)).tolist()
    margin = 1 / (len(choices) + 2)
    p = np.asarray(rows)
    asked = np.random.default_rng(9).dirichlet([1.0] * n_choices, 50)
    expected = np.stack(
        [
            IsotonicRegression(y_min=margin, y_max=1 - margin, out_of_bounds="clip")
            .fit(p[:, c], np.asarray(choices) == c)
            .predict(asked[:, c])
            for c in range(n_choices)
        ],
        axis=1,
    )
    expected /= expected.sum(axis=1, keepdims=True)
    calibration = fit_calibration(CalibrationMethod.ISOTONIC, rows, choices)
    assert np.asarray([calibration.apply(row) for row in asked.tolist()]) == pytest.approx(expected, abs=1e-9)


def test_of_two_choices_the_functions_are_mirror_images() -> None:
    rows, choices = overconfident(60, 2.0, 2)
    (x0, y0), (x1, y1) = fit_calibration(CalibrationMethod.ISOTONIC, rows, choices).knots
    assert x0 == pytest.approx([1 - x for x in reversed(x1)])
    assert y0 == pytest.approx([1 - y for y in reversed(y1)])


DEGENERATE = {
    "all right": ([[0.9, 0.1], [0.2, 0.8]] * 8, [0, 1] * 8),
    "all wrong": ([[0.9, 0.1], [0.2, 0.8]] * 8, [1, 0] * 8),
    "one class only": ([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]] * 5, [0] * 15),
    "one label": ([[0.9, 0.1]], [1]),
    "two labels": ([[0.9, 0.1], [0.3, 0.7]], [0, 0]),
    "zeros and ones": ([[1.0, 0.0], [0.0, 1.0]] * 6, [0, 0] * 6),
    "the same label always": ([[0.7, 0.3]] * 12, [0, 1, 1] * 4),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_answers_give_a_distribution_that_is_finite(method: CalibrationMethod, name: str) -> None:
    rows, choices = DEGENERATE[name]
    report = calibrate(method, rows, choices)
    numbers = (report.nll_before, report.nll_after, report.ece_before, report.ece_after)
    assert all(math.isfinite(number) and number >= 0 for number in numbers)
    for calibration in (report.calibration, fit_calibration(method, rows, choices)):
        for row in (*rows, [1.0, 0.0], [0.5, 0.5]):
            assert sum(calibration.apply(row)) == pytest.approx(1)
    certain = fit_calibration(method, rows, choices).apply(rows[0])
    # No finite number of answers makes a label certain that was not.
    assert max(certain) < 1 or max(rows[0]) == 1


def test_temperatures_go_the_right_way() -> None:
    def temperature(name: str) -> float:
        return fit_calibration(CalibrationMethod.TEMPERATURE, *DEGENERATE[name]).temperature

    assert temperature("all right") < 1 < temperature("all wrong")


def test_it_is_used_only_where_it_helps_on_answers_it_has_not_seen() -> None:
    helped = calibrate(CalibrationMethod.TEMPERATURE, *overconfident(200, 3.0))
    assert helped.used
    assert helped.nll_after < helped.nll_before
    assert helped.ece_after < helped.ece_before
    # Labels that are right about themselves: five-fold noise can only make them worse.
    calibrated = calibrate(CalibrationMethod.ISOTONIC, *overconfident(40, 1.0))
    assert calibrated.nll_after > calibrated.nll_before
    assert not calibrated.used
    assert calibrated.calibration.apply([0.2, 0.3, 0.5]) == (0.2, 0.3, 0.5)


def test_the_figures_after_are_those_of_folds_that_were_not_fitted_on() -> None:
    rows, choices = overconfident(25, 2.0)
    expected = []
    for index, row in enumerate(rows):
        others = [other for other in range(25) if other % 5 != index % 5]
        fitted = fit_calibration(
            CalibrationMethod.TEMPERATURE, [rows[other] for other in others], [choices[other] for other in others]
        )
        expected.append(fitted.apply(row))
    report = calibrate(CalibrationMethod.TEMPERATURE, rows, choices)
    assert report.nll_after == pytest.approx(log_loss(choices, expected, labels=[0, 1, 2]))
    assert report.nll_before == pytest.approx(log_loss(choices, rows, labels=[0, 1, 2]))


def test_no_calibration_changes_nothing() -> None:
    report = calibrate(CalibrationMethod.NONE, *overconfident(20, 2.0))
    assert report.nll_after == report.nll_before
    assert not report.used
    assert Calibration().apply([0.25, 0.75]) == (0.25, 0.75)


def test_the_calibration_error_is_the_gap_of_each_bin_by_hand() -> None:
    rows = [[0.95, 0.05], [0.95, 0.05], [0.4, 0.6], [0.4, 0.6]]
    # Bin of .95: one of two right, gap .45; bin of .6: both right, gap .4.
    assert calibration_error(rows, [0, 1, 1, 1]) == pytest.approx((2 * 0.45 + 2 * 0.4) / 4)
    assert calibration_error([[1.0, 0.0]], [0]) == 0
    assert negative_log_likelihood([[1.0, 0.0]], [1]) == pytest.approx(-math.log(PROBABILITY_MIN))


@pytest.mark.parametrize(("rows", "choices"), [([], []), ([[0.5, 0.5]], []), ([[0.5, 0.5]], [0, 1])])
def test_answers_that_do_not_fit_are_refused(rows: list[list[float]], choices: list[int]) -> None:
    with pytest.raises(ValueError, match="one a label"):
        fit_calibration(CalibrationMethod.TEMPERATURE, rows, choices)
