"""The value of information: what a purchase is expected to be worth, by looking two purchases ahead.

A purchase lets models be trained at some points; what they show is measured, and the best of them is shipped. The value
of a last purchase is the expectation of the best posterior mean among all points seen then (the knowledge gradient's
criterion: Frazier, Powell & Dayanik 2009). The value of a first purchase that another follows is that of the best
second one, averaged over what the first may show. One purchase ahead sees no value in labels before training takes off;
a whole tranche and a last purchase after it do.

All expectations are averages over the same draws of the surface and the measurement, so that differences between
purchases are not those of the draws. Legend of the shape suffixes: p points, s draws, a draws of what a first purchase
shows, r draws of what is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.linalg

from isocost.economics.policy.kernel import Floats
from isocost.economics.policy.posterior import Posterior

__all__ = ["Lookahead"]

Index = npt.NDArray[np.int64]

_DRAWS = 2048
_FIRST_DRAWS = 128
_REST_DRAWS = 192
_SEED = 0
_JITTER = 1e-9


@dataclass(frozen=True)
class _Learned:
    """How the posterior means of all points move [P, N] with what is measured at some points [N]."""

    index: Index
    gain_pn: Floats


class Lookahead:
    """Values of purchases under one posterior.

    Args:
        posterior: Of the accuracies at the points.
        seen: Points that were observed already.
        measurement_variance: Of a point's measurement [P]; 0 is exact. None where nothing will be measured: what is
            shipped is then chosen by the posterior as it is.
        guess: Accuracy of guessing, where no point is seen.
    """

    def __init__(
        self, posterior: Posterior, seen: Sequence[int], measurement_variance: Floats | None, guess: float
    ) -> None:
        self._mean_p = posterior.mean
        self._cov_pp = posterior.cov
        self._seen = np.asarray(sorted(seen), dtype=np.int64)
        self._variance_p = measurement_variance
        self._guess = guess
        n_points = len(self._mean_p)
        draw = np.random.default_rng(_SEED)
        values, vectors = np.linalg.eigh(self._cov_pp)
        self._truth_sp = draw.standard_normal((_DRAWS, n_points)) @ (vectors * np.sqrt(np.maximum(values, 0.0))).T
        noise = draw.standard_normal((_DRAWS, n_points))
        self._measured_sp = self._truth_sp
        if measurement_variance is not None:
            self._measured_sp = self._truth_sp + noise * np.sqrt(measurement_variance)
        self._now = max((float(self._mean_p[point]) for point in self._seen), default=guess)

    @property
    def now(self) -> float:
        """Expected accuracy of what can be shipped now."""
        return self._now

    @property
    def truth_sp(self) -> Floats:
        """Draws [S, P] of the accuracies at the points."""
        drawn: Floats = self._mean_p + self._truth_sp
        return drawn

    def last(self, sees: Index) -> float:
        """Value of a purchase after which nothing more is bought.

        Args:
            sees: Points that can be shipped then.
        """
        points = np.union1d(sees, self._seen)
        if not len(points):
            return self._guess
        if self._variance_p is None:
            return float(self._mean_p[points].max())
        learned = self._learn(self._cov_pp, np.setdiff1d(points, self._seen))
        moved_sp = self._measured_sp[:, learned.index] @ learned.gain_pn[points].T
        return float(np.minimum((self._mean_p[points] + moved_sp).max(axis=1), 1.0).mean())

    def first(self, sees: Index, then: Sequence[Index]) -> float:
        """What choosing the last purchase only after the first one's results adds to the best of them, 0 or more.

        Args:
            sees: Points seen after the first purchase.
            then: Points seen after each last purchase that may follow.
        """
        new = np.setdiff1d(sees, self._seen)
        if self._variance_p is None or len(then) < 2 or not len(new):
            return 0.0
        learned = self._learn(self._cov_pp, new)
        gain_pn = learned.gain_pn
        mean_ap = self._mean_p + self._measured_sp[:_FIRST_DRAWS, new] @ gain_pn.T
        rest_cov_pp = self._cov_pp - gain_pn @ self._cov_pp[new]
        # Matheron's rule: a draw less what it would have taught is a draw of what is left.
        rest = slice(_FIRST_DRAWS, _FIRST_DRAWS + _REST_DRAWS)
        rest_rp = self._truth_sp[rest] - self._measured_sp[rest][:, new] @ gain_pn.T
        measured_rp = rest_rp + (self._measured_sp[rest] - self._truth_sp[rest])
        known = np.union1d(new, self._seen)
        values = []
        for option in then:
            points = np.union1d(option, known)
            later = self._learn(rest_cov_pp, np.setdiff1d(option, known))
            moved_rp = measured_rp[:, later.index] @ later.gain_pn[points].T
            best_ar = np.minimum((mean_ap[:, None, points] + moved_rp[None]).max(axis=2), 1.0)
            values.append(best_ar.mean(axis=1))
        value_ba = np.stack(values)
        return float(value_ba.max(axis=0).mean() - value_ba.mean(axis=1).max())

    def _learn(self, cov_pp: Floats, index: Index) -> _Learned:
        if not len(index):
            return _Learned(index, np.zeros((len(cov_pp), 0)))
        variance_p = self._variance_p
        assert variance_p is not None
        matrix = cov_pp[np.ix_(index, index)] + np.diag(variance_p[index] + _JITTER)
        gain: Floats = scipy.linalg.solve(matrix, cov_pp[index], assume_a="pos").T
        return _Learned(index, gain)
