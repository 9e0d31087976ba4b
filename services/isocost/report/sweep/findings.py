"""Everything that a sweep's report says, worked out from its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from isocost.core.errors import FailedPreconditionError
from isocost.report.sweep.cells import Setting, form_cells, mixed_methods, scopes, settings
from isocost.report.sweep.contests import Contest, labeller_contests, model_contests
from isocost.report.sweep.measures import measure_rows
from isocost.report.sweep.regimes import regime_rows
from isocost.report.sweep.scores import SweepScores, read_scores
from isocost.report.sweep.source import SweepSource, read_source
from isocost.report.sweep.tables import best_within_budget, budget_lines, few_shot_rows, frontier_rows, mean_cells

__all__ = ["SettingFindings", "SweepFindings", "find"]


@dataclass(frozen=True, slots=True)
class SettingFindings:
    """What one strong model reached with the labels of one weak labeller (see `isocost.report.sweep.tables`).

    Attributes:
        setting: Which.
        scopes: The mean over tasks where there are several, then the tasks.
        method: The method that uses both kinds of label and is shown first; of a sweep without one, the method with
            the most mixes.
        lines: By method that uses both kinds of label, accuracy along the budgets' lines.
        best: The best mix of each method within each budget.
        frontier: Cost against accuracy.
        few_shot: Cells by few-shot setting and kind of label fine-tuned on.
        regimes: Regime and its probability by method, weak price and budget.
        measures: AUROC, calibration and loss of each method's best mix within the largest budget.
    """

    setting: Setting
    scopes: tuple[str, ...]
    method: str
    lines: Mapping[str, pl.DataFrame]
    best: pl.DataFrame
    frontier: pl.DataFrame
    few_shot: pl.DataFrame
    regimes: pl.DataFrame
    measures: pl.DataFrame

    @property
    def n_few_shot_settings(self) -> int:
        """How many few-shot settings (count and kind) there are, none included."""
        return self.few_shot.select("few_shot_count", "few_shot_kind").n_unique()


@dataclass(frozen=True, slots=True)
class SweepFindings:
    """What a sweep showed.

    Attributes:
        source: The sweep.
        settings: One for each strong model and weak labeller, the one with the most runs first.
        labeller_contests, model_contests: Empty where there is one weak labeller, or one strong model.
        measured: By task, strong model and weak labeller: runs, seeds, test items, accuracy of the weak labels.
        failed: Runs that did not succeed, with the reason.
        cautions: What a reader must know to read the figures right, in plain words.
    """

    source: SweepSource
    settings: tuple[SettingFindings, ...]
    labeller_contests: tuple[Contest, ...]
    model_contests: tuple[Contest, ...]
    measured: pl.DataFrame
    failed: pl.DataFrame
    cautions: tuple[str, ...]

    def settings_index(self, setting: Setting) -> int:
        """The place of a setting among all, from 0."""
        return [finding.setting for finding in self.settings].index(setting)


def find(folder: Path) -> SweepFindings:
    """Reads a sweep's folder and works out its report.

    Raises:
        InvalidArgumentError: where the folder holds no sweep that can be read.
        FailedPreconditionError: where no run of it has succeeded.
    """
    source = read_source(folder)
    succeeded = source.results.filter(pl.col("state") == "succeeded")
    if succeeded.is_empty():
        raise FailedPreconditionError(
            f"no run of the sweep in {str(folder)!r} has succeeded; see the column error of results.parquet"
        )
    scores = read_scores(folder, succeeded)
    found = tuple(_setting_findings(source, setting, scores) for setting in settings(succeeded))
    best = {finding.setting: finding.best for finding in found}
    methods = {finding.setting: finding.method for finding in found}
    return SweepFindings(
        source=source,
        settings=found,
        labeller_contests=tuple(labeller_contests(best, methods, scores)),
        model_contests=tuple(model_contests(best, methods, scores)),
        measured=_measured(source.results),
        failed=source.results.filter(pl.col("state") != "succeeded")
        .select(
            "run_id", "task", "strong_model", "weak_labeller", "method", "n_weak", "n_human", "seed", "state", "error"
        )
        .sort("task", "method", "n_weak", "n_human", "seed"),
        cautions=tuple(_cautions(source, scores)),
    )


def _setting_findings(source: SweepSource, setting: Setting, scores: SweepScores) -> SettingFindings:
    cells = form_cells(source.results, setting)
    tasks = sorted(cells["task"].unique())
    means = mean_cells(cells, tasks)
    mixed = mixed_methods(cells)
    grid = source.grid.filter(pl.col("task").is_in(tasks))
    lines = {
        method: budget_lines(cells, grid, scores, method=method, human_price=source.human_price) for method in mixed
    }
    best = best_within_budget(
        means,
        scores,
        weak_prices=source.weak_prices,
        budgets=source.budgets,
        human_price=source.human_price,
    )
    most_mixes = cells.group_by("method").len().sort(-pl.col("len").cast(pl.Int64), "method")["method"]
    return SettingFindings(
        setting=setting,
        scopes=tuple(scopes(tasks)),
        method=mixed[0] if mixed else str(most_mixes[0]),
        lines=lines,
        best=best,
        frontier=frontier_rows(means, scores, weak_prices=source.weak_prices, human_price=source.human_price),
        few_shot=few_shot_rows(means),
        regimes=regime_rows(lines, source.results, scores),
        measures=measure_rows(best, source.results),
    )


def _measured(results: pl.DataFrame) -> pl.DataFrame:
    has_succeeded = pl.col("state") == "succeeded"
    return (
        results.group_by("task", "strong_model", "weak_labeller")
        .agg(
            has_succeeded.sum().cast(pl.Int64).alias("n_succeeded"),
            has_succeeded.not_().sum().cast(pl.Int64).alias("n_failed"),
            pl.col("seed").filter(has_succeeded).n_unique().cast(pl.Int64).alias("n_seeds"),
            pl.col("n_eval").filter(has_succeeded).min().alias("n_eval"),
            pl.col("weak_label_accuracy").filter(has_succeeded).mean().alias("weak_label_accuracy"),
            (pl.col("seconds").fill_null(0).sum() / 3600).alias("training_hours"),
        )
        .sort("task", "strong_model", "weak_labeller")
    )


def _cautions(source: SweepSource, scores: SweepScores) -> Sequence[str]:
    succeeded = source.results.filter(pl.col("state") == "succeeded")
    said = [
        (
            "The best mixes are chosen in hindsight, on the same test items that measure them: their accuracy is a"
            " little too high. The figure after the arrow is that of choosing on half of the items and measuring on the"
            " others."
        ),
        (
            "Costs are those of the labels that a method trains on or shows. Making the weak labeller, computing, and"
            " the labels of the test items are not in them."
        ),
    ]
    seeds = succeeded.group_by("task", "strong_model", "weak_labeller", "method", "n_weak", "n_human").len()["len"]
    n_single = int((seeds == 1).sum())
    if n_single:
        which = "Every mix" if n_single == len(seeds) else f"{n_single:,} of {len(seeds):,} mixes"
        said.append(f"{which} ran with one seed: how far another would differ is not in the intervals.")
    n_capped = source.grid.filter("is_capped").height
    if n_capped:
        said.append(
            f"{n_capped:,} of {source.grid.height:,} grid points ask for more labels than the pool holds: they cost"
            " less than their budget, and stand at the share that was asked for."
        )
    if len(source.tasks) > 1:
        said.append("Means over tasks are of mixes that every task has; tasks weigh alike.")
    n_untested = succeeded.height - scores.n_runs
    if n_untested:
        said.append(f"{n_untested:,} runs have no predictions: their points are not tested and count as not separable.")
    n_failed = source.results.height - succeeded.height
    if n_failed:
        said.append(f"{n_failed:,} of {source.results.height:,} runs did not succeed and are left out; see the end.")
    return said
