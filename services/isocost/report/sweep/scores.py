"""Item by item, what each run of a sweep got right: the paired tests, and the honest measure of a chosen mix.

A point is a mix of one method, given as the ids of its runs: the seeds of one task, or of several tasks for a mean
over tasks. The tests are those of `isocost.economics.paired`; of a mean over tasks, which have different items, the
half-widths of the tasks' intervals add in quadrature. Which tests are made, and how p-values are adjusted for being
many, is as in `isocost.economics.separability`, which knows single tasks only.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from isocost.core.errors import InvalidArgumentError
from isocost.economics.interval import Z_95
from isocost.economics.paired import compare_runs, holm
from isocost.economics.separability import SIGNIFICANCE
from isocost.sweep.results import predictions_path

__all__ = ["SweepScores", "is_separable", "read_scores"]

_Bools = npt.NDArray[np.bool_]
_Floats = npt.NDArray[np.float64]
#: Ids of a point's runs.
_Point = tuple[str, ...]


def is_separable(p_value: str) -> pl.Expr:
    """Whether the adjusted p-value in this column tells two points apart; a test that could not be made does not."""
    return (pl.col(p_value) <= SIGNIFICANCE).fill_null(value=False)


class SweepScores:
    """Right answers of runs on the test items of their tasks.

    Args:
        right_by_run: For each run its task, and whether it was right on each item. Runs of one task have the same items
            in the same order.
    """

    def __init__(self, right_by_run: Mapping[str, tuple[str, _Bools]]) -> None:
        self._right_by_run = right_by_run
        # Means over tasks, lines and tables ask for the same comparisons again and again.
        self._compared: dict[tuple[_Point, _Point], tuple[float, float, float]] = {}
        self._halves: dict[_Point, _Floats] = {}

    @property
    def n_runs(self) -> int:
        """Runs whose answers are known."""
        return len(self._right_by_run)

    def p_values_of_best(self, points: Sequence[Sequence[str]], best: int) -> list[float | None]:
        """Of the best point against each other one, adjusted for all pairs of points (Holm).

        Returns:
            One a point; None for the best itself, and where predictions are missing.
        """
        known = {index: by_task for index, runs in enumerate(points) if (by_task := self._by_task(tuple(runs)))}
        pairs = list(combinations(known, 2))
        adjusted = dict(
            zip(pairs, holm([self._p_value(tuple(points[i]), tuple(points[j])) for i, j in pairs]), strict=True)
        )
        return [
            adjusted.get((min(index, best), max(index, best))) if index != best else None
            for index in range(len(points))
        ]

    def p_values_of_steps(self, points: Sequence[Sequence[str]]) -> list[float | None]:
        """Of each point of a frontier against the last proven one before it, adjusted by their number (Bonferroni).

        Points in rising order of cost. The first counts as proven; so does each one that is better than the last proven
        one with an adjusted p-value of at most .05.

        Returns:
            One a point; None for the first, and where predictions are missing.
        """
        p_values: list[float | None] = [None] * len(points)
        proven = 0
        for index in range(1, len(points)):
            step, base = tuple(points[index]), tuple(points[proven])
            if not (self._by_task(step) and self._by_task(base)):
                continue
            p_value = min(1.0, self._p_value(step, base) * (len(points) - 1))
            p_values[index] = p_value
            if p_value <= SIGNIFICANCE and self._compare(step, base)[0] > 0:
                proven = index
        return p_values

    def chosen_on_half(self, points: Sequence[Sequence[str]]) -> float | None:
        """Accuracy of choosing the best point on one half of the items and measuring it on the other, both ways.

        Of equal points, the first is chosen. The halves are the items at even and at odd places.

        Returns:
            The mean of both ways; None where there is no point, or predictions are missing, or there is but one item.
        """
        halves = [self._half_accuracies(tuple(runs)) for runs in points]
        known = [half for half in halves if half is not None]
        if not known or len(known) < len(halves):
            return None
        accuracy_ph = np.stack(known)
        chosen = accuracy_ph.argmax(axis=0)
        return float((accuracy_ph[chosen[0], 1] + accuracy_ph[chosen[1], 0]) / 2)

    def by_task(self, runs: Sequence[str]) -> dict[str, _Bools] | None:
        """Right answers of a point by task, seeds x items; None where a run's predictions are missing."""
        return self._by_task(tuple(runs))

    def _by_task(self, point: _Point) -> dict[str, _Bools] | None:
        seeds: dict[str, list[_Bools]] = defaultdict(list)
        for run_id in point:
            if run_id not in self._right_by_run:
                return None
            task, right = self._right_by_run[run_id]
            seeds[task].append(right)
        return {task: np.stack(rows) for task, rows in sorted(seeds.items())}

    def _p_value(self, a: _Point, b: _Point) -> float:
        return self._compare(a, b)[2]

    def _compare(self, a: _Point, b: _Point) -> tuple[float, float, float]:
        """Difference of accuracies, half-width of its 95 % interval, and p-value, from the cache where it is known."""
        if a == b:
            return 0.0, 0.0, 1.0
        if (b, a) in self._compared:
            difference, half, p_value = self._compared[b, a]
            return -difference, half, p_value
        if (a, b) not in self._compared:
            self._compared[a, b] = self._compared_now(a, b)
        return self._compared[a, b]

    def _compared_now(self, a: _Point, b: _Point) -> tuple[float, float, float]:
        tasks_of = self._tasks(a)
        if len(tasks_of) == 1:
            right_a, right_b = self._by_task(a), self._by_task(b)
            assert right_a is not None
            assert right_b is not None
            ((task, a_sn),) = right_a.items()
            compared = compare_runs(a_sn, right_b[task])
            return compared.difference, (compared.high - compared.low) / 2, compared.p_value
        runs_b = self._tasks(b)
        parts = [self._compare(tasks_of[task], runs_b[task]) for task in tasks_of]
        difference = sum(part[0] for part in parts) / len(parts)
        half = math.hypot(*(part[1] for part in parts)) / len(parts)
        p_value = math.erfc(abs(difference) * Z_95 / half / math.sqrt(2)) if half > 0 else 1.0
        return difference, half, p_value

    def _tasks(self, point: _Point) -> dict[str, _Point]:
        runs: dict[str, list[str]] = defaultdict(list)
        for run_id in point:
            runs[self._right_by_run[run_id][0]].append(run_id)
        return {task: tuple(ids) for task, ids in sorted(runs.items())}

    def _half_accuracies(self, point: _Point) -> _Floats | None:
        if point not in self._halves:
            by_task = self._by_task(point)
            if not by_task or min(right_sn.shape[1] for right_sn in by_task.values()) < 2:
                return None
            self._halves[point] = np.mean(
                [[right_sn[:, ::2].mean(), right_sn[:, 1::2].mean()] for right_sn in by_task.values()], axis=0
            )
        return self._halves[point]


def read_scores(folder: Path, succeeded: pl.DataFrame) -> SweepScores:
    """Reads the predictions of a sweep's runs; runs without a file are left out.

    Args:
        folder: Of the sweep.
        succeeded: Rows of its results.

    Raises:
        InvalidArgumentError: where runs of one task were measured on different items.
    """
    right_by_run: dict[str, tuple[str, _Bools]] = {}
    items_by_task: dict[str, pl.Series] = {}
    for run_id, task in succeeded.select("run_id", "task").iter_rows():
        path = predictions_path(folder, run_id)
        if not path.is_file():
            continue
        frame = pl.read_parquet(path)
        items = items_by_task.setdefault(task, frame["item_id"])
        if not items.equals(frame["item_id"]):
            raise InvalidArgumentError(
                "predictions", f"{path.name!r} has other items than the other runs of {task!r}; run the sweep again"
            )
        right = frame["probabilities"].list.arg_max() == frame["choice"]
        right_by_run[run_id] = (task, right.to_numpy().astype(np.bool_))
    return SweepScores(right_by_run)
