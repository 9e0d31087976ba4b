"""Which mixes of the labels at hand to train on: nested subsets cost compute only."""

from __future__ import annotations

from collections.abc import Sequence

from isocost.economics.frontier import CostedPoint
from isocost.economics.interval import Z_95

__all__ = ["STAGE_LABELS_MIN", "final_mixes", "round_mixes", "shipped_point"]

#: Labels below which a stage is not trained: two are held out, two are learned from.
STAGE_LABELS_MIN = 4


def round_mixes(n_weak: int, n_human: int) -> list[tuple[int, int]]:
    """The mixes (n_weak, n_human) trained after each purchase, the largest first.

    All labels, each source halved (what the last doubling brought), and each source alone (the regime).
    """
    return _trainable(
        [(n_weak, n_human), (n_weak // 2, n_human), (n_weak, n_human // 2), (n_weak, 0), (0, n_human)],
    )


def final_mixes(n_weak: int, n_human: int) -> list[tuple[int, int]]:
    """The mixes trained once nothing more is bought: the grid of none, a quarter, half and all of each source."""
    return _trainable(
        [
            (n_weak * weak_quarters // 4, n_human * human_quarters // 4)
            for weak_quarters in (4, 2, 1, 0)
            for human_quarters in (4, 2, 1, 0)
        ]
    )


def _trainable(mixes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    kept: dict[tuple[int, int], None] = {}
    for n_weak, n_human in mixes:
        mix = (n_weak if n_weak >= STAGE_LABELS_MIN else 0, n_human if n_human >= STAGE_LABELS_MIN else 0)
        if any(mix):
            kept[mix] = None
    return list(kept)


def shipped_point(points: Sequence[CostedPoint]) -> CostedPoint:
    """The point or single run that is shipped, by the one-standard-error rule (Breiman et al. 1984, section 3.4.3).

    The best of many noisy accuracies is mostly the luckiest. Of the points within one standard error of the best, the
    one trained on the most labels (by price) is taken: the labels are paid for, and more of them seldom hurt.

    Raises:
        ValueError: where there is no point.
    """
    best = max(points, key=lambda point: point.accuracy)
    standard_error = (best.accuracy_high - best.accuracy_low) / (2 * Z_95)
    near = [point for point in points if point.accuracy >= best.accuracy - standard_error]
    return max(near, key=lambda point: (point.cost_micros, point.accuracy))
