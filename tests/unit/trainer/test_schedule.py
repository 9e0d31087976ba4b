from __future__ import annotations

import numpy as np
import pytest

from isocost.resources.method import Recipe
from isocost.trainer.stages.schedule import Schedule


@pytest.mark.parametrize(
    ("n_train", "expected"),
    [
        # batch, epoch, most steps, warm-up, steps between evaluations
        (6, (6, 1, 938, 2, 1)),
        (64, (32, 2, 938, 2, 2)),
        (800, (32, 25, 938, 25, 25)),
        (6_400, (32, 200, 938, 40, 50)),
        (64_000, (32, 2_000, 2_000, 40, 50)),
    ],
)
def test_the_papers_recipe_in_steps(n_train: int, expected: tuple[int, ...]) -> None:
    schedule = Schedule.make(Recipe(), n_train, 10)
    shown = (schedule.batch_size, schedule.epoch_steps, schedule.max_steps, schedule.warmup_steps, schedule.eval_steps)
    assert shown == expected


def test_without_held_out_labels_a_stage_ends_after_its_patience() -> None:
    assert Schedule.make(Recipe(), 3, 0).max_steps == 5


def test_every_pass_shows_every_row_once() -> None:
    schedule = Schedule.make(Recipe(batch_size=4, max_examples=60), 10, 2)
    rows, lengths = [3, 5, 7, 11, 13, 17, 19, 23, 29, 31], np.ones(32, dtype=np.int64)
    batches = list(schedule.batches(rows, lengths, seed=1))
    assert len(batches) == schedule.max_steps == 15
    assert all(len(batch) in (4, 2) for batch in batches)
    passes = [sorted(row for batch in batches[start : start + 3] for row in batch) for start in range(0, 15, 3)]
    assert passes == [rows] * 5
    assert batches[:3] != batches[3:6]
    assert batches == list(schedule.batches(rows, lengths, seed=1)) != list(schedule.batches(rows, lengths, seed=2))


def test_texts_of_like_length_share_a_batch() -> None:
    schedule = Schedule.make(Recipe(batch_size=32, max_examples=640), 512, 2)
    lengths = np.random.default_rng(0).integers(1, 200, size=512)
    batches = list(schedule.batches(range(512), lengths, seed=1))[: schedule.epoch_steps]
    assert sorted(row for batch in batches for row in batch) == list(range(512))
    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    assert padded < 1.2 * lengths.sum()
    # Not always the short ones first.
    longest = [lengths[batch].max() for batch in batches]
    assert longest != sorted(longest)
