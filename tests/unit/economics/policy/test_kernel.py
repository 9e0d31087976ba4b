from __future__ import annotations

from dataclasses import astuple, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocost.economics.policy.kernel import Hyperparameters, Points, covariance, run_noise

_HYPER = Hyperparameters(0.12, 2.0, 2.5, 0.05, 3.0, 1.5, 0.04, 0.03, 0.02, 0.05)

_counts = st.floats(0.0, 1e6)
_rows = st.tuples(
    st.just(0.0) | _counts,
    st.just(0.0) | _counts,
    st.integers(-1, 2),
    st.integers(-2, 3),
    st.just(np.nan) | st.floats(0.5, 1.0),
)
_positive = st.floats(0.01, 5.0)
_hypers = st.builds(Hyperparameters, *[_positive] * 10)


def _points(*rows: tuple[float, float, int, int, float]) -> Points:
    n_weak, n_human, group, surface, weak_accuracy = zip(*rows, strict=True)
    return Points(
        np.array(n_weak, dtype=float),
        np.array(n_human, dtype=float),
        np.array(group, dtype=np.int64),
        np.array(surface, dtype=np.int64),
        np.array(weak_accuracy, dtype=float),
    )


@given(st.lists(_rows, min_size=1, max_size=12), _hypers)
@settings(max_examples=100, deadline=None)
def test_the_covariance_is_symmetric_and_positive_semidefinite(
    rows: list[tuple[float, float, int, int, float]], hyper: Hyperparameters
) -> None:
    points = _points(*rows)
    matrix = covariance(points, points, hyper)
    assert np.array_equal(matrix, matrix.T)
    assert np.linalg.eigvalsh(matrix).min() >= -1e-10 * np.trace(matrix)


@given(st.lists(_rows, min_size=1, max_size=5), st.lists(_rows, min_size=1, max_size=5))
@settings(deadline=None)
def test_the_order_of_the_two_sets_does_not_matter(
    one: list[tuple[float, float, int, int, float]], other: list[tuple[float, float, int, int, float]]
) -> None:
    there = covariance(_points(*one), _points(*other), _HYPER)
    assert there.shape == (len(one), len(other))
    assert np.array_equal(there, covariance(_points(*other), _points(*one), _HYPER).T)


def test_without_weak_labels_the_weak_labeller_does_not_matter() -> None:
    others = _points((0, 50, 0, 0, 0.9), (300, 50, 0, 0, 0.9), (300, 50, 0, 1, 0.6), (300, 50, 0, 1, np.nan))
    without = [_points((0, 50, 0, surface, accuracy)) for surface in (0, 1) for accuracy in (0.6, 0.9, np.nan)]
    found = [covariance(points, others, _HYPER) for points in without]
    found += [covariance(points, others, replace(_HYPER, weak_labels_sd=1.0, quality_sd=1.0)) for points in without]
    for matrix in found[1:]:
        assert matrix == pytest.approx(found[0])


def test_weak_labels_of_one_surface_hang_together_more_than_those_of_another() -> None:
    point = _points((1000, 0, 0, 0, 0.75))
    same, other_labels, other_dataset = covariance(
        point, _points((900, 0, 0, 0, 0.75), (900, 0, 0, 1, 0.75), (900, 0, 1, 1, 0.75)), _HYPER
    )[0]
    assert same > other_labels > other_dataset


def test_measured_quality_is_linear_and_of_both_signs() -> None:
    def quality(one: float, other: float) -> float:
        sets = _points((1000, 0, 0, 0, one)), _points((1000, 0, 1, 1, other))
        without = covariance(*sets, replace(_HYPER, quality_sd=1e-9))
        return float((covariance(*sets, _HYPER) - without)[0, 0])

    assert quality(0.9, 0.9) > quality(0.9, 0.8) > 0.0 > quality(0.9, 0.6)
    assert quality(0.95, 0.9) - quality(0.9, 0.9) == pytest.approx(quality(0.9, 0.9) - quality(0.85, 0.9))


def test_unknown_quality_has_variance_1_within_its_surface_and_hangs_together_with_no_other() -> None:
    hyper = replace(_HYPER, quality_sd=0.3)
    # Very many labels, so that the gate is open.
    points = _points((1e9, 0, 0, 0, np.nan), (1e9, 0, 0, 0, np.nan), (1e9, 0, 0, 1, np.nan), (1e9, 0, 0, 0, 0.95))
    part = covariance(points, points, hyper) - covariance(points, points, replace(hyper, quality_sd=1e-9))
    assert part[:3, :3] == pytest.approx(0.3**2 * np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]]), abs=1e-6)
    assert part[:3, 3] == pytest.approx(np.zeros(3), abs=1e-12)
    assert part[3, 3] > 0.3**2


@pytest.mark.parametrize("scale", [0.25, 3.0])
def test_scaled_points_are_as_points_with_more_labels(scale: float) -> None:
    points = _points((400, 16, 0, 0, 0.8), (0, 100, 0, 0, 0.8), (4000, 0, 1, 1, 0.7))
    more = _points((400 * scale, 16 * scale, 0, 0, 0.8), (0, 100 * scale, 0, 0, 0.8), (4000 * scale, 0, 1, 1, 0.7))
    assert covariance(points.scaled(scale), points.scaled(scale), _HYPER) == pytest.approx(
        covariance(more, more, _HYPER)
    )
    assert covariance(points.scaled(scale), points, _HYPER) != pytest.approx(covariance(points, points, _HYPER))


def test_points_nearer_in_the_logarithm_of_their_labels_hang_together_more() -> None:
    point = _points((0, 100, 0, 0, np.nan))
    twice, eightfold, far = covariance(
        point, _points((0, 200, 0, 0, np.nan), (0, 800, 0, 0, np.nan), (0, 1e5, 0, 0, np.nan)), _HYPER
    )[0]
    assert twice > eightfold > far > 0.0


def test_small_runs_are_noisier() -> None:
    points = _points((0, 0, 0, 0, np.nan), (0, 100, 0, 0, np.nan), (100, 0, 0, 0, np.nan), (1e7, 1e7, 0, 0, np.nan))
    any_run, small_run = run_noise(points, _HYPER)
    assert any_run == pytest.approx(np.full(4, _HYPER.run_sd**2))
    assert small_run == pytest.approx(_HYPER.small_run_sd**2 * np.array([1, 0.5, 0.5, 0]), abs=1e-6)


@given(_hypers)
def test_hyperparameters_survive_their_logarithms(hyper: Hyperparameters) -> None:
    assert astuple(Hyperparameters.of_logs(hyper.logs())) == pytest.approx(astuple(hyper))
