from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocost.economics.calibration_gap import calibration_gap


def _slow_ece(right: list[bool], confidence: list[float]) -> float:
    total = 0.0
    for index in range(15):
        inside = [i for i, c in enumerate(confidence) if index / 15 < c <= (index + 1) / 15]
        if inside:
            accuracy = sum(right[i] for i in inside) / len(inside)
            total += len(inside) / len(right) * abs(accuracy - sum(confidence[i] for i in inside) / len(inside))
    return total


def _draw(n: int, seed: int, *, gap: float) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """Items whose accuracy is their confidence less a gap that is smaller where confidence is low."""
    draw = np.random.default_rng(seed)
    confidence = draw.uniform(0.5, 1, n)
    return draw.random(n) < confidence - 2 * gap * (confidence - 0.5), confidence


ANSWERS = st.lists(st.tuples(st.booleans(), st.floats(0.01, 1)), min_size=1, max_size=60)


@settings(deadline=None)
@given(ANSWERS)
def test_the_value_is_the_definition_and_the_interval_holds_it_in_any_order(answers: list[tuple[bool, float]]) -> None:
    right, confidence = [r for r, _ in answers], [c for _, c in answers]
    ece, low, high = calibration_gap(np.array(right), np.array(confidence))
    # Bounds of bins are not exact in floats: such items may be in either bin.
    if all(abs(c * 15 - round(c * 15)) > 1e-9 for c in confidence):
        assert ece == pytest.approx(_slow_ece(right, confidence), abs=1e-12)
    assert 0 <= low <= ece <= high <= 1
    reverse = calibration_gap(np.array(right[::-1]), np.array(confidence[::-1]))
    assert reverse == pytest.approx((ece, low, high), abs=1e-9)


def test_an_item_on_a_bins_upper_bound_belongs_to_it() -> None:
    # Within one bin the gaps cancel; in two they would not.
    right, confidence = np.array([True, False]), np.array([1.0, 14.5 / 15])
    assert calibration_gap(right, confidence)[0] == pytest.approx(abs(0.5 - confidence.mean()))


@pytest.mark.parametrize("n", [100, 1000])
def test_perfect_calibration_is_not_ruled_out_by_noise(n: int) -> None:
    found = [calibration_gap(*_draw(n, seed, gap=0.0)) for seed in range(200)]
    assert np.mean([ece for ece, _, _ in found]) > 0.02
    assert np.mean([low == 0 for _, low, _ in found]) >= 0.93


@pytest.mark.parametrize("gap", [0.1, 0.3])
def test_the_interval_covers_the_true_gap(gap: float) -> None:
    # The mean of 2 * gap * (c - 1/2) for c uniform from 1/2 to 1.
    truth = gap / 2
    found = [calibration_gap(*_draw(400, seed, gap=gap)) for seed in range(300)]
    assert np.mean([low <= truth <= high for _, low, high in found]) >= 0.92
    # And it is no wider than a few standard errors of an accuracy.
    assert np.mean([high - low for _, low, high in found]) < 6 * math.sqrt(0.25 / 400)


def test_no_gap_on_few_items_leaves_a_gap_possible() -> None:
    ece, low, high = calibration_gap(np.array([True]), np.array([1.0]))
    assert (ece, low) == (0.0, 0.0)
    assert high == pytest.approx(0.793, abs=1e-3)
    assert calibration_gap(np.ones(1000, dtype=np.bool_), np.ones(1000))[2] == pytest.approx(0.0038, abs=1e-4)
