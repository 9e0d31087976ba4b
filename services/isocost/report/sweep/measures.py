"""How sure the models of a sweep are, beside how right: AUROC, calibrated accuracy, calibration error, loss."""

from __future__ import annotations

import polars as pl

__all__ = ["MEASURES", "measure_rows"]

#: Each with its interval in the results, but for the loss.
MEASURES = ("accuracy", "auroc", "calibrated_accuracy", "ece")


def measure_rows(best: pl.DataFrame, results: pl.DataFrame) -> pl.DataFrame:
    """The measures of each method's best mix within the largest budget.

    Args:
        best: As of `best_within_budget`.
        results: The sweep's runs.

    Returns:
        task, weak_price, budget, method, n_weak, n_human, n_runs; of each measure its mean over the mix's runs, and as
        its interval the means of the runs' 95 % interval ends: the runs share their test items, whose noise does not
        average out; loss in nats.
    """
    columns = [name for measure in MEASURES for name in (measure, f"{measure}_low", f"{measure}_high")]
    runs = results.select("run_id", *columns, "loss")
    return (
        best.filter(pl.col("budget") == pl.col("budget").max())
        .select("task", "weak_price", "budget", "method", "n_weak", "n_human", pl.col("run_ids").alias("run_id"))
        .explode("run_id")
        .join(runs, on="run_id")
        .group_by("task", "weak_price", "budget", "method", "n_weak", "n_human", maintain_order=True)
        .agg(pl.len().cast(pl.Int64).alias("n_runs"), pl.col(*columns, "loss").mean())
        .sort("task", "weak_price", "method")
    )
