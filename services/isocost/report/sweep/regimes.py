"""The regimes of a sweep: of each budget's line, which kind of mix is best, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from isocost.economics.regime_posterior import LinePoint, regime_posterior
from isocost.report.sweep.scores import SweepScores

__all__ = ["regime_rows"]

_SCHEMA = {
    "task": pl.String,
    "method": pl.String,
    "weak_price": pl.Float64,
    "budget": pl.Float64,
    "n_points": pl.Int64,
    "regime": pl.String,
    "probability": pl.Float64,
    "quantity_dominant": pl.Float64,
    "mixed": pl.Float64,
    "quality_dominant": pl.Float64,
}


def regime_rows(lines: Mapping[str, pl.DataFrame], results: pl.DataFrame, scores: SweepScores) -> pl.DataFrame:
    """The regime of each line, by `isocost.economics.regime_posterior`.

    Of a mean over tasks, the items of the tasks are taken together, as many of each as the smallest task has, and seeds
    in their order, as many as every task has.

    Args:
        lines: By method, as of `budget_lines`.
        results: As in the sweep's folder.
        scores: For the answers item by item.

    Returns:
        task, method, weak_price, budget, n_points, regime ("unknown" where none has a probability of .5), its
        probability, and the probabilities of the three; null for a kind of mix of which the line has no point.
    """
    rows: list[dict[str, object]] = []
    accuracies = dict(results.select("run_id", "accuracy").iter_rows())
    tasks = dict(results.select("run_id", "task").iter_rows())
    keys = ("task", "weak_price", "budget")
    for method, frame in lines.items():
        for key, line in frame.group_by(*keys, maintain_order=True):
            points = [
                _line_point(point["weak_fraction"], point["run_ids"], point["n_eval"], accuracies, tasks, scores)
                for point in line.iter_rows(named=True)
            ]
            posterior = regime_posterior(points)
            fractions = line["weak_fraction"]
            # Of a kind of mix that was not measured nothing is known; the posterior counts it as not the best.
            has_weak, has_human = (fractions == 1).any(), (fractions == 0).any()
            has_mixed = ((fractions > 0) & (fractions < 1)).any()
            rows.append(
                {
                    **dict(zip(keys, key, strict=True)),
                    "method": method,
                    "n_points": line.height,
                    "regime": posterior.regime.value,
                    "probability": posterior.probability,
                    "quantity_dominant": posterior.quantity_dominant if has_weak else None,
                    "mixed": posterior.mixed if has_mixed else None,
                    "quality_dominant": posterior.quality_dominant if has_human else None,
                }
            )
    return pl.DataFrame(rows, schema=_SCHEMA).sort("task", "method", "weak_price", "budget")


def _line_point(
    weak_fraction: float,
    run_ids: Sequence[str],
    n_eval: int,
    accuracy_of: Mapping[str, float],
    task_of: Mapping[str, str],
    scores: SweepScores,
) -> LinePoint:
    by_task = scores.by_task(run_ids)
    if by_task:
        n_seeds = min(len(right_sn) for right_sn in by_task.values())
        n_items = min(right_sn.shape[1] for right_sn in by_task.values())
        together = np.concatenate([right_sn[:n_seeds, :n_items] for right_sn in by_task.values()], axis=1)
        return LinePoint.of_answers(weak_fraction, together)
    seeds: dict[str, list[float]] = {}
    for run_id in run_ids:
        seeds.setdefault(task_of[run_id], []).append(accuracy_of[run_id])
    means = [float(np.mean(accuracies)) for accuracies in zip(*seeds.values(), strict=False)]
    return LinePoint(weak_fraction, tuple(means), n_eval)
