"""Calibrated accuracy: accuracy once as many items get each choice as have it (Mallen & Belrose 2024).

It tells knowledge from bias: a model that ranks all items rightly but finds every claim true has .5 accuracy and 1.0
calibrated accuracy. The numbers of items of each choice are taken from the evaluation set itself, so it says what a
good threshold would bring, not what the model as it is does. A set with one choice alone gives 1.

Two choices: the threshold is a quantile of the log-odds. Items that tie at it get each choice in the share that fills
the numbers, so their answers count by expectation.

More choices: each choice gets an offset of its log-probability, so that the most probable choice is c for as many
items as have c. The offsets are the prices of the transport problem that gives each item a choice in fixed numbers at
the highest total log-probability; they are found by setting one offset after another to the quantile that makes its
own choice's number right, which lowers the problem's convex dual at each step. Where ties leave no offsets that make
all numbers right, the tied items are shared out by iterative proportional fitting, and count by expectation.

Interval: the delta method. When items are redrawn, numbers and threshold move too. If g_c is how many more answers
become right for each item more that gets choice c, an item's influence is right - A + sum_c g_c ([has c] - [gets c]).
g is measured by moving the numbers by sqrt(n) items to either side. The interval is Wilson's at the sample size that
has this variance, and never at a larger one than n.

Legend of the shape suffixes: n items, c choices.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from isocost.economics.interval import wilson_interval

__all__ = ["calibrated_accuracy", "match_counts"]

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]
_SWEEPS_MAX = 40
_TIE_SWEEPS = 30
#: Log-probabilities that are nearer than this are tied.
_TIE_WIDTH = 1e-6


def calibrated_accuracy(choices_n: _Ints, probabilities_nc: _Floats) -> tuple[float, float, float]:
    """The calibrated accuracy and its 95 % interval.

    Args:
        choices_n: Right choice of each item, from 0.
        probabilities_nc: Predicted.

    Returns:
        (accuracy, low, high), each 0 to 1, low <= accuracy <= high.
    """
    scores_nc = np.log(np.maximum(probabilities_nc, np.finfo(np.float64).tiny))
    n_items, n_choices = scores_nc.shape
    step = math.ceil(math.sqrt(n_items))
    if n_choices == 2:
        accuracy, variance = _two_choices(choices_n == 1, scores_nc[:, 1] - scores_nc[:, 0], step)
    else:
        accuracy, variance = _more_choices(choices_n, scores_nc, step)
    binomial = accuracy * (1 - accuracy)
    n_effective = max(1, math.floor(n_items * binomial / variance + 1e-6)) if variance > binomial > 0 else n_items
    low, high = wilson_interval(accuracy, n_effective)
    return accuracy, low, high


def match_counts(scores_nc: _Floats, counts_c: _Ints, offsets_c: _Floats | None = None) -> tuple[_Floats, _Floats]:
    """Offsets of the choices' scores, such that choice c is the highest for counts_c[c] items.

    Args:
        scores_nc: Log-probabilities.
        counts_c: How many items are to get each choice; they sum to n.
        offsets_c: Where to start; 0 by default.

    Returns:
        How much of each item gets each choice [n, c], 0 or 1 but for ties, and the offsets [c], -inf for counts of 0.
    """
    offered = np.flatnonzero(counts_c)
    started_c = np.zeros(len(counts_c)) if offsets_c is None else offsets_c
    # An offset of -inf, from a start that did not offer the choice, would never come back.
    offsets_c = np.where(np.isfinite(started_c), started_c, 0.0)
    offsets_c[counts_c == 0] = -np.inf
    given_nc = np.zeros_like(scores_nc)
    for _ in range(_SWEEPS_MAX):
        chosen_n = (scores_nc + offsets_c).argmax(axis=1)
        if (np.bincount(chosen_n, minlength=len(counts_c)) == counts_c).all():
            given_nc[np.arange(len(chosen_n)), chosen_n] = 1
            return given_nc, offsets_c
        for choice in offered:
            rivals = offered[offered != choice]
            needed_n = (scores_nc[:, rivals] + offsets_c[rivals]).max(axis=1) - scores_nc[:, choice]
            count = counts_c[choice]
            # Halfway between the last item that gets the choice and the first that does not.
            offsets_c[choice] = np.partition(needed_n, (count - 1, count))[count - 1 : count + 1].mean()
    for _ in range(_TIE_SWEEPS):
        warm_nc = (scores_nc + offsets_c) / _TIE_WIDTH
        given_nc = np.exp(warm_nc - warm_nc.max(axis=1, keepdims=True))
        given_nc /= given_nc.sum(axis=1, keepdims=True)
        offsets_c[offered] += _TIE_WIDTH * np.log(
            counts_c[offered] / np.maximum(given_nc[:, offered].sum(axis=0), 1e-9)
        )
    return given_nc, offsets_c


def _two_choices(second_n: npt.NDArray[np.bool_], scores_n: _Floats, step: int) -> tuple[float, float]:
    """Accuracy and the variance of one item's influence."""
    n_items, n_second = len(second_n), int(second_n.sum())
    _, group_n, sizes = np.unique(-scores_n, return_inverse=True, return_counts=True)
    seconds = np.bincount(group_n, weights=second_n)
    # Right answers when the k highest items get the second choice; linear in k within ties.
    n_given = np.concatenate([[0], np.cumsum(sizes)])
    n_right = np.concatenate([[0], np.cumsum(2 * seconds - sizes)]) + (n_items - n_second)
    accuracy = float(np.interp(n_second, n_given, n_right)) / n_items
    low, high = max(0, n_second - step), min(n_items, n_second + step)
    gain = float(np.interp(high, n_given, n_right) - np.interp(low, n_given, n_right)) / (high - low)
    # Wrong answers are half of either kind; their influences are -A + gain and -A - gain.
    return accuracy, accuracy * (1 - accuracy) + (1 - accuracy) * gain * gain


