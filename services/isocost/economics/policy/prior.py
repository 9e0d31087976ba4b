"""The prior of a new task's surface: the library, and what is learned from it.

The hyperparameters and the efficiency of every library dataset are those of the highest posterior density (type-II
MAP): marginal likelihood of the library times the wide log-normal priors below. `hyperparameters.json` holds them for
the whole library and for the library without each of its datasets; `python -m isocost.economics.policy.prior` makes it
again. Any other selection is fitted when it is first asked for (some seconds).
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import scipy.linalg
import scipy.optimize

from isocost.economics.policy.kernel import Floats, Hyperparameters, Points, covariance, run_noise
from isocost.economics.policy.library import LibraryPoint, held_out_keys, library_datasets, library_points

__all__ = ["MEAN_ACCURACY", "SurfacePrior", "fit", "scale_log_prior", "surface_prior"]

MEAN_ACCURACY = 0.7
#: Of the logarithm of a task's efficiency: a factor of three is common, one of ten is not, but happens (Student's t).
_SCALE_LOG_SD = float(np.log(3.0))
_SCALE_FREEDOM = 4
#: How far a product of the library's efficiencies may be off 1: it only fixes what an efficiency of 1 means.
_SCALE_SUM_SD = 0.1
_CENTRE = Hyperparameters(0.12, 2.0, 2.0, 0.05, 2.0, 2.0, 0.04, 0.03, 0.02, 0.05).logs()
_LOG_SD = np.array([0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.7, 0.4, 0.5])
_JITTER = 1e-9
_FILE = "hyperparameters.json"


@dataclass(frozen=True)
class SurfacePrior:
    """The library, conditioned on.

    Attributes:
        hyper: The kernel's numbers.
        library: The library's points, their counts multiplied by their dataset's efficiency.
        accuracy: Their accuracies [P].
        noise: The variances [P] of those accuracies around f.
    """

    hyper: Hyperparameters
    library: Points
    accuracy: Floats
    noise: Floats

    @cached_property
    def _factor(self) -> Floats:
        matrix = covariance(self.library, self.library, self.hyper) + np.diag(self.noise + _JITTER)
        factor: Floats = scipy.linalg.cholesky(matrix, lower=True)
        return factor

    @cached_property
    def _weights(self) -> Floats:
        weights: Floats = scipy.linalg.cho_solve((self._factor, True), self.accuracy - MEAN_ACCURACY)
        return weights

    def predict(self, points: Points) -> tuple[Floats, Floats, Floats]:
        """Mean [P] and covariance [P, P] of f at points of new surfaces, and the variance [P] of a run around it."""
        across = covariance(points, self.library, self.hyper)
        mean = MEAN_ACCURACY + across @ self._weights
        explained = scipy.linalg.solve_triangular(self._factor, across.T, lower=True)
        cov = covariance(points, points, self.hyper) - explained.T @ explained
        any_run, small_run = run_noise(points, self.hyper)
        return mean, cov, any_run + small_run


@dataclass(frozen=True)
class _Library:
    """The library as arrays, and what of the noise does not depend on the hyperparameters."""

    points: Points
    accuracy: Floats
    groups: tuple[str, ...]
    n_runs: Floats
    seed_variance: Floats
    """Of the mean over seeds; NaN where their spread is not known."""

    @classmethod
    def of(cls, given: Collection[LibraryPoint]) -> _Library:
        groups = sorted({point.group for point in given})
        surfaces = sorted({point.surface for point in given})
        points = Points(
            np.array([point.n_weak for point in given], dtype=float),
            np.array([point.n_human for point in given], dtype=float),
            np.array([groups.index(point.group) for point in given], dtype=np.int64),
            np.array([surfaces.index(point.surface) for point in given], dtype=np.int64),
            np.array([np.nan if point.weak_accuracy is None else point.weak_accuracy for point in given]),
        )
        seed_variance = [
            np.nan if point.accuracy_std is None else point.accuracy_std**2 / point.n_runs for point in given
        ]
        return cls(
            points,
            np.array([point.accuracy for point in given]),
            tuple(groups),
            np.array([float(point.n_runs) for point in given]),
            np.array(seed_variance),
        )

    def prior(self, hyper: Hyperparameters, log_scales: Floats) -> SurfacePrior:
        scaled = self.points.scaled(np.exp(log_scales)[self.points.group])
        any_run, small_run = run_noise(scaled, hyper)
        seeds = np.where(np.isnan(self.seed_variance), small_run / self.n_runs, self.seed_variance)
        return SurfacePrior(hyper, scaled, self.accuracy, any_run + seeds)


def scale_log_prior(log_scales: Floats) -> Floats:
    """Logarithm of the prior density of efficiencies, up to a constant."""
    density: Floats = -(_SCALE_FREEDOM + 1) / 2 * np.log1p((log_scales / _SCALE_LOG_SD) ** 2 / _SCALE_FREEDOM)
    return density


def fit(given: Collection[LibraryPoint]) -> tuple[Hyperparameters, dict[str, float]]:
    """Learns the hyperparameters and the efficiency of each group, on a log scale, from points of a library."""
    library = _Library.of(given)
    n_hyper = len(_CENTRE)

    def loss(values: Floats) -> float:
        logs, log_scales = values[:n_hyper], values[n_hyper:]
        prior = library.prior(Hyperparameters.of_logs(logs), log_scales)
        matrix = covariance(prior.library, prior.library, prior.hyper) + np.diag(prior.noise + _JITTER)
        try:
            factor = np.linalg.cholesky(matrix)
        except np.linalg.LinAlgError:  # far outside of anything sensible
            return 1e6
        residual = scipy.linalg.solve_triangular(factor, library.accuracy - MEAN_ACCURACY, lower=True)
        fitted = 0.5 * residual @ residual + np.log(np.diag(factor)).sum()
        wide = 0.5 * (((logs - _CENTRE) / _LOG_SD) ** 2).sum() - scale_log_prior(log_scales).sum()
        return float(fitted + wide + 0.5 * (log_scales.sum() / _SCALE_SUM_SD) ** 2)

    start = np.concatenate([_CENTRE, np.zeros(len(library.groups))])
    best = scipy.optimize.minimize(loss, start, method="L-BFGS-B", options={"maxiter": 300}).x
    scales = {group: float(value) for group, value in zip(library.groups, best[n_hyper:], strict=True)}
    return Hyperparameters.of_logs(best[:n_hyper]), scales


def _name(held_out: Collection[str]) -> str:
    """Names a selection in the file."""
    return ",".join(sorted(held_out))


@lru_cache(maxsize=32)
def _prior_without(held_out: frozenset[str]) -> SurfacePrior:
    given = library_points(held_out)
    file = files(__package__).joinpath("library", _FILE)
    stored = json.loads(file.read_text(encoding="utf-8")).get(_name(held_out))
    if stored is None:
        hyper, scales = fit(given)
    else:
        hyper, scales = Hyperparameters(**stored["hyperparameters"]), stored["log_scales"]
    library = _Library.of(given)
    return library.prior(hyper, np.array([scales[group] for group in library.groups]))


def surface_prior(held_out_datasets: Collection[str] = ()) -> SurfacePrior:
    """The prior made of the library without some datasets (named in any spelling; unknown ones are ignored)."""
    return _prior_without(held_out_keys(held_out_datasets))


def _write(path: Path) -> None:
    selections = {frozenset[str](), *(held_out_keys([name]) for name in library_datasets())}
    stored = {}
    for held_out in sorted(selections, key=_name):
        hyper, scales = fit(library_points(held_out))
        stored[_name(held_out)] = {"hyperparameters": asdict(hyper), "log_scales": scales}
    path.write_text(json.dumps(stored, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    _write(Path(__file__).parent / "library" / _FILE)
