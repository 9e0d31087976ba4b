"""Which points of a frontier or an isocost line the evaluation tells apart.

A point whose accuracy is higher by noise alone must not be drawn as a step. Points share one evaluation set, so they
are compared item by item (`paired.compare_runs`), which tells apart points whose own intervals overlap widely. Many
comparisons are made, so p-values are Holm's, and "separable" means an adjusted p of at most .05.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from isocost.economics.paired import PairedDifference, compare_runs, holm

__all__ = ["SIGNIFICANCE", "LineSeparability", "frontier_groups", "line_separability"]

_Bools = npt.NDArray[np.bool_]

#: Chance of telling apart any two points that are not, over all comparisons of one call.
SIGNIFICANCE = 0.05


@dataclass(frozen=True, slots=True)
class LineSeparability:
    """How the points of one isocost line compare with the most accurate one.

    Attributes:
        best: Index of the most accurate point; the first of several.
        tied: For each point, whether it is not separable from the best; true of the best itself.
        differences: For each point, the best's accuracy less its own; the intervals are not adjusted for being many.
        p_values: For each point, the adjusted p-value of that difference; 1 for the best itself.
    """

    best: int
    tied: tuple[bool, ...]
    differences: tuple[PairedDifference, ...]
    p_values: tuple[float, ...]


def line_separability(right_psn: Sequence[_Bools], *, same_seeds: bool = False) -> LineSeparability:
    """Compares the points of an isocost line with the most accurate one.

    Which one is best is itself seen in the data, so the p-values are adjusted for all pairs of points, any of which
    might have been the ones compared.

    Args:
        right_psn: For each point, whether each seed's run answered each item rightly [S, N]; the numbers of seeds may
            differ, the items are the same.
        same_seeds: As of `paired.compare_runs`.

    Raises:
        ValueError: where there is no point, or as `paired.compare_runs`.
    """
    if not right_psn:
        raise ValueError("no points; give at least one")
    best = max(range(len(right_psn)), key=lambda index: float(np.mean(right_psn[index])))
    pairs = list(combinations(range(len(right_psn)), 2))
    p_values = holm([compare_runs(right_psn[i], right_psn[j], same_seeds=same_seeds).p_value for i, j in pairs])
    adjusted = dict(zip(pairs, p_values, strict=True))
    of_best = tuple(
        adjusted[min(index, best), max(index, best)] if index != best else 1.0 for index in range(len(right_psn))
    )
    return LineSeparability(
        best=best,
        tied=tuple(p_value > SIGNIFICANCE for p_value in of_best),
        differences=tuple(compare_runs(right_psn[best], point_sn, same_seeds=same_seeds) for point_sn in right_psn),
        p_values=of_best,
    )


def frontier_groups(right_psn: Sequence[_Bools], *, same_seeds: bool = False) -> tuple[int, ...]:
    """Groups of a frontier's points such that each group's first one is proven better than the group before.

    Cheapest first, each point is compared with the first point of the running group; where it is separable from it and
    better, it begins the next group. Within a group, the dearer points have not been shown to be worth their price:
    draw its first point as a step and the others hollow. Separable means a p-value of at most .05 by the number of
    points less one (Bonferroni's rule: which comparisons are made depends on what the others showed).

    Args:
        right_psn: As of `line_separability`, in rising order of cost.
        same_seeds: As of `paired.compare_runs`.

    Returns:
        For each point the number of its group, from 0, never falling.

    Raises:
        ValueError: as `paired.compare_runs`.
    """
    groups: list[int] = []
    first = 0
    for index, point_sn in enumerate(right_psn):
        if not index:
            groups.append(0)
            continue
        step = compare_runs(point_sn, right_psn[first], same_seeds=same_seeds)
        proven = step.difference > 0 and step.p_value <= SIGNIFICANCE / (len(right_psn) - 1)
        groups.append(groups[-1] + proven)
        first = index if proven else first
    return tuple(groups)
