from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from isocost.economics.policy.kernel import Floats
from isocost.economics.policy.lookahead import Index, Lookahead
from isocost.economics.policy.posterior import Posterior

#: Draws behind a value; a standard error of an expectation is the standard deviation over its root.
_N_DRAWS = 2048
_N_POINTS = 5


def _posterior(mean: Floats, cov: Floats) -> Posterior:
    return Posterior(mean, cov, np.zeros(len(mean)), 1.0, 1.0)


def _lookahead(mean: list[float], cov: Floats, variance: float | None = 0.0, seen: tuple[int, ...] = ()) -> Lookahead:
    measurement = None if variance is None else np.full(len(mean), variance)
    return Lookahead(_posterior(np.array(mean), cov), seen, measurement, guess=0.5)


def _rows(*points: int) -> Index:
    return np.array(points, dtype=np.int64)


def _random(seed: int) -> tuple[list[float], Floats]:
    draw = np.random.default_rng(seed)
    root = draw.normal(0, 0.05, (_N_POINTS, _N_POINTS))
    mean: list[float] = draw.uniform(0.6, 0.8, _N_POINTS).tolist()
    return mean, root @ root.T


def _clark(mean: Floats, cov: Floats) -> float:
    """Expectation of the larger of two Gaussians (Clark 1961)."""
    spread = float(np.sqrt(cov[0, 0] + cov[1, 1] - 2 * cov[0, 1]))
    apart = float(mean[0] - mean[1]) / spread
    normal = scipy.stats.norm
    return float(mean[0] * normal.cdf(apart) + mean[1] * normal.cdf(-apart) + spread * normal.pdf(apart))


@pytest.mark.parametrize("means", [[0.7, 0.7], [0.7, 0.72], [0.6, 0.8]])
@pytest.mark.parametrize("correlation", [-0.8, 0.0, 0.9])
@pytest.mark.parametrize("variance", [0.0, 0.002])
def test_the_last_of_two_points_is_worth_their_expected_maximum(
    means: list[float], correlation: float, variance: float
) -> None:
    sds = np.array([0.05, 0.08])
    cov = np.outer(sds, sds) * np.array([[1.0, correlation], [correlation, 1.0]])
    # What is shipped is chosen by the posterior mean, which moves as far as the measurement lets it.
    moves = cov @ np.linalg.inv(cov + variance * np.eye(2)) @ cov
    value = _lookahead(means, cov, variance).last(_rows(0, 1))
    assert value == pytest.approx(_clark(np.array(means), moves), abs=4 * float(sds.max()) / np.sqrt(_N_DRAWS))


def test_one_point_is_worth_its_mean() -> None:
    mean, cov = _random(0)
    for point in range(_N_POINTS):
        error = 4 * np.sqrt(cov[point, point] / _N_DRAWS)
        assert _lookahead(mean, cov).last(_rows(point)) == pytest.approx(mean[point], abs=error)


def test_without_measurements_points_are_worth_their_best_mean() -> None:
    mean, cov = _random(1)
    assert _lookahead(mean, cov, None).last(_rows(0, 1, 3)) == max(mean[0], mean[1], mean[3])


def test_no_point_is_worth_a_guess() -> None:
    mean, cov = _random(2)
    for variance in (0.0, None):
        assert _lookahead(mean, cov, variance).last(_rows()) == 0.5
        assert _lookahead(mean, cov, variance).now == 0.5


def test_what_was_seen_can_be_shipped_now() -> None:
    mean, cov = _random(3)
    found = _lookahead(mean, cov, seen=(1, 4))
    assert found.now == max(mean[1], mean[4])
    assert found.last(_rows()) == pytest.approx(found.last(_rows(1, 4)))


@given(st.integers(0, 10_000), st.sets(st.integers(0, 4)), st.sets(st.integers(0, 4)), st.sampled_from([0.0, 0.003]))
@settings(max_examples=60, deadline=None)
def test_more_points_are_never_worth_less(seed: int, some: set[int], more: set[int], variance: float) -> None:
    mean, cov = _random(seed)
    found = _lookahead(mean, cov, variance)
    few, many = found.last(_rows(*some)), found.last(_rows(*some | more))
    # Exact measurements show the same in every draw, whatever else is measured.
    error = 1e-4 if variance == 0.0 else 4 * float(np.sqrt(np.diag(cov).max() / _N_DRAWS))
    assert many >= few - error


