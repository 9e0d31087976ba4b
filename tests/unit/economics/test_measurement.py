from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

from isocost.economics.calibration import PROBABILITY_MIN
from isocost.economics.interval import wilson_interval
from isocost.economics.measurement import Measurement, measure

FIGURES = ("accuracy", "auroc", "calibrated_accuracy", "ece")


def _draw(n: int, n_choices: int, seed: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    draw = np.random.default_rng(seed)
    choices = draw.integers(0, n_choices, n)
    probabilities = draw.dirichlet(np.ones(n_choices), size=n) + 0.4 * np.eye(n_choices)[choices]
    return choices, probabilities / probabilities.sum(axis=1, keepdims=True)


def _assert_within(measured: Measurement) -> None:
    for name in FIGURES:
        low, value, high = (getattr(measured, name + suffix) for suffix in ("_low", "", "_high"))
        assert 0 <= low <= value <= high <= 1, name


@pytest.mark.parametrize("n_choices", [2, 3])
def test_figures_are_scikit_learns(n_choices: int) -> None:
    choices, probabilities = _draw(200, n_choices, 0)
    measured = measure(choices, probabilities)
    assert measured.accuracy == accuracy_score(choices, probabilities.argmax(axis=1))
    assert (measured.accuracy_low, measured.accuracy_high) == wilson_interval(measured.accuracy, 200)
    score = probabilities[:, 1] if n_choices == 2 else probabilities
    assert measured.auroc == pytest.approx(roc_auc_score(choices, score, multi_class="ovr"), abs=1e-12)
    assert measured.loss == pytest.approx(log_loss(choices, probabilities), abs=1e-9)
    _assert_within(measured)


@settings(deadline=None)
@given(st.integers(1, 25), st.integers(2, 4), st.integers(0, 2**32 - 1))
def test_every_figure_lies_in_its_interval_in_any_order_of_the_items(n: int, n_choices: int, seed: int) -> None:
    choices, probabilities = _draw(n, n_choices, seed)
    measured = measure(choices, probabilities)
    _assert_within(measured)
    order = np.random.default_rng(seed).permutation(n)
    again = measure(choices[order], probabilities[order])
    assert dataclasses.astuple(again) == pytest.approx(dataclasses.astuple(measured), abs=1e-9)


@pytest.mark.parametrize("n_choices", [2, 3])
@pytest.mark.parametrize("right", [True, False])
def test_certainty_is_measured_without_infinities(n_choices: int, right: bool) -> None:
    choices = np.arange(6) % n_choices
    probabilities = np.eye(n_choices)[choices if right else (choices + 1) % n_choices]
    measured = measure(choices, probabilities)
    _assert_within(measured)
    assert measured.accuracy == float(right)
    assert measured.ece == float(not right)
    assert measured.loss == pytest.approx(0 if right else -math.log(PROBABILITY_MIN))
    assert measured.accuracy_high - measured.accuracy_low > 0.3


@pytest.mark.parametrize("n", [1, 5])
@pytest.mark.parametrize("n_choices", [2, 3])
def test_items_of_one_choice_leave_the_area_unknown(n: int, n_choices: int) -> None:
    choices, probabilities = _draw(n, n_choices, 0)
    measured = measure(np.zeros_like(choices), probabilities)
    _assert_within(measured)
    assert (measured.auroc, measured.auroc_low, measured.auroc_high) == (0.5, 0.0, 1.0)
    assert measured.calibrated_accuracy == 1.0


def test_single_precision_and_small_integers_are_taken() -> None:
    choices, probabilities = _draw(50, 2, 1)
    exact = measure(choices, probabilities)
    rounded = measure(choices.astype(np.int8), probabilities.astype(np.float32))
    assert dataclasses.astuple(rounded) == pytest.approx(dataclasses.astuple(exact), abs=1e-5)


@pytest.mark.parametrize(
    ("choices", "probabilities"),
    [
        ([], np.empty((0, 2))),
        ([0], [[1.0]]),
        ([0, 1], [[0.5, 0.5]]),
        ([2], [[0.5, 0.5]]),
        ([-1], [[0.5, 0.5]]),
        ([0], [[2.0, -1.0]]),
        ([0], [[3.0, 4.0]]),
        ([0], [[math.nan, 0.5]]),
    ],
)
def test_what_is_no_prediction_is_refused(choices: list[int], probabilities: list[list[float]]) -> None:
    with pytest.raises(ValueError, match=r"choices|probabilities"):
        measure(np.array(choices, dtype=np.int64), np.array(probabilities))