def _more_choices(choices_n: _Ints, scores_nc: _Floats, step: int) -> tuple[float, float]:
    """Accuracy and the variance of one item's influence."""
    n_items, n_choices = scores_nc.shape
    counts_c = np.bincount(choices_n, minlength=n_choices)
    rows = np.arange(n_items)
    given_nc, offsets_c = match_counts(scores_nc, counts_c)
    right_n = given_nc[rows, choices_n]
    accuracy = min(1.0, float(right_n.mean()))
    if accuracy == 1:
        return accuracy, 0.0
    gain_c = np.zeros(n_choices)
    for choice in np.flatnonzero(counts_c):
        n_right = []
        for count in (max(0, counts_c[choice] - step), min(n_items, counts_c[choice] + step)):
            moved_c = _move(counts_c, choice, count)
            moved_nc, _ = match_counts(scores_nc, moved_c, offsets_c)
            n_right.append((count, float(moved_nc[rows, choices_n].sum())))
        (low, right_low), (high, right_high) = n_right
        # The others gave in proportion to their numbers; gains count from the mean over the choices.
        gain_c[choice] = (right_high - right_low) / max(high - low, 1) * (1 - counts_c[choice] / n_items)
    influence_n = right_n - accuracy + gain_c[choices_n] - given_nc @ gain_c
    return accuracy, float(influence_n.var())


def _move(counts_c: _Ints, choice: int, count: int) -> _Ints:
    """The counts with `count` for a choice, what the others lose or gain in proportion to theirs; the sum stays."""
    n_items = int(counts_c.sum())
    others = np.arange(len(counts_c)) != choice
    shares = counts_c[others] / counts_c[others].sum() * (n_items - count)
    moved = np.floor(shares).astype(np.int64)
    # Largest remainders; the first of equals.
    order = np.argsort(moved - shares, kind="stable")
    moved[order[: n_items - count - int(moved.sum())]] += 1
    moved_c = counts_c.copy()
    moved_c[choice], moved_c[others] = count, moved
    return moved_c
