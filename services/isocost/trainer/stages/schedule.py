"""How many steps a stage takes, and which examples each of them sees."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from isocost.resources.method import Recipe

__all__ = ["BatchOrder", "Schedule"]

#: Batches whose rows are sorted by length together: enough to save padding, few enough to stay random.
_SORTED_BATCHES = 8


@dataclass(frozen=True, slots=True)
class Schedule:
    """Step counts of a stage, from its recipe and the number of labels it trains on."""

    batch_size: int
    """Examples a step; never more than there are."""
    epoch_steps: int
    """Steps in which every example is seen once."""
    max_steps: int
    """Steps after which the stage ends in any case: `max_examples` examples, and at least one epoch."""
    warmup_steps: int
    """Steps of linear warm-up: never more than an epoch, at least 2."""
    eval_steps: int
    """Steps between two evaluations: never more than an epoch."""

    @classmethod
    def make(cls, recipe: Recipe, n_train: int, n_holdout: int) -> Schedule:
        """Plans a stage. Without held-out labels nothing can stop it early, so it ends after `patience` evaluations'
        worth of steps: what a stage takes whose first evaluation stays the best.
        """
        epoch_steps = math.ceil(n_train / recipe.batch_size)
        eval_steps = min(recipe.eval_every_steps, epoch_steps)
        max_steps = max(math.ceil(recipe.max_examples / recipe.batch_size), epoch_steps)
        if not n_holdout:
            max_steps = min(max_steps, eval_steps * (1 + recipe.patience))
        return cls(
            batch_size=min(recipe.batch_size, n_train),
            epoch_steps=epoch_steps,
            max_steps=max_steps,
            warmup_steps=max(2, min(recipe.warmup_steps, epoch_steps)),
            eval_steps=eval_steps,
        )

    def batches(self, rows: Sequence[int], lengths_n: npt.NDArray[np.int64], seed: int) -> Iterator[list[int]]:
        """The rows of each step's batch: one shuffled pass after the other, each cut into batches.

        Texts of like length share a batch, as padding costs as much as text: every few batches' worth of shuffled rows
        is sorted by length before it is cut, and the batches are shuffled again.
        """
        rng = np.random.default_rng(seed)
        for step in range(self.max_steps):
            if step % self.epoch_steps == 0:
                epoch = self._epoch(rng.permutation(np.asarray(rows)), lengths_n, rng)
            yield epoch[step % self.epoch_steps]

    def _epoch(
        self, order: npt.NDArray[np.int64], lengths_n: npt.NDArray[np.int64], rng: np.random.Generator
    ) -> list[list[int]]:
        batches: list[list[int]] = []
        for start in range(0, len(order), _SORTED_BATCHES * self.batch_size):
            part = order[start : start + _SORTED_BATCHES * self.batch_size]
            part = part[np.argsort(lengths_n[part], kind="stable")]
            cut = [part[first : first + self.batch_size].tolist() for first in range(0, len(part), self.batch_size)]
            batches += [cut[index] for index in rng.permutation(len(cut))]
        return batches


class BatchOrder(torch.utils.data.Sampler[list[int]]):
    """The rows of each batch from a step on, in sequence."""

    def __init__(
        self, schedule: Schedule, rows: Sequence[int], lengths_n: npt.NDArray[np.int64], seed: int, first_step: int
    ) -> None:
        self._schedule = schedule
        self._rows = rows
        self._lengths_n = lengths_n
        self._seed = seed
        self._first_step = first_step

    def __iter__(self) -> Iterator[list[int]]:
        batches = self._schedule.batches(self._rows, self._lengths_n, self._seed)
        return itertools.islice(batches, self._first_step, None)

    def __len__(self) -> int:
        return self._schedule.max_steps - self._first_step
