"""The items of a task: one test set for all seeds, and for each seed items for human labels and others for weak ones.

Of a seed's shuffled items, human labels take from the front and weak labels from the back: each list only ever grows at
its end, so that one more label, or a wider grid, never reshuffles the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from isocost.core.errors import InvalidArgumentError
from isocost.resources.label import one_hot
from isocost.resources.run import Example
from isocost.resources.task import Task
from isocost.sweep.config import MICROWORLD, PoolConfig, SweepConfig, TaskConfig
from isocost.sweep.grid import LabelLimits

__all__ = ["LabelledPool", "SeedPool", "TaskPool", "data_path", "load_task_pool", "share_items"]

#: Test items and the items that weak labellers are fine-tuned on are the same for all seeds: drawn by this one.
_FIXED_SEED = 0
#: The largest share of the items that fine-tuned labellers are made with.
_GOLD_SHARE_MAX = 1 / 3
#: One spare item for so many weak labels, where there is one: an item that gets no label is replaced.
_SPARE_DIVISOR = 20


@dataclass(frozen=True, slots=True)
class LabelledPool:
    """Items with their gold answers, in an order drawn by a seed.

    Attributes:
        task: The question.
        examples: Labelled with certainty.
        keys: For each, what it is made from: two items of the same key ask about the same row.
        rows: For each, its row in the data; empty where there is no table.
    """

    task: Task
    examples: tuple[Example, ...]
    keys: tuple[str, ...]
    rows: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class SeedPool:
    """The items of one seed.

    Attributes:
        human: For human labels; runs take the first n, or those that the model is least certain of.
        weak: For weak labels, still with their gold answers, and some spare ones; runs take the first n.
        weak_rows: Row in the data of each of `weak`; empty where there is no table.
    """

    human: tuple[Example, ...]
    weak: tuple[Example, ...]
    weak_rows: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class TaskPool:
    """All items of a task.

    Attributes:
        task: The question.
        config: Its section of the spec.
        data: Where its data are; None for the hub.
        gold: What weak labellers may be made with; in no seed's sets.
        test: What all runs are measured on.
        seeds: By seed.
        limits: Labels of each kind that there are items for; the same for all seeds.
    """

    task: Task
    config: TaskConfig
    data: Path | None
    gold: tuple[Example, ...]
    test: tuple[Example, ...]
    seeds: Mapping[int, SeedPool]
    limits: LabelLimits


def load_task_pool(config: SweepConfig, task: TaskConfig, need: LabelLimits, *, takes_all: bool) -> TaskPool:
    """Reads a task's data and divides its items.

    Args:
        config: The spec.
        task: The task's section.
        need: Labels of each kind that the grid and the few-shot blocks ask for.
        takes_all: Whether human labels are chosen among all the items that no weak label needs.

    Raises:
        InvalidArgumentError: names the task, or the key of the spec, that is wrong.
    """
    data = data_path(config, task)
    try:
        test = _load(task, data, "test", _FIXED_SEED, config.pool.n_test)
        n_gold = max((labeller.n_gold for labeller in config.weak_labellers), default=0)
        gold, gold_keys = _gold(_load(task, data, "train", _FIXED_SEED, None), n_gold) if n_gold else ((), set())
        pools = {seed: _without(_load(task, data, "train", seed, None), gold_keys) for seed in config.seeds}
    except InvalidArgumentError as error:
        where = f"{error.field}: " if error.field else ""
        raise InvalidArgumentError(f"tasks.{task.benchmark}", f"{where}{error.message}") from None
    # The draw may leave out a few items more with one seed than with another: all seeds get the same counts.
    n_items = min(len(pool.examples) for pool in pools.values())
    limits = share_items(n_items, need, config.pool)
    n_spare = min(limits.n_weak // _SPARE_DIVISOR, n_items - limits.n_weak - limits.n_human)
    n_human_listed = n_items - limits.n_weak - n_spare if takes_all else limits.n_human
    if config.pool.n_human_max is not None:
        n_human_listed = min(n_human_listed, config.pool.n_human_max)
    seeds = {
        seed: SeedPool(
            pool.examples[:n_human_listed],
            pool.examples[::-1][: limits.n_weak + n_spare],
            pool.rows[::-1][: limits.n_weak + n_spare],
        )
        for seed, pool in pools.items()
    }
    return TaskPool(test.task, task, data, gold, test.examples, seeds, limits)


def share_items(n_items: int, need: LabelLimits, pool: PoolConfig) -> LabelLimits:
    """How many items are for labels of each kind.

    Human labels get what the grid needs, but half of the items at most; weak labels what is left.

    >>> share_items(100, LabelLimits(n_weak=500, n_human=20), PoolConfig())
    LabelLimits(n_weak=80, n_human=20)
    """
    n_human = min(need.n_human, n_items // 2)
    if pool.n_human_max is not None:
        n_human = min(n_human, pool.n_human_max)
    n_weak = min(need.n_weak, n_items - n_human)
    if pool.n_weak_max is not None:
        n_weak = min(n_weak, pool.n_weak_max)
    return LabelLimits(n_weak, n_human)


def data_path(config: SweepConfig, task: TaskConfig) -> Path | None:
    """Where a task's data are; None for the hub."""
    if task.data is not None:
        return Path(task.data)
    if config.data is None or task.benchmark == MICROWORLD:
        return None
    return Path(config.data) / Path(task.benchmark).stem


