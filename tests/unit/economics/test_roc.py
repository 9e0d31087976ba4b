from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from isocost.economics.interval import Z_95
from isocost.economics.roc import area_interval

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def _draw(n: int, n_choices: int, seed: int, *, digits: int = 8) -> tuple[Ints, Floats]:
    draw = np.random.default_rng(seed)
    choices = draw.permutation(np.arange(n) % n_choices)
    scores = draw.dirichlet(np.ones(n_choices), size=n) + 0.3 * np.eye(n_choices)[choices]
    # Rounded, so that there are ties.
    return choices, np.round(scores / scores.sum(axis=1, keepdims=True), digits)


def _area(choices: Ints, scores: Floats) -> tuple[float, float, float]:
    found = area_interval(choices, scores)
    assert found is not None
    return found


@pytest.mark.parametrize("digits", [1, 8])
@pytest.mark.parametrize(("n", "n_choices"), [(2, 2), (5, 2), (60, 2), (80, 3), (80, 5)])
def test_the_area_is_scikit_learns(n: int, n_choices: int, digits: int) -> None:
    choices, scores = _draw(n, n_choices, n, digits=digits)
    if n_choices == 2:
        expected = roc_auc_score(choices, scores[:, 1])
    else:
        areas = [roc_auc_score(choices == choice, scores[:, choice]) for choice in range(n_choices)]
        expected = np.mean(areas)
    assert _area(choices, scores)[0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("digits", [1, 8])
def test_the_variance_is_delongs_written_out_pair_by_pair(digits: int) -> None:
    choices, scores = _draw(40, 2, 3, digits=digits)
    positive, negative = scores[choices == 1, 1], scores[choices == 0, 1]
    wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    variance = wins.mean(axis=1).var(ddof=1) / len(positive) + wins.mean(axis=0).var(ddof=1) / len(negative)
    area, low, high = _area(choices, scores)
    half = Z_95 * math.sqrt(variance) / (area * (1 - area))
    for bound, sign in ((low, -1), (high, 1)):
        assert math.log(bound / (1 - bound)) == pytest.approx(math.log(area / (1 - area)) + sign * half, rel=1e-9)


def test_the_standard_error_of_many_choices_is_the_bootstraps() -> None:
    choices, scores = _draw(400, 3, 5)
    draw = np.random.default_rng(0)
    resampled = []
    for _ in range(300):
        index = draw.integers(0, 400, 400)
        resampled.append(_area(choices[index], scores[index])[0])
    area, low, high = _area(choices, scores)
    logits = [math.log(bound / (1 - bound)) for bound in (low, high)]
    standard_error = (logits[1] - logits[0]) / (2 * Z_95) * area * (1 - area)
    # 300 resamples know a standard deviation to about 4 %.
    assert standard_error == pytest.approx(float(np.std(resampled)), rel=0.15)


@pytest.mark.parametrize("n_choices", [2, 3])
def test_the_interval_covers_the_true_area(n_choices: int) -> None:
    choices, scores = _draw(100_000, n_choices, 0)
    truth = _area(choices, scores)[0]
    bounds = [_area(*_draw(60, n_choices, seed))[1:] for seed in range(1, 401)]
    covered = np.mean([low <= truth <= high for low, high in bounds])
    assert 0.92 <= covered <= 0.985


def test_perfect_separation_of_few_items_is_not_certainty() -> None:
    area, low, high = _area(
        np.array([0, 0, 0, 1, 1, 1]), np.array([[1 - s, s] for s in (0.1, 0.2, 0.3, 0.7, 0.8, 0.9)])
    )
    assert (area, high) == (1.0, 1.0)
    assert 0.4 < low < 0.8
    many = np.repeat([0.1, 0.9], 500)
    assert _area((many > 0.5).astype(np.int64), np.stack([1 - many, many], axis=1))[1] > 0.98


def test_a_choice_that_one_item_has_widens_the_interval() -> None:
    scores = np.linspace(0.1, 0.9, 50)
    choices = (np.arange(50) == 40).astype(np.int64)
    _, low, high = _area(choices, np.stack([1 - scores, scores], axis=1))
    assert high - low > 0.4


@pytest.mark.parametrize("n_choices", [2, 3])
def test_one_choice_alone_has_no_area(n_choices: int) -> None:
    assert area_interval(np.zeros(5, dtype=np.int64), np.full((5, n_choices), 1 / n_choices)) is None


@settings(deadline=None)
@given(st.integers(2, 30), st.integers(2, 4), st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 8]))
def test_the_interval_holds_the_area_in_any_order_of_the_items(n: int, n_choices: int, seed: int, digits: int) -> None:
    choices, scores = _draw(n, n_choices, seed, digits=digits)
    area, low, high = _area(choices, scores)
    assert 0 <= low <= area <= high <= 1
    order = np.random.default_rng(seed).permutation(n)
    assert _area(choices[order], scores[order]) == pytest.approx((area, low, high), abs=1e-9)
