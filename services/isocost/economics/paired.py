"""Paired tests between two methods that answered the same evaluation items.

Legend of the shape suffixes: n items (the same in both, in the same order), s seeds.

One run of each (`compare_answers`): the p-value is the exact McNemar test's, binomial on the items that only one of
the two has right. The interval is Bonett & Price's (2012, "Adjusted Wald confidence interval for a difference of
binomial proportions based on paired data"): one item more of each discordant kind, then Wald's; Fagerland, Lydersen &
Laake 2014 recommend it. It speaks of other items, not of other seeds: a run's seed is taken as it is.

Several seeds of each (`compare_runs`): items and seeds are crossed, and both are samples. The variance of the
difference of means is that over items, plus that over seeds, less that of the seed-by-item residual which both hold
(Cameron, Gelbach & Miller 2011), and never less than either. The variance over items has Bonett & Price's two
pseudo-items, so one seed gives exactly their interval. The quantile is Student's with Satterthwaite's degrees of
freedom, of which only the seeds' part is counted: items are many. The p-value is that t-test's, so it is below .05
exactly where the interval leaves out 0. Flipping signs item by item would be exact for these very seeds and too sure
about others: a method with one lucky seed would win.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from isocost.economics.interval import Z_95

__all__ = ["PairedDifference", "compare_answers", "compare_runs", "holm"]

_Floats = npt.NDArray[np.float64]
_Bools = npt.NDArray[np.bool_]
#: Degrees of freedom from which on Student's quantiles are the normal's.
_FREEDOM_MAX = 1e6


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """The accuracy of a less that of b.

    Attributes:
        difference, low, high: -1 to 1, low <= difference <= high; the interval is the 95 % one.
        p_value: Two-sided, of no difference.
        n_items: Items answered by both.
        n_seeds: Of a and of b.
    """

    difference: float
    low: float
    high: float
    p_value: float
    n_items: int
    n_seeds: tuple[int, int]

    @property
    def separable(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def compare_answers(right_a_n: _Bools, right_b_n: _Bools) -> PairedDifference:
    """Compares one run of a with one of b.

    Args:
        right_a_n, right_b_n: Whether each item was answered rightly; at least one item.

    Raises:
        ValueError: where the items are not the same number, or none.
    """
    a_n, b_n = np.asarray(right_a_n, dtype=np.bool_), np.asarray(right_b_n, dtype=np.bool_)
    if a_n.ndim != 1 or a_n.shape != b_n.shape or not len(a_n):
        raise ValueError(f"answers {a_n.shape} and {b_n.shape} are not both (N,), N >= 1")
    from scipy.special import bdtr  # noqa: PLC0415 - slow to import

    n_a_only, n_b_only = int((a_n & ~b_n).sum()), int((b_n & ~a_n).sum())
    p_value = min(1.0, 2 * float(bdtr(min(n_a_only, n_b_only), n_a_only + n_b_only, 0.5)))
    centre, item_variance = _over_items(a_n.astype(np.float64) - b_n)
    return _difference((n_a_only - n_b_only) / len(a_n), centre, Z_95 * math.sqrt(item_variance), p_value, len(a_n))


def compare_runs(right_a_sn: _Bools, right_b_sn: _Bools, *, same_seeds: bool = False) -> PairedDifference:
    """Compares several seeds of a with several of b on one evaluation set.

    Args:
        right_a_sn, right_b_sn: Whether each seed's run answered each item rightly. The numbers of seeds may differ.
        same_seeds: Row by row the runs share what the seed decides (labels drawn, order, head), so that their seeds'
            luck cancels in part; the numbers of seeds are the same then.

    With one seed of either, the seeds' variance is taken from the other's; with one of both, this is
    `compare_answers`.

    Raises:
        ValueError: where the items are not the same number, or there are none, or no seed, or `same_seeds` does not
            hold.
    """
    a_sn, b_sn = np.asarray(right_a_sn, dtype=np.float64), np.asarray(right_b_sn, dtype=np.float64)
    if a_sn.ndim != 2 or b_sn.ndim != 2 or a_sn.shape[1] != b_sn.shape[1] or not a_sn.size or not b_sn.size:
        raise ValueError(f"answers {a_sn.shape} and {b_sn.shape} are not (S, N) with the same N, S and N >= 1")
    if same_seeds and len(a_sn) != len(b_sn):
        raise ValueError(f"{len(a_sn)} and {len(b_sn)} seeds cannot be the same; set same_seeds to false")
    n_seeds = len(a_sn), len(b_sn)
    if n_seeds == (1, 1):
        return compare_answers(a_sn[0] > 0, b_sn[0] > 0)
    from scipy.special import stdtr, stdtrit  # noqa: PLC0415 - slow to import

    seed_variance, both_variance, freedom = _over_seeds([a_sn - b_sn] if same_seeds else [a_sn, b_sn])
    item_difference_n = a_sn.mean(axis=0) - b_sn.mean(axis=0)
    centre, item_variance = _over_items(item_difference_n)
    variance = max(item_variance + seed_variance - both_variance, item_variance, seed_variance)
    freedom = min(_FREEDOM_MAX, freedom * (variance / max(seed_variance, 1e-12)) ** 2)
    half = float(stdtrit(freedom, 0.975)) * math.sqrt(variance)
    p_value = 2 * float(stdtr(freedom, -abs(centre) / math.sqrt(variance)))
    return _difference(float(item_difference_n.mean()), centre, half, p_value, a_sn.shape[1], n_seeds)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """P-values adjusted for being many (Holm 1979): those at most .05 hold together with 95 % confidence."""
    n_tests = len(p_values)
    adjusted = [0.0] * n_tests
    highest = 0.0
    for rank, index in enumerate(sorted(range(n_tests), key=lambda index: p_values[index])):
        highest = max(highest, min(1.0, (n_tests - rank) * p_values[index]))
        adjusted[index] = highest
    return tuple(adjusted)


def _difference(
    difference: float, centre: float, half: float, p_value: float, n_items: int, n_seeds: tuple[int, int] = (1, 1)
) -> PairedDifference:
    low, high = max(-1.0, min(difference, centre - half)), min(1.0, max(difference, centre + half))
    return PairedDifference(difference, low, high, min(1.0, p_value), n_items, n_seeds)


def _over_items(difference_n: _Floats) -> tuple[float, float]:
    """Mean of the items' differences and its variance, with Bonett & Price's two pseudo-items, +1 and -1."""
    n_items = len(difference_n) + 2
    centre = float(difference_n.sum()) / n_items
    return centre, (float((difference_n**2).sum() + 2) / n_items - centre * centre) / n_items


def _over_seeds(parts: list[_Floats]) -> tuple[float, float, float]:
    """Of a sum of means over seeds: its variance over seeds, its residual variance, and Welch's degrees of freedom.

    A part with one seed takes the variances of the other, which has more.
    """
    measured = []
    for part_sn in parts:
        n_seeds, n_items = part_sn.shape
        if n_seeds > 1:
            mean_s = part_sn.mean(axis=1)
            residual_sn = part_sn - mean_s[:, None] - part_sn.mean(axis=0) + part_sn.mean()
            residual = float((residual_sn**2).sum()) / ((n_seeds - 1) * max(n_items - 1, 1)) / n_items
            measured.append((float(mean_s.var(ddof=1)), residual, n_seeds - 1))
    known = iter(measured)
    seed_variance, both_variance, welch = 0.0, 0.0, 0.0
    for part_sn in parts:
        variance, residual, freedom = next(known) if len(part_sn) > 1 else measured[0]
        seed_variance += variance / len(part_sn)
        both_variance += residual / len(part_sn)
        welch += (variance / len(part_sn)) ** 2 / freedom
    return seed_variance, both_variance, seed_variance**2 / welch if welch > 0 else 1.0
