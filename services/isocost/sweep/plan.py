"""All that a sweep will do, known before anything is labelled or trained."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from isocost.core.errors import InvalidArgumentError
from isocost.sweep.config import SweepConfig
from isocost.sweep.grid import GridPoint, LabelLimits, grid_points, label_need
from isocost.sweep.method_spec import expand_methods
from isocost.sweep.points import PlannedRun, plan_runs, shown_need, stage_keys
from isocost.sweep.pool import TaskPool, load_task_pool

__all__ = ["PlanCounts", "SweepPlan", "make_plan"]

_NO_LIMITS = LabelLimits(sys.maxsize, sys.maxsize)


@dataclass(frozen=True, slots=True)
class PlanCounts:
    """The size of a sweep.

    Attributes:
        n_points: Points of the grid, over all tasks.
        n_capped: Of them, points for which there are too few items.
        n_runs: Different runs.
        n_stages: Different stages: what is trained at most, as runs share stages.
        n_weak_labels: By weak labeller, labels that it makes, over tasks and seeds; an item that several seeds draw is
            labelled once.
        n_gold_labels: By weak labeller, gold labels that it is fine-tuned on or shown, over tasks.
        n_human_labels: Human labels that the largest runs train on or show, over tasks and seeds.
    """

    n_points: int
    n_capped: int
    n_runs: int
    n_stages: int
    n_weak_labels: Mapping[str, int]
    n_gold_labels: Mapping[str, int]
    n_human_labels: int


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """A spec with its data.

    Attributes:
        config: The spec.
        pools: By task's name, its items.
        grids: By task's name, its points.
        runs: In the order in which they are asked for.
    """

    config: SweepConfig
    pools: Mapping[str, TaskPool]
    grids: Mapping[str, Sequence[GridPoint]]
    runs: Sequence[PlannedRun]

    def weak_need(self, task: str, labeller: str, seed: int) -> int:
        """The most weak labels of a labeller that a run of a task and seed needs."""
        return max(
            (
                run.bought.n_weak
                for run in self.runs
                if (run.task, run.weak_labeller, run.seed) == (task, labeller, seed)
            ),
            default=0,
        )

    def counts(self) -> PlanCounts:
        """How large it is."""
        points = [point for grid in self.grids.values() for point in grid]
        labellers = self.config.weak_labellers
        sets = [(task, seed) for task in self.pools for seed in self.config.seeds]
        n_human: dict[tuple[str, int], int] = {}
        for run in self.runs:
            key = (run.task, run.seed)
            n_human[key] = max(n_human.get(key, 0), run.bought.n_human)
        return PlanCounts(
            n_points=len(points),
            n_capped=sum(point.is_capped for point in points),
            n_runs=len(self.runs),
            n_stages=len({key for run in self.runs for key in stage_keys(self.config, run)}),
            n_weak_labels={
                labeller.name: sum(self.weak_need(task, labeller.name, seed) for task, seed in sets)
                for labeller in labellers
            },
            n_gold_labels={
                labeller.name: sum(min(labeller.n_gold, len(pool.gold)) for pool in self.pools.values())
                for labeller in labellers
            },
            n_human_labels=sum(n_human.values()),
        )


def make_plan(config: SweepConfig) -> SweepPlan:
    """Reads the data, divides the items, and lists the runs.

    Raises:
        InvalidArgumentError: names the key of the spec that is wrong.
    """
    variants = expand_methods(config)
    shown = shown_need(variants)
    in_grid = label_need(_points(config, _NO_LIMITS))
    need = LabelLimits(max(in_grid.n_weak, shown.n_weak), max(in_grid.n_human, shown.n_human))
    takes_all = any(variant.samples_by_uncertainty for variant in variants)
    pools: dict[str, TaskPool] = {}
    for index, section in enumerate(config.tasks):
        pool = load_task_pool(config, section, need, takes_all=takes_all)
        if pool.task.name in pools:
            raise InvalidArgumentError(f"tasks.{index}", f"two tasks are called {pool.task.name!r}; rename one")
        pools[pool.task.name] = pool
    grids = {name: _points(config, pool.limits) for name, pool in pools.items()}
    runs = plan_runs(config, grids, {name: pool.limits for name, pool in pools.items()})
    if not runs:
        raise InvalidArgumentError(
            "methods", "no method has a run at any point of the grid; add a method, a budget or a weak fraction"
        )
    return SweepPlan(config, pools, grids, runs)


def _points(config: SweepConfig, limits: LabelLimits) -> list[GridPoint]:
    return grid_points(
        budgets=config.budgets,
        weak_fractions=config.weak_fractions,
        weak_prices=config.weak_prices,
        human_price=config.human_price,
        n_min=config.labels_min,
        limits=limits,
    )