def _gold(pool: LabelledPool, n_gold: int) -> tuple[tuple[Example, ...], set[str]]:
    """What weak labellers may be made with, and the keys of these items."""
    n_gold = min(n_gold, int(len(pool.examples) * _GOLD_SHARE_MAX))
    return pool.examples[:n_gold], set(pool.keys[:n_gold])


def _without(pool: LabelledPool, keys: set[str]) -> LabelledPool:
    kept = [index for index, key in enumerate(pool.keys) if key not in keys]
    return LabelledPool(
        pool.task,
        tuple(pool.examples[index] for index in kept),
        tuple(pool.keys[index] for index in kept),
        tuple(pool.rows[index] for index in kept) if pool.rows else (),
    )


def _load(
    task: TaskConfig, data: Path | None, split: Literal["train", "test"], seed: int, n_items_max: int | None
) -> LabelledPool:
    if task.benchmark == MICROWORLD:
        return _load_microworld(split, seed, n_items_max)
    from isocost.tasks.library.benchmark import load_benchmark  # noqa: PLC0415 - reads tables

    benchmark = load_benchmark(task.benchmark, split=split, data=data, seed=seed)
    kept = slice(None, n_items_max)
    n_choices = len(benchmark.task.choices)
    examples = tuple(
        Example(item.item_id, item.fields, one_hot(gold, n_choices))
        for item, gold in zip(benchmark.items[kept], benchmark.gold[kept], strict=True)
    )
    rows = benchmark.rows[kept]
    return LabelledPool(benchmark.task, examples, tuple(str(row) for row in rows), rows)


def _load_microworld(split: Literal["train", "test"], seed: int, n_items_max: int | None) -> LabelledPool:
    from isocost.microworld import claims  # noqa: PLC0415 - only the testbed needs it

    task = Task(MICROWORLD, claims.TASK_TEMPLATE, claims.TASK_CHOICES)
    if split == "test":
        frame = claims.test_frame(min(n_items_max or claims.TEST_ITEMS_MAX, claims.TEST_ITEMS_MAX), seed)
    else:
        # Always all of them: a smaller draw is another draw, not a part of a larger one.
        frame = claims.pool_frame(claims.POOL_ITEMS_MAX, seed)
    return LabelledPool(task, tuple(_claim_examples(frame, task)), tuple(frame["id"].to_list()))


def _claim_examples(frame: pl.DataFrame, task: Task) -> Sequence[Example]:
    n_choices = len(task.choices)
    return [
        Example(
            row["id"], {name: row[name] for name in task.fields}, one_hot(task.choices.index(row["label"]), n_choices)
        )
        for row in frame.iter_rows(named=True)
    ]