@pytest.mark.parametrize("seed", range(5))
def test_the_noisier_the_measurement_the_less_a_choice_is_worth(seed: int) -> None:
    mean, cov = _random(seed)
    every = _rows(*range(_N_POINTS))
    values = [_lookahead(mean, cov, variance).last(every) for variance in (0.0, 1e-3, 1e-2, 1e6)]
    assert values == sorted(values, reverse=True)
    assert values[-1] == pytest.approx(max(mean), abs=1e-3)
    assert values[0] > values[-1] + 0.005


@given(st.integers(0, 10_000), st.sets(st.integers(0, 4), min_size=1), st.sampled_from([0.0, 0.003, None]))
@settings(max_examples=40, deadline=None)
def test_to_choose_later_is_never_worth_less(seed: int, first: set[int], variance: float | None) -> None:
    mean, cov = _random(seed)
    then = [_rows(0, 1), _rows(2, 3), _rows(4)]
    value = _lookahead(mean, cov, variance).first(_rows(*first), then)
    assert value >= 0.0
    if variance is None:
        assert value == 0.0


def test_to_choose_later_is_worth_nothing_where_nothing_is_learned_or_chosen() -> None:
    mean, cov = _random(4)
    found = _lookahead(mean, cov, seen=(0,))
    assert found.first(_rows(1), [_rows(2, 3)]) == 0.0
    assert found.first(_rows(0), [_rows(2), _rows(3)]) == 0.0
    assert found.first(_rows(), [_rows(2), _rows(3)]) == 0.0
    assert found.first(_rows(1), [_rows(2), _rows(3)]) > 0.0


def _fork(correlation: float) -> tuple[list[float], Floats]:
    """A poor point that tells which of two others is the better one: it goes with one and against the other."""
    sd = 0.1
    shape = np.array([[1, correlation, -correlation], [correlation, 1, -1], [-correlation, -1, 1]])
    return [0.0, 0.7, 0.7], sd**2 * (shape + 1e-6 * np.eye(3))


def test_a_first_purchase_that_tells_which_way_to_go_is_worth_the_difference() -> None:
    # The expectation of the absolute value of a Gaussian.
    expected = 0.1 * np.sqrt(2 / np.pi)
    values = [_lookahead(*_fork(correlation)).first(_rows(0), [_rows(1), _rows(2)]) for correlation in (0.99, 0.5, 0.0)]
    assert values[0] == pytest.approx(expected, rel=0.25)
    assert values[1] == pytest.approx(expected / 2, rel=0.4)
    assert values[2] < expected / 10


def test_a_first_purchase_tells_nothing_where_one_way_is_the_better_anyway() -> None:
    (poor, good, _), cov = _fork(0.99)
    assert _lookahead([poor, good, 0.0], cov).first(_rows(0), [_rows(1), _rows(2)]) < 0.002


def test_a_first_purchase_that_is_measured_badly_tells_nothing() -> None:
    mean, cov = _fork(0.99)
    values = [
        _lookahead(mean, cov, variance).first(_rows(0), [_rows(1), _rows(2)]) for variance in (0.0, 0.01, 0.1, 1e6)
    ]
    assert values == sorted(values, reverse=True)
    assert values[-1] == pytest.approx(0.0, abs=1e-3)


def test_values_are_the_same_every_time() -> None:
    mean, cov = _random(5)
    one, other = (_lookahead(mean, cov, 0.001) for _ in range(2))
    for found in (one, other):
        found.last(_rows(3))
    assert one.last(_rows(0, 2)) == other.last(_rows(0, 2))
    assert one.first(_rows(1), [_rows(2), _rows(3)]) == other.first(_rows(1), [_rows(2), _rows(3)])
    assert np.array_equal(one.truth_sp, other.truth_sp)


def test_draws_of_the_truth_follow_the_posterior() -> None:
    mean, cov = _random(6)
    draws = _lookahead(mean, cov, 0.01).truth_sp
    sds = np.sqrt(np.diag(cov))
    assert draws.mean(axis=0) == pytest.approx(np.array(mean), abs=4 * float(sds.max()) / np.sqrt(_N_DRAWS))
    assert np.cov(draws.T) == pytest.approx(cov, abs=0.15 * float(np.diag(cov).max()))
