from __future__ import annotations

import json
from importlib.resources import files

import numpy as np
import pytest
import scipy.stats
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel

from isocost.economics.policy import prior as prior_module
from isocost.economics.policy.kernel import Floats, Hyperparameters, Points, covariance, run_noise
from isocost.economics.policy.library import held_out_keys, library_datasets, library_points
from isocost.economics.policy.prior import MEAN_ACCURACY, SurfacePrior, fit, scale_log_prior, surface_prior

_STORED = json.loads(
    files("isocost.economics.policy").joinpath("library", "hyperparameters.json").read_text(encoding="utf-8")
)
_DATASETS = sorted(library_datasets())


def _new_surface(n_weak: list[float], n_human: list[float], weak_accuracy: float = np.nan) -> Points:
    none = np.full(len(n_weak), -1, dtype=np.int64)
    return Points(np.array(n_weak), np.array(n_human), none, none, np.full(len(n_weak), weak_accuracy))


_LINE = _new_surface([0.0, 500.0, 5000.0], [500.0, 50.0, 0.0])


def test_predictions_are_those_of_a_gaussian_process_regressor() -> None:
    draw = np.random.default_rng(0)
    hyper = Hyperparameters(0.12, 1.7, 2.6, 1e-12, 2.0, 2.0, 1e-12, 1e-12, 0.02, 0.05)

    def random_points(n_points: int) -> Points:
        kinds = np.zeros(n_points, dtype=np.int64)
        n_weak, n_human = np.expm1(draw.uniform(0, 7, (2, n_points))) * 10
        return Points(n_weak, n_human, kinds, kinds, np.full(n_points, 0.8))

    def coordinates(points: Points) -> Floats:
        return np.stack([np.log1p(points.n_weak / 10), np.log1p(points.n_human / 10)], axis=1)

    library, new = random_points(40), random_points(15)
    accuracy, noise = draw.uniform(0.5, 1.0, 40), draw.uniform(0.02, 0.1, 40) ** 2
    # Points without end apart share the level of the mean shape only.
    level = float(covariance(_new_surface([0.0], [0.0]), _new_surface([1e30], [1e30]), hyper)[0, 0])
    kernel = ConstantKernel(level) + ConstantKernel(hyper.shared_sd**2) * RBF(
        [hyper.shared_length_weak, hyper.shared_length_human]
    )
    regressor = GaussianProcessRegressor(kernel, alpha=noise, optimizer=None)
    regressor.fit(coordinates(library), accuracy - MEAN_ACCURACY)
    expected_mean, expected_cov = regressor.predict(coordinates(new), return_cov=True)

    mean, cov, run_variance = SurfacePrior(hyper, library, accuracy, noise).predict(new)
    assert mean == pytest.approx(MEAN_ACCURACY + expected_mean, abs=1e-5)
    assert cov == pytest.approx(expected_cov, abs=1e-6)
    assert run_variance == pytest.approx(sum(run_noise(new, hyper)))


def test_more_noise_in_the_library_teaches_less() -> None:
    known = surface_prior()
    noisy = SurfacePrior(known.hyper, known.library, known.accuracy, known.noise + 1.0)
    assert (np.diag(noisy.predict(_LINE)[1]) > np.diag(known.predict(_LINE)[1])).all()


def test_known_good_weak_labels_promise_more_than_poor_ones() -> None:
    good, poor = (surface_prior().predict(_new_surface([5000.0], [0.0], accuracy))[0][0] for accuracy in (0.95, 0.6))
    assert good > poor


def _key(dataset: str) -> str:
    return ",".join(sorted(held_out_keys([dataset])))


def _log_likelihood(prior: SurfacePrior) -> float:
    matrix = covariance(prior.library, prior.library, prior.hyper) + np.diag(prior.noise)
    return float(scipy.stats.multivariate_normal(np.full(len(matrix), MEAN_ACCURACY), matrix).logpdf(prior.accuracy))


@pytest.mark.parametrize("held_out", ["", "boolq"])
def test_the_stored_hyperparameters_are_those_of_the_library(held_out: str) -> None:
    given = library_points(held_out_keys([held_out]))
    library = prior_module._Library.of(given)
    hyper, scales = fit(given)
    assert set(scales) == set(library.groups)
    again = library.prior(hyper, np.array([scales[group] for group in library.groups]))
    assert _log_likelihood(surface_prior([held_out])) == pytest.approx(_log_likelihood(again), abs=0.5)
    # A half in the logarithm is little: the start of the search is far worse.
    start = library.prior(Hyperparameters.of_logs(prior_module._CENTRE), np.zeros(len(library.groups)))
    assert _log_likelihood(start) < _log_likelihood(again) - 5


def test_hyperparameters_are_stored_for_the_library_without_each_dataset() -> None:
    assert set(_STORED) == {"", *(_key(dataset) for dataset in _DATASETS)}
    for key, stored in _STORED.items():
        assert set(stored["log_scales"]) == {point.group for point in library_points(key.split(","))}
        assert all(value > 0 for value in stored["hyperparameters"].values())


@pytest.mark.parametrize("dataset", _DATASETS)
def test_a_held_out_dataset_is_not_in_the_prior(dataset: str) -> None:
    kept = library_points(held_out_keys([dataset]))
    assert not [point for point in kept if point.group.split(":")[0] == dataset]
    prior = surface_prior([dataset.upper()])
    assert prior.accuracy.tolist() == [point.accuracy for point in kept]
    scales = _STORED[_key(dataset)]["log_scales"]
    assert prior.library.n_human == pytest.approx([point.n_human * np.exp(scales[point.group]) for point in kept])
    assert prior.library.n_weak == pytest.approx([point.n_weak * np.exp(scales[point.group]) for point in kept])
    assert not np.allclose(prior.predict(_LINE)[0], surface_prior().predict(_LINE)[0], atol=1e-6)


def test_unknown_datasets_are_ignored() -> None:
    for known, unknown in (([], ["no such dataset"]), (["sciq"], ["SciQ", "no such dataset", ""])):
        assert np.array_equal(surface_prior(unknown).predict(_LINE)[0], surface_prior(known).predict(_LINE)[0])


def test_any_other_selection_is_fitted() -> None:
    held_out = ["boolq", "sciq"]
    given = library_points(held_out_keys(held_out))
    prior = surface_prior(held_out)
    assert prior.accuracy.tolist() == [point.accuracy for point in given]
    assert prior.hyper == fit(given)[0]
    assert prior.hyper not in [Hyperparameters(**stored["hyperparameters"]) for stored in _STORED.values()]
    mean, cov, _ = prior.predict(_LINE)
    assert ((mean > 0.4) & (mean < 1.1)).all()
    assert np.linalg.eigvalsh(cov).min() > 0


def test_an_efficiency_is_the_less_probable_the_further_it_is_off() -> None:
    density = scale_log_prior(np.log([1.0, 2.0, 4.0, 16.0]))
    assert (np.diff(density) < 0).all()
    assert scale_log_prior(np.log([0.25])) == pytest.approx(scale_log_prior(np.log([4.0])))
    # Of heavy tails: a normal density's logarithm would fall four times as far for twice the distance.
    assert density[3] - density[0] > 4 * (density[2] - density[0])
