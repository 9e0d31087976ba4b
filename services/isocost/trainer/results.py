"""What finished runs showed: their predictions, and the frontier over several of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from isocost.core.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from isocost.core.money import Money
from isocost.economics.frontier import CostedPoint, ObservedPoint, average_seeds, pareto
from isocost.resources.observation import FrontierPoint
from isocost.resources.run import Prediction, Run, RunState

__all__ = ["frontier", "prediction_batches"]

#: Predictions handed over at a time.
_BATCH_ROWS = 2_000


def frontier(runs: Sequence[Run], evaluation_set: str, weak_price: Money, human_price: Money) -> list[FrontierPoint]:
    """The Pareto set of cost and accuracy over runs that succeeded, cheapest first; others are left out.

    Seeds are averaged among runs of one method, mix, base model and list of weak labels. Each run counts once.

    Raises:
        InvalidArgumentError: names what is wrong: no run, prices in two currencies or below zero, an evaluation set
            that a run lacks, or that is not the same one for all.
    """
    if not runs:
        raise InvalidArgumentError("run_ids", "empty; name at least one run")
    if weak_price.currency_code != human_price.currency_code:
        raise InvalidArgumentError(
            "human_price", f"in {human_price.currency_code}, but weak_price is in {weak_price.currency_code}; use one"
        )
    for name, price in (("weak_price", weak_price), ("human_price", human_price)):
        if price.micros < 0:
            raise InvalidArgumentError(name, "negative")
    groups: dict[tuple[str, str], list[ObservedPoint]] = defaultdict(list)
    digests = set()
    for run in {run.run_id: run for run in runs if run.state is RunState.SUCCEEDED}.values():
        spec, evaluation = run.spec, run.evaluation(evaluation_set)
        if evaluation is None:
            raise InvalidArgumentError("evaluation_set", f"run {run.run_id!r} was not measured on {evaluation_set!r}")
        digests |= {(spec.task.name, part.digest) for part in spec.evaluation_sets if part.name == evaluation_set}
        groups[spec.base_model, spec.weak_digest if spec.n_weak else ""].append(
            ObservedPoint(
                spec.method.name, spec.n_weak, spec.n_human, spec.seed, evaluation.accuracy, evaluation.n_eval
            )
        )
    if len(digests) > 1:
        raise InvalidArgumentError(
            "evaluation_set", f"{evaluation_set!r} is not the same task and items in all runs; ask for each apart"
        )
    points: list[CostedPoint] = []
    for group in groups.values():
        points += average_seeds(group, weak_price_micros=weak_price.micros, human_price_micros=human_price.micros)
    return [FrontierPoint.of(point, weak_price.currency_code) for point in pareto(points)]


def prediction_batches(runs_dir: Path, run: Run, evaluation_set: str) -> Iterator[list[Prediction]]:
    """A run's predictions for one of its evaluation sets, in the set's sequence.

    Raises:
        InvalidArgumentError: the run has no such evaluation set.
        FailedPreconditionError: it has not succeeded.
        NotFoundError: its file is gone.
    """
    names = [part.name for part in run.spec.evaluation_sets]
    # The name becomes part of a path: only those that were checked when the run was created.
    if evaluation_set not in names:
        known = ", ".join(names) or "none"
        raise InvalidArgumentError("evaluation_set", f"{evaluation_set!r} is none of the run's: {known}")
    if run.state is not RunState.SUCCEEDED:
        raise FailedPreconditionError(
            f"the run is {run.state.name}; predictions are there once it has SUCCEEDED", field="run_id"
        )
    path = runs_dir / run.run_id / "predictions" / f"{evaluation_set}.parquet"
    try:
        frame = pl.read_parquet(path, columns=["item_id", "probabilities", "choice"])
    except FileNotFoundError:
        raise NotFoundError(f"the run's predictions for {evaluation_set!r} are gone", field="evaluation_set") from None
    for part in frame.iter_slices(_BATCH_ROWS):
        yield [Prediction(item_id, tuple(probabilities), choice) for item_id, probabilities, choice in part.iter_rows()]
