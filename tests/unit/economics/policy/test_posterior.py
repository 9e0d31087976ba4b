from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocost.economics.policy import posterior as posterior_module
from isocost.economics.policy.adaptive import SURPRISE_MIN
from isocost.economics.policy.kernel import Floats, Points
from isocost.economics.policy.posterior import Observed, Posterior, posterior
from isocost.economics.policy.prior import scale_log_prior, surface_prior

_PRIOR = surface_prior()
_MIXES = ((0, 16), (0, 64), (0, 256), (0, 1024), (300, 0), (3000, 0), (300, 64), (3000, 256), (8000, 2000))


def _points(*mixes: tuple[float, float]) -> Points:
    none = np.full(len(mixes), -1, dtype=np.int64)
    counts = np.array(mixes, dtype=float)
    return Points(counts[:, 0], counts[:, 1], none, none, np.full(len(mixes), np.nan))


_POINTS = _points(*_MIXES)


def _observed(
    accuracies: dict[int, float], variance: float | Floats = 0.0, n_runs: float | list[float] = 1.0
) -> Observed:
    n_seen = len(accuracies)
    return Observed(
        list(accuracies),
        np.array(list(accuracies.values()), dtype=float),
        np.broadcast_to(np.array(n_runs, dtype=float), n_seen),
        np.broadcast_to(np.array(variance, dtype=float), n_seen),
    )


def _given(accuracies: dict[int, float], variance: float | Floats = 0.0) -> Posterior:
    return posterior(_PRIOR, _POINTS, _observed(accuracies, variance))


@pytest.fixture
def one_efficiency(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posterior_module, "_LOG_SCALES", np.zeros(1))


def test_without_observations_it_is_the_mixture_of_the_priors() -> None:
    log_scales = posterior_module._LOG_SCALES
    weights = np.exp(scale_log_prior(log_scales))
    weights /= weights.sum()
    parts = [_PRIOR.predict(_POINTS.scaled(float(np.exp(log_scale)))) for log_scale in log_scales]
    mean = sum(weight * part[0] for weight, part in zip(weights, parts, strict=True))
    cov = sum(
        weight * (cov_j + np.diag(run_j) + np.outer(mean_j - mean, mean_j - mean))
        for weight, (mean_j, cov_j, run_j) in zip(weights, parts, strict=True)
    )
    found = _given({})
    assert found.mean == pytest.approx(mean)
    assert found.cov == pytest.approx(cov)
    assert found.run_variance == pytest.approx(sum(w * part[2] for w, part in zip(weights, parts, strict=True)))
    assert found.scale == pytest.approx(float(np.exp(weights @ log_scales)))
    assert found.surprise == 1.0


@pytest.mark.usefixtures("one_efficiency")
def test_with_one_efficiency_it_is_gaussian_conditioning() -> None:
    index, accuracy = [1, 4, 7], np.array([0.62, 0.71, 0.88])
    variance, n_runs = np.array([0.001, 0.0, 0.002]), [1.0, 3.0, 2.0]
    found = posterior(_PRIOR, _POINTS, _observed(dict(zip(index, accuracy, strict=True)), variance, n_runs))
    mean, cov, run = _PRIOR.predict(_POINTS)
    noise = run.copy()
    noise[index] /= n_runs
    cov = cov + np.diag(noise)
    inverse = np.linalg.inv(cov[np.ix_(index, index)] + np.diag(variance))
    assert found.mean == pytest.approx(mean + cov[:, index] @ inverse @ (accuracy - mean[index]), abs=1e-4)
    assert found.cov == pytest.approx(cov - cov[:, index] @ inverse @ cov[index], abs=1e-6)
    unseen = [row for row in range(len(_MIXES)) if row not in index]
    assert found.run_variance[unseen] == pytest.approx(run[unseen])
    assert found.run_variance[index] == pytest.approx(np.zeros(3))
    assert found.scale == 1.0


def test_an_exact_observation_is_certain() -> None:
    found = _given({2: 0.83, 5: 0.79})
    assert found.mean[[2, 5]] == pytest.approx([0.83, 0.79], abs=1e-4)
    assert np.sqrt(np.diag(found.cov)[[2, 5]]) == pytest.approx([0, 0], abs=1e-3)
    assert (np.sqrt(np.diag(found.cov)[[3, 6]]) > 0.01).all()


