"""A sweep's folder, read for its report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from isocost.core.errors import InvalidArgumentError
from isocost.sweep.results import GRID_FILE, RESULTS_FILE, is_sweep, read_sweep

__all__ = ["SweepSource", "is_sweep", "read_source"]

#: Columns that the report reads.
_COLUMNS = {
    RESULTS_FILE: (
        "run_id", "task", "weak_labeller", "strong_model", "method", "family", "sft", "few_shot_count", "few_shot_kind",
        "n_weak", "n_human", "n_weak_trained", "n_human_trained", "seed", "state", "error", "n_eval", "accuracy",
        "weak_label_accuracy", "seconds",
    ),
    GRID_FILE: ("task", "weak_price", "budget", "weak_fraction", "n_weak", "n_human", "is_capped"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class SweepSource:
    """A sweep as its folder holds it.

    Attributes:
        folder: Where it lies.
        name: Of the sweep.
        currency: ISO 4217 code of all prices and budgets.
        human_price: Of one human label, in units of currency.
        weak_prices: Of one weak label, in units of currency, falling.
        budgets: In units of currency, rising.
        results: One row a run, failed ones too.
        grid: One row a point of the grid that was asked for.
    """

    folder: Path
    name: str
    currency: str
    human_price: float
    weak_prices: tuple[float, ...]
    budgets: tuple[float, ...]
    results: pl.DataFrame
    grid: pl.DataFrame

    @property
    def tasks(self) -> list[str]:
        """The tasks that have a run that succeeded."""
        return sorted(self.results.filter(pl.col("state") == "succeeded")["task"].unique())


def read_source(folder: Path) -> SweepSource:
    """Reads a sweep's folder.

    Raises:
        InvalidArgumentError: where it holds no sweep, or one of another version, or no run of it has ended yet.
    """
    stated = read_sweep(folder)
    frames = {}
    for name in (RESULTS_FILE, GRID_FILE):
        if not (folder / name).is_file():
            raise InvalidArgumentError("DIR", f"{str(folder)!r} has no {name} yet; let the sweep's first runs end")
        frames[name] = pl.read_parquet(folder / name)
        missing = [column for column in _COLUMNS[name] if column not in frames[name].columns]
        if missing:
            raise InvalidArgumentError(
                "DIR", f"{str(folder / name)!r} has no column {missing[0]!r}; run the sweep again with this isocost"
            )
    return SweepSource(
        folder=folder,
        name=stated["name"],
        currency=stated["currency"],
        human_price=float(stated["human_price"]),
        weak_prices=tuple(sorted((float(price) for price in stated["weak_prices"]), reverse=True)),
        budgets=tuple(sorted(float(budget) for budget in stated["budgets"])),
        results=frames[RESULTS_FILE],
        grid=frames[GRID_FILE],
    )
