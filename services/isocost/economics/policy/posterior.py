"""The posterior of a task's surface: what runs showed, and what the library makes of it.

The efficiency of the task is not known, so the posterior is a mixture over a grid of efficiencies, each a Gaussian.
Their weights follow the marginal likelihood of what was observed: a task that takes off earlier or later than those of
the library is recognised by its first runs. Everything after that uses the mixture's mean and covariance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.special
import scipy.stats

from isocost.economics.policy.kernel import Floats, Points
from isocost.economics.policy.prior import SurfacePrior, scale_log_prior

__all__ = ["Observed", "Posterior", "posterior"]

#: Efficiencies, relative to the library's: 1/16 to 32.
_LOG_SCALES = np.log(2.0) * np.arange(-4, 6)
#: Components with a smaller share of the most probable one's weight are left out.
_WEIGHT_MIN = 1e-3
_JITTER = 1e-8


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen of some of the points.

    Attributes:
        index: Their rows among the points; each at most once.
        accuracy: Mean accuracy of their runs.
        n_runs: Runs averaged.
        variance: Of the measurement; 0 where it is exact.
    """

    index: Sequence[int]
    accuracy: Floats
    n_runs: Floats
    variance: Floats


@dataclass(frozen=True, slots=True)
class Posterior:
    """Accuracies of trained models at points [P], given all that was observed.

    Attributes:
        mean: Expected accuracy.
        cov: Covariance [P, P], the noise of single runs on the diagonal.
        run_variance: The part of the diagonal that is a single run's noise; 0 for observed points, whose runs are
            there.
        scale: Geometric mean of the task's efficiency: above 1 it learns from fewer labels than the library's tasks.
        surprise: Probability of observations at least as odd as these under the best-fitting efficiency.
    """

    mean: Floats
    cov: Floats
    run_variance: Floats
    scale: float
    surprise: float


def posterior(prior: SurfacePrior, points: Points, observed: Observed) -> Posterior:
    """Conditions the prior of new surfaces on what was observed of them."""
    index = np.asarray(observed.index, dtype=np.int64)
    means, covs, runs, log_weights, surprises = [], [], [], [], []
    for log_scale, prior_weight in zip(_LOG_SCALES, scale_log_prior(_LOG_SCALES), strict=True):
        log_weight = float(prior_weight)
        mean, cov, run = prior.predict(points.scaled(float(np.exp(log_scale))))
        diagonal = run.copy()
        diagonal[index] = run[index] / observed.n_runs
        cov = cov + np.diag(diagonal)
        surprise = 1.0
        if len(index):
            factor = np.linalg.cholesky(cov[np.ix_(index, index)] + np.diag(observed.variance + _JITTER))
            residual = scipy.linalg.solve_triangular(factor, observed.accuracy - mean[index], lower=True)
            gain = scipy.linalg.cho_solve((factor, True), cov[index]).T
            log_weight -= 0.5 * float(residual @ residual) + float(np.log(np.diag(factor)).sum())
            surprise = float(scipy.stats.chi2.sf(float(residual @ residual), len(index)))
            mean, cov = mean + gain @ (observed.accuracy - mean[index]), cov - gain @ cov[index]
            run[index] = 0.0
        means.append(mean)
        covs.append(cov)
        runs.append(run)
        log_weights.append(log_weight)
        surprises.append(surprise)
    log_weight_j = np.array(log_weights)
    weight_j = np.exp(log_weight_j - log_weight_j.max())
    weight_j[weight_j < _WEIGHT_MIN] = 0.0
    weight_j /= weight_j.sum()
    mean = np.einsum("j,jp->p", weight_j, np.stack(means))
    cov = np.zeros_like(covs[0])
    for weight, mean_p, cov_pp in zip(weight_j, means, covs, strict=True):
        if weight:
            cov += weight * (cov_pp + np.outer(mean_p - mean, mean_p - mean))
    return Posterior(
        mean=mean,
        cov=(cov + cov.T) / 2,
        run_variance=np.einsum("j,jp->p", weight_j, np.stack(runs)),
        scale=float(np.exp(weight_j @ _LOG_SCALES)),
        surprise=max(surprises),
    )
