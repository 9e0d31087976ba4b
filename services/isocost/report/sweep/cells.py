"""The cells of a sweep: what each method reached with each mix of labels, over seeds and over tasks.

A cell is one task, one method and one mix (n_weak, n_human); its accuracy is the mean over its seeds. Cells are formed
within a setting: one strong model, and one weak labeller whose labels are used. Runs that use no weak label belong to
every weak labeller of their strong model.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from isocost.economics.interval import Z_95, wilson_interval

__all__ = [
    "ALL_TASKS",
    "CELL_KEYS",
    "Setting",
    "form_cells",
    "mean_over_tasks",
    "mixed_methods",
    "scopes",
    "settings",
    "with_cost",
]

#: Task of a row that is the mean over all tasks.
ALL_TASKS = "mean"
#: What names a cell within its setting.
CELL_KEYS = ("task", "method", "n_weak", "n_human")
#: Columns that a method and its mix fix.
_METHOD_COLUMNS = ("family", "sft", "few_shot_count", "few_shot_kind", "n_weak_trained", "n_human_trained")
#: SFT kinds that train on both kinds of label.
_MIXED_SFT = ("weak>human", "weak+human")
#: Money is compared up to rounding of floating-point products.
COST_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True, order=True)
class Setting:
    """One strong model and one weak labeller.

    Attributes:
        strong_model: Folder or name of the model.
        weak_labeller: Name of the labeller, "" in a sweep without weak labels.
    """

    strong_model: str
    weak_labeller: str

    @property
    def title(self) -> str:
        """In words, without the folders that models lie in."""
        model = self.strong_model.rstrip("/").rsplit("/", 1)[-1]
        return f"{model}, weak labels from {self.weak_labeller}" if self.weak_labeller else model


def settings(results: pl.DataFrame) -> list[Setting]:
    """The settings of a sweep, the one with the most runs first."""
    counted = (
        results.group_by("strong_model", "weak_labeller")
        .len()
        .sort(pl.col("weak_labeller") == "", -pl.col("len").cast(pl.Int64), "strong_model", "weak_labeller")
    )
    pairs = [(row["strong_model"], row["weak_labeller"]) for row in counted.iter_rows(named=True)]
    with_labeller = {model for model, labeller in pairs if labeller}
    return [Setting(model, labeller) for model, labeller in pairs if labeller or model not in with_labeller]


def _spread(accuracies: Sequence[float], n_eval: int) -> tuple[float, float, float]:
    """Mean over seeds with the interval of `isocost.economics.frontier.average_seeds`."""
    accuracy = statistics.fmean(accuracies)
    low, high = wilson_interval(accuracy, n_eval)
    n_seeds = len(accuracies)
    seed_half = Z_95 * statistics.stdev(accuracies) / math.sqrt(n_seeds) if n_seeds > 1 else 0.0
    return (
        accuracy,
        max(0.0, accuracy - math.hypot(accuracy - low, seed_half)),
        min(1.0, accuracy + math.hypot(high - accuracy, seed_half)),
    )


def form_cells(results: pl.DataFrame, setting: Setting) -> pl.DataFrame:
    """One row a cell of the setting, of the runs that succeeded.

    Returns:
        `CELL_KEYS`; family, sft, few_shot_count, few_shot_kind, n_weak_trained, n_human_trained; accuracy,
        accuracy_low, accuracy_high (95 %: Wilson interval and seeds' standard error in quadrature); n_seeds; n_eval;
        run_ids (in order of seed).
    """
    rows = results.filter(
        pl.col("state") == "succeeded",
        pl.col("strong_model") == setting.strong_model,
        pl.col("weak_labeller").is_in(["", setting.weak_labeller]),
        pl.col("accuracy").is_not_null(),
        pl.col("n_eval") > 0,
    )
    grouped = (
        rows.sort("seed", "run_id")
        .group_by(*CELL_KEYS, maintain_order=True)
        .agg(
            *(pl.col(name).first() for name in _METHOD_COLUMNS),
            pl.col("accuracy").alias("accuracies"),
            pl.col("n_eval").min(),
            pl.len().cast(pl.Int64).alias("n_seeds"),
            pl.col("run_id").alias("run_ids"),
        )
        .sort(*CELL_KEYS)
    )
    spreads = [_spread(row["accuracies"], row["n_eval"]) for row in grouped.iter_rows(named=True)]
    return grouped.drop("accuracies").with_columns(
        pl.Series(name, [spread[index] for spread in spreads], dtype=pl.Float64)
        for index, name in enumerate(("accuracy", "accuracy_low", "accuracy_high"))
    )


def mean_over_tasks(rows: pl.DataFrame, by: Sequence[str], n_tasks: int) -> pl.DataFrame:
    """The rows, and where there are several tasks, the mean over them as task `ALL_TASKS`.

    A mean is formed where every task has the row; tasks have different test items, so half-widths add in quadrature.

    Args:
        rows: As of `form_cells`; further columns are kept where they are the same in all tasks.
        by: Columns that are averaged within, without task.
        n_tasks: Tasks of the sweep.
    """
    if n_tasks < 2:
        return rows
    averaged = ("accuracy", "accuracy_low", "accuracy_high")
    extra = [name for name in rows.columns if name not in {*by, *averaged, "task", "run_ids", "n_seeds", "n_eval"}]
    mean = pl.col("accuracy").mean()
    means = (
        rows.group_by(*by, maintain_order=True)
        .agg(
            pl.lit(ALL_TASKS).alias("task"),
            mean,
            mean.sub((pl.col("accuracy") - pl.col("accuracy_low")).pow(2).sum().sqrt() / n_tasks).alias("accuracy_low"),
            mean.add((pl.col("accuracy_high") - pl.col("accuracy")).pow(2).sum().sqrt() / n_tasks).alias(
                "accuracy_high"
            ),
            pl.col("n_seeds").min(),
            pl.col("n_eval").sum(),
            pl.col("run_ids").explode(),
            pl.col("task").n_unique().alias("tasks_found"),
            *(pl.col(name).max() for name in extra),
        )
        .filter(pl.col("tasks_found") == n_tasks)
        .select(rows.columns)
    )
    return pl.concat([means, rows])


def scopes(tasks: Sequence[str]) -> list[str]:
    """What tables are made for: the mean where there are several tasks, then each task."""
    return [*([ALL_TASKS] if len(tasks) > 1 else []), *tasks]


def mixed_methods(cells: pl.DataFrame) -> list[str]:
    """Methods that train on both kinds of label: plain sequential SFT first, then those with the most cells."""
    mixed = cells.filter(pl.col("sft").is_in(_MIXED_SFT))
    counted = (
        mixed.group_by("method")
        .agg(pl.len(), pl.col("family").first(), pl.col("sft").first(), pl.col("few_shot_count").first())
        .sort(
            pl.col("family") != "sequential_sft",
            pl.col("few_shot_count") > 0,
            pl.col("sft") != "weak>human",
            -pl.col("len").cast(pl.Int64),
            "method",
        )
    )
    return [str(name) for name in counted["method"]]


def with_cost(rows: pl.DataFrame, weak_price: float, human_price: float) -> pl.DataFrame:
    """Adds what the labels cost and the weak labels' share of it and of their number, 0 where nothing was bought."""
    weak_cost = pl.col("n_weak") * weak_price
    n_labels = pl.col("n_weak") + pl.col("n_human")
    return rows.with_columns(
        pl.lit(weak_price).alias("weak_price"), cost=weak_cost + pl.col("n_human") * human_price
    ).with_columns(
        weak_cost_share=pl.when(pl.col("cost") > 0).then(weak_cost / pl.col("cost")).otherwise(0.0),
        weak_label_share=pl.when(n_labels > 0).then(pl.col("n_weak") / n_labels).otherwise(0.0),
    )
