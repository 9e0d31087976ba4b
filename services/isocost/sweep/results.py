"""The files that a sweep leaves, and reading them back. Each is whole or not there, whatever ends the process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from isocost.core.errors import InvalidArgumentError
from isocost.core.ids import content_digest
from isocost.resources.run import Prediction, Run, RunState
from isocost.sweep.grid import GridPoint
from isocost.sweep.plan import SweepPlan
from isocost.sweep.points import TEST_SET, PlannedRun

__all__ = [
    "GRID_FILE",
    "PREDICTIONS",
    "RESULTS_FILE",
    "SWEEP_FILE",
    "ResultRow",
    "failed_row",
    "is_sweep",
    "predictions_path",
    "read_results",
    "read_sweep",
    "result_row",
    "write_grid",
    "write_predictions",
    "write_results",
    "write_sweep",
]

SWEEP_FILE = "sweep.json"
RESULTS_FILE = "results.parquet"
GRID_FILE = "grid.parquet"
PREDICTIONS = "predictions"
_KIND, _VERSION = "isocost-sweep", 1

#: What an evaluation says, in the order of the columns.
_MEASURES = (
    "accuracy", "accuracy_low", "accuracy_high",
    "auroc", "auroc_low", "auroc_high",
    "calibrated_accuracy", "calibrated_accuracy_low", "calibrated_accuracy_high",
    "ece", "ece_low", "ece_high",
    "loss",
)  # fmt: skip
_RESULTS: dict[str, Any] = {
    "run_id": pl.String,
    "task": pl.String,
    "weak_labeller": pl.String,
    "strong_model": pl.String,
    "method": pl.String,
    "family": pl.String,
    "sft": pl.String,
    "few_shot_count": pl.Int64,
    "few_shot_kind": pl.String,
    "n_weak": pl.Int64,
    "n_human": pl.Int64,
    "n_weak_trained": pl.Int64,
    "n_human_trained": pl.Int64,
    "seed": pl.Int64,
    "state": pl.String,
    "error": pl.String,
    "n_eval": pl.Int64,
    **dict.fromkeys(_MEASURES, pl.Float64),
    "weak_label_accuracy": pl.Float64,
    "seconds": pl.Float64,
}
_GRID: dict[str, Any] = {
    "task": pl.String,
    "weak_price": pl.Float64,
    "budget": pl.Float64,
    "weak_fraction": pl.Float64,
    "n_weak": pl.Int64,
    "n_human": pl.Int64,
    "is_capped": pl.Boolean,
}
_PREDICTIONS: dict[str, Any] = {"item_id": pl.String, "probabilities": pl.List(pl.Float64), "choice": pl.Int64}


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One run as the results hold it.

    Attributes:
        run_id: The trainer's; made up where the run never reached it.
        task, weak_labeller, strong_model, method, family, sft, few_shot_count, few_shot_kind, seed: What was run.
        n_weak, n_human: Labels bought: trained on or shown.
        n_weak_trained, n_human_trained: Of them, trained on.
        state: "succeeded", "failed" or "cancelled".
        error: Why it has no result.
        n_eval: Test items; 0 without a result.
        measures: By name of an evaluation's measure, its value; None without a result.
        weak_label_accuracy: Of the weak labels of its labeller and seed; None where it uses none.
        seconds: Of training; 0 where all stages were there already.
    """

    run_id: str
    task: str
    weak_labeller: str
    strong_model: str
    method: str
    family: str
    sft: str
    few_shot_count: int
    few_shot_kind: str
    n_weak: int
    n_human: int
    n_weak_trained: int
    n_human_trained: int
    seed: int
    state: str
    error: str
    n_eval: int
    measures: dict[str, float | None]
    weak_label_accuracy: float | None
    seconds: float

    @property
    def key(self) -> tuple[object, ...]:
        """What names the run in its sweep, before the trainer does."""
        return (self.task, self.weak_labeller, self.strong_model, self.method, self.n_weak, self.n_human, self.seed)


def _row(
    planned: PlannedRun, *, run_id: str, state: RunState, error: str, run: Run | None, weak_label_accuracy: float | None
) -> ResultRow:
    evaluation = run.evaluation(TEST_SET) if run is not None and run.state is RunState.SUCCEEDED else None
    variant = planned.variant
    return ResultRow(
        run_id=run_id,
        task=planned.task,
        weak_labeller=planned.weak_labeller,
        strong_model=planned.strong.model,
        method=variant.name,
        family=variant.family,
        sft=variant.preset.sft,
        few_shot_count=variant.few_shot_count,
        few_shot_kind=variant.few_shot_kind.name.lower() if variant.few_shot_kind else "",
        n_weak=planned.bought.n_weak,
        n_human=planned.bought.n_human,
        n_weak_trained=planned.trained.n_weak,
        n_human_trained=planned.trained.n_human,
        seed=planned.seed,
        state=state.name.lower(),
        error=error,
        n_eval=evaluation.n_eval if evaluation else 0,
        measures={name: float(getattr(evaluation, name)) if evaluation else None for name in _MEASURES},
        weak_label_accuracy=weak_label_accuracy if planned.bought.n_weak else None,
        seconds=sum(stage.seconds for stage in run.stages) if run else 0.0,
    )


