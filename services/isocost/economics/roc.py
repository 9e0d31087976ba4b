"""Area under the ROC curve (AUROC) with its interval. Legend of the shape suffixes: n items, c choices.

The area is the Mann-Whitney statistic, ties counting one half: of the second choice for two choices, macro-averaged one
against the rest for more. A choice that no item or every item has is left out of the average.

The interval is DeLong's (DeLong, DeLong & Clarke-Pearson 1988) by the mid-ranks of Sun & Xu 2014. For more than two
choices DeLong's structural components of the one-against-the-rest areas are averaged item by item, so that the
covariance of the areas, which share all items, is counted. It is taken on the logit scale (Pepe 2003),
where it covers better near 0 and 1. DeLong's variance is 0 where the choices are separated perfectly, and says nothing
of a choice that one item has; there, Newcombe's score interval is used (Newcombe 2006, method 5) with the number of
items of the rarest choice.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from isocost.economics.interval import Z_95

__all__ = ["area_interval"]

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]
#: Halvings of [0, 1] that find a bound; more than a float can tell apart.
_HALVINGS = 60


def area_interval(choices_n: _Ints, probabilities_nc: _Floats) -> tuple[float, float, float] | None:
    """The AUROC and its 95 % interval.

    Args:
        choices_n: Right choice of each item, from 0.
        probabilities_nc: Predicted.

    Returns:
        (area, low, high), each 0 to 1, low <= area <= high; None where all items have the same choice.
    """
    n_items, n_choices = probabilities_nc.shape
    areas: list[float] = []
    components_n = np.zeros(n_items)
    rarest = n_items
    for choice in [1] if n_choices == 2 else range(n_choices):
        positive_n = choices_n == choice
        n_positive = int(positive_n.sum())
        n_negative = n_items - n_positive
        if not n_positive or not n_negative:
            continue
        placements_n = _placements(positive_n, probabilities_nc[:, choice])
        area = float(placements_n[positive_n].mean())
        areas.append(area)
        rarest = min(rarest, n_positive, n_negative)
        size_n = np.where(positive_n, n_positive, n_negative)
        # Squared and summed, these are DeLong's S10 / m + S01 / n.
        components_n += (placements_n - area) / np.sqrt(size_n * np.maximum(size_n - 1, 1))
    if not areas:
        return None
    area = float(np.mean(areas))
    variance = float(((components_n / len(areas)) ** 2).sum())
    if rarest < 2 or variance < 1e-12 or not 0 < area < 1:
        low, high = _newcombe(area, rarest, n_items - rarest)
    else:
        logit, half = math.log(area / (1 - area)), Z_95 * math.sqrt(variance) / (area * (1 - area))
        low, high = _logistic(logit - half), _logistic(logit + half)
    return area, min(area, low), max(area, high)


def _logistic(x: float) -> float:
    # By tanh, which does not overflow.
    return (1 + math.tanh(x / 2)) / 2


def _placements(positive_n: npt.NDArray[np.bool_], scores_n: _Floats) -> _Floats:
    """For a positive the share of negatives below it, for a negative the share of positives above it; ties one half."""
    ranks_n = _mean_ranks(scores_n)
    placements_n = np.empty(len(scores_n))
    for group_n, is_positive in ((positive_n, True), (~positive_n, False)):
        n_others = len(scores_n) - int(group_n.sum())
        below = (ranks_n[group_n] - _mean_ranks(scores_n[group_n])) / n_others
        placements_n[group_n] = below if is_positive else 1 - below
    return placements_n


def _mean_ranks(values_n: _Floats) -> _Floats:
    """Ranks from 1; equal values share the mean of theirs."""
    _, group_n, counts = np.unique(values_n, return_inverse=True, return_counts=True)
    mean_ranks: _Floats = (np.cumsum(counts) - (counts - 1) / 2)[group_n]
    return mean_ranks


def _newcombe(area: float, n_positive: int, n_negative: int) -> tuple[float, float]:
    """The areas whose standard error, by Hanley & McNeil at that area, is not too small for the one seen."""
    n_mean = (n_positive + n_negative) / 2

    def far(theta: float) -> bool:
        spread = 1 + (n_mean - 1) * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return abs(area - theta) > Z_95 * math.sqrt(theta * (1 - theta) * spread / (n_positive * n_negative))

    bounds = []
    for edge in (0.0, 1.0):
        outside, inside = edge, area
        for _ in range(_HALVINGS):
            middle = (outside + inside) / 2
            outside, inside = (middle, inside) if far(middle) else (outside, middle)
        bounds.append(edge if edge == area else outside)
    return bounds[0], bounds[1]
