"""Which regime a budget is in, with its probability, from the runs along its isocost line.

The best of the points seen names a regime, but accuracies are noisy: by seeds (1 to 7 points of standard deviation)
and by the evaluation set, which all points share. So true accuracies are drawn many times from what was seen:

- Seeds: each point's mean has Student's noise. Its variance is the seeds', shrunk towards (.03)^2 with the weight of
  four seeds, because the variance of two or three seeds is hardly known and that of one not at all. Near the budget
  where training takes off, seeds fall into two groups; this noise is then too thin in the tails.
- Items: with answers item by item, normal noise of the covariance of the points' answers over items, so what makes an
  item hard for all points cancels. With accuracies alone, each point's binomial variance by itself, which is wider.

There are many mixes and only two ends, and the best of many noisy accuracies is mostly the luckiest: with equal true
accuracies and six mixes, "mixed" would have three chances in four. So the mix is chosen on one part of the evidence and
judged on another. Where seeds are few they cannot be split, so the evidence is split by noise (Rasines & Young 2023,
"Splitting strategies for post-selection inference"; Leiner et al. 2023, "Data fission"): for a mean m with noise of
variance V and a fresh draw e of that noise, m + e sqrt((1 - f) / f) and m - e sqrt(f / (1 - f)) are independent, and
hold the shares f and 1 - f of the evidence. The mix is the best by the first, its accuracy and those of the ends are
drawn given the second. With equal true accuracies all three regimes have one chance in three, however many mixes there
are. The price is that probabilities are less extreme than they might be.

A probability is the share of draws in which the regime's point is the best. Legend of the shape suffixes: p points,
s seeds, n items, d draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from isocost.economics.regime import Regime

__all__ = ["REGIME_PROBABILITY_MIN", "LinePoint", "RegimePosterior", "regime_posterior"]

_Floats = npt.NDArray[np.float64]

#: Below this no regime is named.
REGIME_PROBABILITY_MIN = 0.5
_SEED_SD = 0.03
#: Seeds that the prior of their variance is worth.
_SEED_SD_WEIGHT = 4
_SELECTION_SHARE = 1 / 3
_DRAWS = 20_000
_SEED = 0
#: How near to 0 or 1 a spending fraction is that float arithmetic made of it.
_END_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class LinePoint:
    """What the runs of one mix on an isocost line showed.

    Attributes:
        weak_share: Share of the money spent on weak labels, 0 (all human) to 1 (all weak).
        accuracies: One for each seed, 0 to 1; at least one.
        n_eval: Items they were measured on; at least 1.
        right_sn: Whether each seed's run answered each item rightly [S, N], the items the same for all points of the
            line; None where only accuracies are known. Accuracies are its means then.
    """

    weak_share: float
    accuracies: tuple[float, ...]
    n_eval: int
    right_sn: npt.NDArray[np.bool_] | None = None

    @classmethod
    def of_answers(cls, weak_share: float, right_sn: npt.NDArray[np.bool_]) -> LinePoint:
        """The point whose runs answered items [S, N] like this."""
        return cls(weak_share, tuple(right_sn.mean(axis=1).tolist()), right_sn.shape[1], right_sn)


@dataclass(frozen=True, slots=True)
class RegimePosterior:
    """The regime of a budget.

    Attributes:
        regime: The most probable; UNSPECIFIED where none has a probability of `REGIME_PROBABILITY_MIN`.
        probability: Of the most probable regime, whether named or not.
        quantity_dominant: Probability that all weak is best.
        mixed: Probability that a mix is better than both ends.
        quality_dominant: Probability that all human is best. The three sum to 1.
    """

    regime: Regime
    probability: float
    quantity_dominant: float
    mixed: float
    quality_dominant: float


def regime_posterior(points: Sequence[LinePoint]) -> RegimePosterior:
    """The regime of the budget whose isocost line has these points.

    A regime none of whose points was measured has probability 0; where points of fewer than two regimes were measured,
    nothing is known, and each has one third.

    Args:
        points: Of one budget and method, in any order; several may have the same spending fraction.

    Raises:
        ValueError: where a fraction or an accuracy is not 0 to 1, a point has no seed or items, or the points with
            answers do not have the same number of items.
    """
    for point in points:
        if not 0 <= point.weak_share <= 1 or point.n_eval < 1 or not point.accuracies:
            raise ValueError("a point has a weak share of 0 to 1, at least one accuracy and one item")
        if not all(0 <= accuracy <= 1 for accuracy in point.accuracies):
            raise ValueError(f"accuracies {point.accuracies}; they are 0 to 1")
    # In one order, so that the draws do not depend on the caller's.
    points = sorted(points, key=lambda point: (point.weak_share, point.accuracies, point.n_eval))
    shares_p = np.array([point.weak_share for point in points])
    kinds = [shares_p >= 1 - _END_TOLERANCE, shares_p <= _END_TOLERANCE]
    kinds.insert(1, ~kinds[0] & ~kinds[1])
    if sum(bool(kind_p.any()) for kind_p in kinds) < 2:
        return RegimePosterior(Regime.UNSPECIFIED, 1 / 3, 1 / 3, 1 / 3, 1 / 3)

    draw = np.random.default_rng(_SEED)
    mean_p = np.array([np.mean(point.accuracies) for point in points])
    factor_pp = _item_factor(points)
    selection_dp = _noise(points, factor_pp, draw)
    rest_dp = _noise(points, factor_pp, draw)
    chosen_by_dp = mean_p + selection_dp * math.sqrt((1 - _SELECTION_SHARE) / _SELECTION_SHARE)
    true_dp = (
        mean_p
        - selection_dp * math.sqrt(_SELECTION_SHARE / (1 - _SELECTION_SHARE))
        + rest_dp * math.sqrt(1 / (1 - _SELECTION_SHARE))
    )
    accuracy_3d = np.full((3, _DRAWS), -np.inf)
    for accuracy_d, kind_p in zip(accuracy_3d, kinds, strict=True):
        if kind_p.any():
            chosen_d = np.where(kind_p, chosen_by_dp, -np.inf).argmax(axis=1)
            accuracy_d[:] = true_dp[np.arange(_DRAWS), chosen_d]
    quantity, mixed, quality = (np.bincount(accuracy_3d.argmax(axis=0), minlength=3) / _DRAWS).tolist()
    probability, regime = max(
        (quantity, Regime.QUANTITY_DOMINANT),
        (mixed, Regime.MIXED),
        (quality, Regime.QUALITY_DOMINANT),
        key=lambda one: one[0],
    )
    if probability < REGIME_PROBABILITY_MIN:
        regime = Regime.UNSPECIFIED
    return RegimePosterior(regime, probability, quantity, mixed, quality)


def _item_factor(points: Sequence[LinePoint]) -> _Floats:
    """A matrix [p, p] that turns independent standard normals into the noise of the evaluation set."""
    answers = [point.right_sn.mean(axis=0) for point in points if point.right_sn is not None]
    if len({len(answer_n) for answer_n in answers}) > 1:
        raise ValueError("points were answered on different numbers of items; a line has one evaluation set")
    if len(answers) == len(points) and len(answers[0]) > 1:
        covariance_pp = np.cov(np.stack(answers)) / len(answers[0])
        values_p, vectors_pp = np.linalg.eigh(covariance_pp)
        factor_pp: _Floats = vectors_pp * np.sqrt(np.maximum(values_p, 0.0))
        return factor_pp
    # One answer of either kind more, so that accuracies of 0 and 1 have noise too.
    shares_p = [(np.mean(point.accuracies) * point.n_eval + 1) / (point.n_eval + 2) for point in points]
    variance_p = [share * (1 - share) / point.n_eval for share, point in zip(shares_p, points, strict=True)]
    return np.diag(np.sqrt(variance_p))


def _noise(points: Sequence[LinePoint], factor_pp: _Floats, draw: np.random.Generator) -> _Floats:
    """Draws [d, p] of the means' noise, by items and seeds."""
    noise_dp: _Floats = draw.standard_normal((_DRAWS, len(points))) @ factor_pp.T
    for index, point in enumerate(points):
        n_seeds = len(point.accuracies)
        freedom = _SEED_SD_WEIGHT + n_seeds - 1
        squares = n_seeds * float(np.var(point.accuracies)) + _SEED_SD_WEIGHT * _SEED_SD**2
        noise_dp[:, index] += draw.standard_t(freedom, _DRAWS) * math.sqrt(squares / freedom / n_seeds)
    return noise_dp
