"""The tables of a sweep's report: pure functions of its cells, its grid and the paired tests.

All tables are made within one setting (see `isocost.report.sweep.cells`), for each task and for the mean over tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from isocost.report.sweep.cells import COST_TOLERANCE, mean_over_tasks, with_cost
from isocost.report.sweep.scores import SweepScores, is_separable

__all__ = [
    "BUDGET_SLACK",
    "against_best",
    "best_within_budget",
    "budget_lines",
    "few_shot_rows",
    "frontier_rows",
    "mean_cells",
]

#: A point of a budget's line may cost this much more than the budget: a few-shot block may need a label that the mix
#: does not have.
BUDGET_SLACK = 0.1
#: Families that are preferred where several have as many few-shot settings.
_PLAIN_FAMILIES = ("few_shot_prompting", "weak_sft", "human_sft", "sequential_sft")
#: Columns that every table has.
_POINT = ("accuracy", "accuracy_low", "accuracy_high", "n_weak", "n_human", "n_seeds", "n_eval")


def mean_cells(cells: pl.DataFrame, tasks: Sequence[str]) -> pl.DataFrame:
    """The cells and, where there are several tasks, their means over the tasks, mix by mix."""
    return mean_over_tasks(cells, ("method", "n_weak", "n_human"), len(tasks))


def budget_lines(
    cells: pl.DataFrame, grid: pl.DataFrame, scores: SweepScores, *, method: str, human_price: float
) -> pl.DataFrame:
    """Accuracy along the isocost line of each budget, for one method that uses both kinds of label.

    Args:
        cells: As of `form_cells`.
        grid: As in the sweep's folder.
        scores: For the paired tests.
        method: The method.
        human_price: Of one label.

    Returns:
        task, method, weak_price, budget, weak_fraction, is_capped, cost and its shares, the point, and of the paired
        test with the most accurate point of the same line: is_best, p_value (adjusted for all pairs of the line; null
        for the best) and is_separable (p_value at most .05).
    """
    own = cells.filter(pl.col("method") == method)
    tasks = cells["task"].unique()
    if own.is_empty():
        return _no_lines()
    kind, count = own["few_shot_kind"][0], own["few_shot_count"][0]
    # The few-shot block is paid for even where the mix has no such label.
    n_shown = {"weak": (count, 0), "human": (0, count)}.get(kind, (0, 0))
    # Money for too few labels of a kind goes to the other kind, so that several shares may ask for one end of the line.
    asked = grid.with_columns(
        weak_fraction=pl.when(pl.col("n_human") == 0)
        .then(1.0)
        .when(pl.col("n_weak") == 0)
        .then(0.0)
        .otherwise("weak_fraction"),
        n_weak=pl.max_horizontal("n_weak", pl.lit(n_shown[0])),
        n_human=pl.max_horizontal("n_human", pl.lit(n_shown[1])),
    ).select("task", "weak_price", "budget", "weak_fraction", "is_capped", "n_weak", "n_human")
    asked = asked.unique(["task", "weak_price", "budget", "weak_fraction"], keep="last", maintain_order=True)
    points = asked.join(own, on=["task", "n_weak", "n_human"], how="inner")
    points = mean_over_tasks(points, ("weak_price", "budget", "weak_fraction"), len(tasks))
    costed = [
        with_cost(rows.drop("weak_price"), float(str(price[0])), human_price)
        for price, rows in points.group_by("weak_price", maintain_order=True)
    ]
    if not costed:
        return _no_lines()
    points = (
        pl.concat(costed)
        .filter(pl.col("cost") <= pl.col("budget") * (1 + BUDGET_SLACK))
        .sort("task", "weak_price", "budget", "weak_fraction")
    )
    tested = [against_best(line, scores) for _, line in points.group_by("task", "weak_price", "budget")]
    if not tested:
        return _no_lines()
    return (
        pl.concat(tested)
        .select(
            "task", "method", "weak_price", "budget", "weak_fraction", "is_capped", "cost", "weak_cost_share",
            "weak_label_share", *_POINT, "is_best", "p_value", "is_separable", "run_ids",
        )
        .sort("task", "weak_price", "budget", "weak_fraction")
    )  # fmt: skip


def _no_lines() -> pl.DataFrame:
    reals = ("weak_price", "budget", "weak_fraction", "cost", "weak_cost_share", "weak_label_share", "accuracy",
             "accuracy_low", "accuracy_high", "p_value")  # fmt: skip
    return pl.DataFrame(
        schema={
            "task": pl.String,
            "method": pl.String,
            "is_capped": pl.Boolean,
            **dict.fromkeys(reals, pl.Float64),
            **dict.fromkeys(("n_weak", "n_human", "n_seeds", "n_eval"), pl.Int64),
            "is_best": pl.Boolean,
            "is_separable": pl.Boolean,
            "run_ids": pl.List(pl.String),
        }
    )


def against_best(rows: pl.DataFrame, scores: SweepScores) -> pl.DataFrame:
    """Each row tested against the most accurate one; of equal ones, the cheapest is the best.

    Returns:
        The rows with is_best, p_value (adjusted for all pairs of rows; null for the best) and is_separable.
    """
    order = rows.with_row_index("index").sort(-pl.col("accuracy"), "cost", "n_human")
    best = int(order["index"][0])
    return rows.with_columns(
        pl.Series("is_best", [index == best for index in range(rows.height)]),
        pl.Series("p_value", scores.p_values_of_best(rows["run_ids"].to_list(), best), dtype=pl.Float64),
    ).with_columns(is_separable=is_separable("p_value"))


def best_within_budget(
    means: pl.DataFrame,
    scores: SweepScores,
    *,
    weak_prices: Sequence[float],
    budgets: Sequence[float],
    human_price: float,
) -> pl.DataFrame:
    """The best mix of each method within each budget, and the paired test of each method with the best method.

    Args:
        means: As of `mean_cells`.
        scores: For the paired tests.
        weak_prices, budgets, human_price: In units of currency. A mix is within a budget if it costs no more.

    Returns:
        task, weak_price, budget, method, the point, its cost and shares; accuracy_elsewhere, the accuracy where the mix
        is chosen on one half of the items and measured on the other (null without predictions); is_best, p_value
        (adjusted for all pairs of methods) and is_separable from the best.
    """
    found = []
    for weak_price in weak_prices:
        costed = with_cost(means, weak_price, human_price)
        for budget in budgets:
            within = costed.filter(pl.col("cost") <= budget * (1 + COST_TOLERANCE))
            best = (
                within.sort(-pl.col("accuracy"), "cost", "n_human")
                .group_by("task", "method", maintain_order=True)
                .first()
                .with_columns(budget=pl.lit(float(budget)))
            )
            elsewhere = [
                scores.chosen_on_half(_candidates(within, row)["run_ids"].to_list())
                for row in best.iter_rows(named=True)
            ]
            best = best.with_columns(pl.Series("accuracy_elsewhere", elsewhere, dtype=pl.Float64))
            found += [against_best(rows, scores) for _, rows in best.group_by("task", maintain_order=True)]
    if not found:
        return _no_lines().drop("weak_fraction", "is_capped").with_columns(accuracy_elsewhere=pl.lit(None, pl.Float64))
    return (
        pl.concat(found)
        .select(
            "task", "weak_price", "budget", "method", "cost", "weak_cost_share", "weak_label_share", *_POINT,
            "accuracy_elsewhere", "is_best", "p_value", "is_separable", "run_ids",
        )
        .sort("task", "weak_price", "budget", "method")
    )  # fmt: skip


def _candidates(within: pl.DataFrame, row: dict[str, object]) -> pl.DataFrame:
    """Mixes of a method, the cheapest first: choosing must not know the accuracy on all items."""
    own = within.filter(pl.col("task") == row["task"], pl.col("method") == row["method"])
    return own.sort("cost", "n_human")


def frontier_rows(
    means: pl.DataFrame, scores: SweepScores, *, weak_prices: Sequence[float], human_price: float
) -> pl.DataFrame:
    """The frontier of each method: the mixes that no other of the method beats in both cost and accuracy.

    Returns:
        task, weak_price, method, cost and its shares, the point, and of the paired test with the last proven point
        before it on the same frontier: p_value (adjusted; null for the first) and is_separable, which makes the point
        a proven one. The first point, which has nothing cheaper to be told from, counts as one.
    """
    found = []
    for weak_price in weak_prices:
        costed = with_cost(means, weak_price, human_price).sort("task", "method", "cost", -pl.col("accuracy"))
        rising = costed.filter(
            pl.col("accuracy") > pl.col("accuracy").cum_max().shift(1).over("task", "method").fill_null(float("-inf"))
        )
        found += [_against_cheaper(rows, scores) for _, rows in rising.group_by("task", "method", maintain_order=True)]
    if not found:
        return _no_lines().drop("weak_fraction", "is_capped", "budget", "is_best")
    return (
        pl.concat(found)
        .select(
            "task", "weak_price", "method", "cost", "weak_cost_share", "weak_label_share", *_POINT, "p_value",
            "is_separable", "run_ids",
        )
        .sort("task", "weak_price", "method", "cost")
    )  # fmt: skip


def _against_cheaper(rows: pl.DataFrame, scores: SweepScores) -> pl.DataFrame:
    first = pl.int_range(pl.len()) == 0
    return rows.with_columns(
        pl.Series("p_value", scores.p_values_of_steps(rows["run_ids"].to_list()), dtype=pl.Float64),
    ).with_columns(is_separable=first | is_separable("p_value"))


def few_shot_rows(means: pl.DataFrame) -> pl.DataFrame:
    """Cells by few-shot setting and by the kind of label fine-tuned on: none, weak or human, never both.

    Sequential and joint methods with labels of one kind only count as SFT on that kind; of each kind, the family with
    the most few-shot settings is taken. Labels that the few-shot block shows and that are not trained on do not count.

    Returns:
        task, sft_kind ("none", "weak", "human"), few_shot_count, few_shot_kind, n_sft, the point.
    """
    has_weak, has_human = pl.col("n_weak_trained") > 0, pl.col("n_human_trained") > 0
    kinds = means.filter(~(has_weak & has_human)).with_columns(
        sft_kind=pl.when(has_weak).then(pl.lit("weak")).when(has_human).then(pl.lit("human")).otherwise(pl.lit("none")),
        n_sft=pl.col("n_weak_trained") + pl.col("n_human_trained"),
    )
    # One family of methods a kind: another loss or sampling would be another comparison.
    families = (
        kinds.group_by("sft_kind", "family")
        .agg(pl.struct("few_shot_count", "few_shot_kind").n_unique().alias("n_settings"), pl.len().alias("n_rows"))
        .sort("n_settings", pl.col("family").is_in(_PLAIN_FAMILIES), "n_rows", "family", descending=True)
        .unique("sft_kind", keep="first", maintain_order=True)
    )
    return (
        kinds.join(families, on=["sft_kind", "family"], how="semi")
        .unique(["task", "sft_kind", "few_shot_count", "few_shot_kind", "n_sft"], keep="first", maintain_order=True)
        .select("task", "sft_kind", "few_shot_count", "few_shot_kind", "n_sft", "method", *_POINT)
        .sort("task", "sft_kind", "few_shot_count", "few_shot_kind", "n_sft")
    )