def result_row(planned: PlannedRun, run: Run, weak_label_accuracy: float | None) -> ResultRow:
    """The row of a run that ended, well or not."""
    return _row(
        planned,
        run_id=run.run_id or _made_up_id(planned),
        state=run.state,
        error=run.error,
        run=run,
        weak_label_accuracy=weak_label_accuracy,
    )


def failed_row(planned: PlannedRun, error: str) -> ResultRow:
    """The row of a run that could not be asked for."""
    return _row(
        planned,
        run_id=_made_up_id(planned),
        state=RunState.FAILED,
        error=error,
        run=None,
        weak_label_accuracy=None,
    )


def _made_up_id(planned: PlannedRun) -> str:
    key = [planned.task, planned.weak_labeller, planned.strong.model, planned.variant.name, planned.seed]
    return f"refused-{content_digest([*key, planned.bought.n_weak, planned.bought.n_human])}"


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Has a file written beside its place, and moves it there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    write(partial)
    partial.replace(path)


def _description(plan: SweepPlan) -> dict[str, Any]:
    """What sweep.json says: the grid's axes, the spec with all defaults, and the items of each task."""
    config = plan.config
    return {
        "kind": _KIND,
        "version": _VERSION,
        "name": config.sweep,
        "currency": config.currency,
        "human_price": float(config.human_price),
        "weak_prices": [float(price) for price in config.weak_prices],
        "budgets": [float(budget) for budget in config.budgets],
        "weak_fractions": [float(fraction) for fraction in config.weak_fractions],
        "spec": config.model_dump(mode="json"),
        "tasks": {
            name: {
                "n_test": len(pool.test),
                "n_gold": len(pool.gold),
                "n_human_max": pool.limits.n_human,
                "n_weak_max": pool.limits.n_weak,
            }
            for name, pool in plan.pools.items()
        },
    }


def write_sweep(folder: Path, plan: SweepPlan) -> bool:
    """Writes sweep.json; returns whether the folder held the very same sweep before."""
    description = _description(plan)
    is_same = is_sweep(folder) and json.loads((folder / SWEEP_FILE).read_text(encoding="utf-8")) == description
    text = json.dumps(description, indent=2, ensure_ascii=False) + "\n"
    _replace(folder / SWEEP_FILE, lambda path: path.write_text(text, encoding="utf-8"))
    return is_same


def write_grid(folder: Path, plan: SweepPlan) -> None:
    """Writes grid.parquet: one row a point."""
    rows = [_grid_row(task, point) for task, points in plan.grids.items() for point in points]
    frame = pl.DataFrame(rows, schema=_GRID, orient="row")
    _replace(folder / GRID_FILE, frame.write_parquet)


def _grid_row(task: str, point: GridPoint) -> tuple[object, ...]:
    prices = (float(point.weak_price), float(point.budget), float(point.weak_fraction))
    return (task, *prices, point.mix.n_weak, point.mix.n_human, point.is_capped)


def write_results(folder: Path, rows: Iterable[ResultRow]) -> None:
    """Writes results.parquet: one row a run that ended."""
    flat = []
    for row in rows:
        values = asdict(row)
        flat.append({**values, **values.pop("measures")})
    _replace(folder / RESULTS_FILE, pl.DataFrame(flat, schema=_RESULTS).write_parquet)


def read_results(folder: Path) -> list[ResultRow]:
    """The runs that results.parquet holds; none where it is not there."""
    path = folder / RESULTS_FILE
    if not path.is_file():
        return []
    rows = []
    for values in pl.read_parquet(path).iter_rows(named=True):
        measures = {name: values.pop(name) for name in _MEASURES}
        rows.append(ResultRow(**values, measures=measures))
    return rows


def predictions_path(folder: Path, run_id: str) -> Path:
    """Where a run's predictions are."""
    return folder / PREDICTIONS / f"{run_id}.parquet"


def write_predictions(folder: Path, run_id: str, predictions: Sequence[Prediction]) -> None:
    """Writes a run's predictions for the test, in its order."""
    frame = pl.DataFrame(
        {
            "item_id": [prediction.item_id for prediction in predictions],
            "probabilities": [list(prediction.probabilities) for prediction in predictions],
            "choice": [prediction.choice for prediction in predictions],
        },
        schema=_PREDICTIONS,
    )
    _replace(predictions_path(folder, run_id), frame.write_parquet)


def is_sweep(folder: Path) -> bool:
    """Whether the folder holds a sweep."""
    return (folder / SWEEP_FILE).is_file()


def read_sweep(folder: Path) -> dict[str, Any]:
    """What sweep.json says.

    Raises:
        InvalidArgumentError: where the folder holds no sweep, or one of another version.
    """
    if not is_sweep(folder):
        raise InvalidArgumentError(
            "DIR", f"{str(folder)!r} holds no sweep; give the folder that `isocost sweep` wrote to"
        )
    stated: dict[str, Any] = json.loads((folder / SWEEP_FILE).read_text(encoding="utf-8"))
    if (stated.get("kind"), stated.get("version")) != (_KIND, _VERSION):
        raise InvalidArgumentError(
            "DIR", f"{str(folder / SWEEP_FILE)!r} is not a sweep of version {_VERSION}; use the isocost that wrote it"
        )
    return stated
