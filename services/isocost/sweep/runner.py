"""Drives the labeler and the trainer through a sweep.

It keeps nothing that the services do not: repeated, the labels that were made and the runs that are done come at once,
and the sweep goes on with the others.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from isocost.client import LabelerClient, TrainerClient
from isocost.core.errors import IsocostError
from isocost.core.progress import Progress
from isocost.resources.run import Run, RunSpec, RunState
from isocost.sweep.config import WeakLabellerConfig
from isocost.sweep.plan import SweepPlan
from isocost.sweep.points import TEST_SET, Lists, PlannedRun, run_spec
from isocost.sweep.pool import TaskPool
from isocost.sweep.results import (
    ResultRow,
    failed_row,
    predictions_path,
    read_results,
    result_row,
    write_grid,
    write_predictions,
    write_results,
    write_sweep,
)
from isocost.sweep.weak_labels import WeakLabels, hardened, labels_of_column, labels_of_model, make_labeller

__all__ = ["SweepOutcome", "run_sweep"]

#: Results are written at most so often while runs end; and always at the end.
_WRITE_INTERVAL_SECONDS = 5.0
#: Lines said on the way, for whoever sees no bar.
_N_REPORTS = 10
#: Runs that fail for the same reason are told of so often.
_N_ALIKE_SAID = 3

_ListKey = tuple[str, str, int, str]


@dataclass(frozen=True, slots=True)
class SweepOutcome:
    """How a sweep ended: its runs by their end."""

    n_runs: int
    n_succeeded: int
    n_failed: int


@dataclass(slots=True)
class _Sent:
    """Lists that the trainer has, by task, labeller, seed and "soft" or "hard"; and what is wrong with the others."""

    weak: dict[_ListKey, str] = field(default_factory=dict)
    weak_accuracy: dict[tuple[str, str, int], float] = field(default_factory=dict)
    weak_errors: dict[tuple[str, str, int], str] = field(default_factory=dict)
    human: dict[tuple[str, int], str] = field(default_factory=dict)
    test: dict[str, str] = field(default_factory=dict)


async def run_sweep(
    plan: SweepPlan, out: Path, labeler: LabelerClient, trainer: TrainerClient, progress: Progress
) -> SweepOutcome:
    """Labels, trains and measures all that a plan holds; a run that fails is a row of the results, and stops no other.

    Writes sweep.json, grid.parquet, results.parquet and the folder predictions into `out`, results also on the way.

    Raises:
        IsocostError: where a service is away; what is done is kept, and the same call goes on with the rest.
    """
    book = _Book(plan, out)
    try:
        sent = await _send(plan, labeler, trainer, progress)
        specs = book.register(plan, sent)
        await _train(book, specs, trainer, progress)
    finally:
        book.write()
    rows = book.rows.values()
    n_succeeded = sum(row.state == RunState.SUCCEEDED.name.lower() for row in rows)
    return SweepOutcome(len(plan.runs), n_succeeded, len(rows) - n_succeeded)


class _Book:
    """The results so far, and which run of the plan a run of the trainer is."""

    def __init__(self, plan: SweepPlan, out: Path) -> None:
        self._out = out
        self._planned: dict[RunSpec, tuple[PlannedRun, float | None]] = {}
        self._recorded: set[RunSpec] = set()
        self._write_time = time.monotonic()
        is_same = write_sweep(out, plan)
        write_grid(out, plan)
        # Of the same sweep before: an unfinished sweep that goes on is never shown with less than it had.
        self.rows: dict[tuple[object, ...], ResultRow] = {row.key: row for row in read_results(out)} if is_same else {}
        self.write()

    def register(self, plan: SweepPlan, sent: _Sent) -> list[RunSpec]:
        """The specifications of all runs that can be asked for; the others fail here."""
        for run in plan.runs:
            weak = (run.task, run.weak_labeller, run.seed)
            if run.weak_labeller and weak in sent.weak_errors:
                self._add(failed_row(run, sent.weak_errors[weak]))
                continue
            lists = Lists(
                plan.pools[run.task].task,
                sent.weak[(*weak, run.variant.labels)] if run.weak_labeller else "",
                sent.human[run.task, run.seed],
                sent.test[run.task],
            )
            # As it comes back over the wire.
            spec = RunSpec.from_proto(run_spec(plan.config, run, lists).to_proto())
            self._planned[spec] = (run, sent.weak_accuracy.get(weak))
        return list(self._planned)

    def _add(self, row: ResultRow) -> None:
        self.rows[row.key] = row

    @property
    def missing(self) -> list[RunSpec]:
        """Registered specifications whose run has not been recorded."""
        return [spec for spec in self._planned if spec not in self._recorded]

    async def record(self, spec: RunSpec, run: Run, trainer: TrainerClient) -> ResultRow | None:
        """Takes a run that ended into the results; None where its specification is none that was registered."""
        found = self._planned.get(spec)
        if found is None:
            return None
        if run.state is RunState.SUCCEEDED and not predictions_path(self._out, run.run_id).is_file():
            predictions = [prediction async for prediction in trainer.predictions(run.run_id, TEST_SET)]
            await asyncio.to_thread(write_predictions, self._out, run.run_id, predictions)
        row = result_row(found[0], run, found[1])
        self._add(row)
        self._recorded.add(spec)
        if time.monotonic() - self._write_time > _WRITE_INTERVAL_SECONDS:
            await asyncio.to_thread(self.write)
        return row

    def write(self) -> None:
        """Writes the results so far."""
        write_results(self._out, self.rows.values())
        self._write_time = time.monotonic()


async def _send(plan: SweepPlan, labeler: LabelerClient, trainer: TrainerClient, progress: Progress) -> _Sent:
    """Has the weak labels made, and all lists sent to the trainer."""
    sent = _Sent()
    wanted = {(run.task, run.weak_labeller) for run in plan.runs if run.weak_labeller}
    with progress.bar("weak labels", len(wanted)) as bar:
        for labeller in plan.config.weak_labellers:
            for task, pool in plan.pools.items():
                if (task, labeller.name) in wanted:
                    await _send_weak(plan, labeller, pool, sent, labeler, trainer, progress)
                    bar.advance(note=f"{labeller.name} on {task}")
    for task, pool in plan.pools.items():
        sent.test[task] = await trainer.put_examples(pool.test)
        for seed, seed_pool in pool.seeds.items():
            sent.human[task, seed] = await trainer.put_examples(seed_pool.human) if seed_pool.human else ""
    return sent


async def _send_weak(
    plan: SweepPlan,
    section: WeakLabellerConfig,
    pool: TaskPool,
    sent: _Sent,
    labeler: LabelerClient,
    trainer: TrainerClient,
    progress: Progress,
) -> None:
    """One labeller's labels for one task, for all seeds; what goes wrong with it is no other labeller's concern."""
    task = pool.task.name
    needs = {seed: plan.weak_need(task, section.name, seed) for seed in pool.seeds}
    kinds = {run.variant.labels for run in plan.runs if (run.task, run.weak_labeller) == (task, section.name)}
    try:
        labeller = await make_labeller(section, pool, trainer) if section.model else None
        for seed, n_labels in needs.items():
            if not n_labels:
                continue
            if labeller is None:
                labels = labels_of_column(section, pool, pool.seeds[seed], n_labels)
            else:
                labels = await labels_of_model(labeler, labeller, pool.seeds[seed].weak, n_labels)
            _tell_errors(progress, section.name, task, labels)
            sent.weak_accuracy[task, section.name, seed] = labels.accuracy
            for kind in kinds:
                examples = hardened(labels.examples) if kind == "hard" else labels.examples
                sent.weak[task, section.name, seed, kind] = await trainer.put_examples(examples)
    except IsocostError as error:
        progress.say(f"no weak labels of {section.name} for {task}: {error}")
        for seed in needs:
            sent.weak_errors[task, section.name, seed] = f"no weak labels: {error}"


def _tell_errors(progress: Progress, name: str, task: str, labels: WeakLabels) -> None:
    if labels.errors:
        item_id, reason = next(iter(labels.errors.items()))
        progress.say(f"{name} gave no label to {len(labels.errors)} items of {task}, first {item_id}: {reason}")


async def _train(book: _Book, specs: Sequence[RunSpec], trainer: TrainerClient, progress: Progress) -> None:
    if not specs:
        return
    n_done, n_reported = 0, 0
    n_alike: Counter[str] = Counter()
    with progress.bar("runs", len(specs)) as bar:
        async for news in trainer.sweep(specs):
            note = ""
            if news.run is not None:
                row = await book.record(news.run.spec, news.run, trainer)
                note = _describe(row) if row else ""
                if row is not None and row.error:
                    n_alike[row.error] += 1
                    if n_alike[row.error] <= _N_ALIKE_SAID:
                        more = (
                            "; others that end alike are in the results" if n_alike[row.error] == _N_ALIKE_SAID else ""
                        )
                        progress.say(f"{_describe(row)}: {row.state}: {row.error}{more}")
            n_ended = news.n_succeeded + news.n_failed
            left = f"{news.n_failed} failed, " if news.n_failed else ""
            left += f"about {_duration(news.eta_seconds)} left" if news.eta_seconds else ""
            bar.advance(n_ended - n_done, note=" - ".join(part for part in (left, note) if part))
            n_done = n_ended
            if n_done * _N_REPORTS // len(specs) > n_reported:
                n_reported = n_done * _N_REPORTS // len(specs)
                progress.say(f"{n_done} of {len(specs)} runs{f', {left}' if left else ''}")
    # A run that an earlier sweep asked for in other words, such as a shorter list of which it uses no more, comes back
    # in those; the trainer knows it by ours as well.
    for spec in book.missing:
        run = await trainer.create_run(spec)
        seen = [run, *[watched async for watched in trainer.watch_run(run.run_id)]]
        await book.record(spec, seen[-1], trainer)


def _describe(row: ResultRow) -> str:
    mix = f"{row.task}: {row.method} on {row.n_weak} weak + {row.n_human} human, seed {row.seed}"
    accuracy = row.measures["accuracy"]
    return f"{mix}: {accuracy:.3f}" if accuracy is not None else mix


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"{seconds:.0f} s" if minutes < 1 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