@pytest.mark.usefixtures("one_efficiency")
def test_a_noisy_observation_is_believed_the_less_the_noisier_it_is() -> None:
    before = float(_given({}).mean[2])
    seen = before + 0.1
    means = [float(_given({2: seen}, variance).mean[2]) for variance in (0.0, 0.001, 0.01, 1.0)]
    assert seen == pytest.approx(means[0], abs=1e-4)
    assert (np.diff(means) < 0).all()
    assert means[-1] == pytest.approx(before, abs=0.002)
    variances = [float(_given({2: seen}, variance).cov[2, 2]) for variance in (0.0, 0.001, 0.01, 1.0)]
    assert (np.diff(variances) > 0).all()
    assert variances[1] < 0.001


@pytest.mark.usefixtures("one_efficiency")
def test_several_runs_of_one_mix_are_worth_their_mean() -> None:
    runs = [0.61, 0.66, 0.58, 0.63]
    apart = posterior(_PRIOR, _points(*[(0.0, 64.0)] * 4, (0.0, 1024.0), (0.0, 64.0)), _observed(dict(enumerate(runs))))
    together = posterior(
        _PRIOR, _points((0.0, 64.0), (0.0, 1024.0), (0.0, 64.0)), _observed({0: float(np.mean(runs))}, n_runs=4.0)
    )
    assert together.mean[1:] == pytest.approx(apart.mean[4:], abs=1e-4)
    assert together.cov[1:, 1:] == pytest.approx(apart.cov[4:, 4:], abs=1e-6)


def test_the_same_mean_over_more_runs_leaves_less_doubt_about_other_mixes() -> None:
    once, often = (posterior(_PRIOR, _POINTS, _observed({1: 0.7}, n_runs=n)).cov[2, 2] for n in (1.0, 16.0))
    assert often < once


def test_surprise_tells_absurd_observations_from_usual_ones() -> None:
    usual = _given({})
    assert _given({row: float(usual.mean[row]) for row in (1, 3, 5, 7)}).surprise > 0.5
    falling = _given({0: 0.95, 1: 0.85, 2: 0.6, 3: 0.5})
    assert falling.surprise < SURPRISE_MIN
    # As measured on a few labels, the same says little.
    assert _given({0: 0.95, 1: 0.85, 2: 0.6, 3: 0.5}, 0.05).surprise > 0.1


def test_what_runs_of_a_sampled_surface_show_is_seldom_a_surprise() -> None:
    usual = _given({})
    draws = np.random.default_rng(0).multivariate_normal(usual.mean, usual.cov, size=50)
    surprises = [_given(dict(enumerate(draw.tolist()))).surprise for draw in draws]
    assert np.mean(np.array(surprises) < 0.05) < 0.1


def test_the_efficiency_is_recognised_by_when_the_task_takes_off() -> None:
    early = _given({0: 0.85, 1: 0.9, 2: 0.92})
    late = _given({0: 0.5, 1: 0.5, 2: 0.51, 3: 0.55})
    assert early.scale > 1.5
    assert late.scale < 1 / 1.5
    # What is not seen yet follows: the late task may still take off.
    assert early.mean[8] > late.mean[8] > late.mean[3]


_seen = st.dictionaries(st.integers(0, len(_MIXES) - 1), st.floats(0.5, 1.0), min_size=1, max_size=6)


@given(_seen, st.randoms(use_true_random=False), st.sampled_from([0.0, 0.001]))
@settings(max_examples=40, deadline=None)
def test_the_order_of_the_observations_does_not_matter(
    accuracies: dict[int, float], random: Random, variance: float
) -> None:
    shuffled = list(accuracies.items())
    random.shuffle(shuffled)
    one, other = _given(accuracies, variance), _given(dict(shuffled), variance)
    assert one.mean == pytest.approx(other.mean, abs=1e-6)
    assert one.cov == pytest.approx(other.cov, abs=1e-7)
    assert one.scale == pytest.approx(other.scale, rel=1e-6)
    assert one.surprise == pytest.approx(other.surprise, rel=1e-5, abs=1e-12)


@given(_seen, st.sampled_from([0.0, 0.001]))
@settings(max_examples=40, deadline=None)
def test_the_covariance_stays_one(accuracies: dict[int, float], variance: float) -> None:
    found = _given(accuracies, variance)
    assert np.array_equal(found.cov, found.cov.T)
    assert np.linalg.eigvalsh(found.cov).min() > -1e-9
    assert (found.run_variance >= 0).all()
