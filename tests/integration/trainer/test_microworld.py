"""The carried models learn what the testbed promises."""

from __future__ import annotations

import polars as pl

from isocost.microworld.claims import TASK_CHOICES, TASK_TEMPLATE, pool_frame, test_frame
from isocost.resources.label import one_hot
from isocost.resources.method import Recipe
from isocost.resources.run import Example
from isocost.resources.task import Task
from tests.integration.trainer.weather import Bench, sequential

TASK = Task("claims", TASK_TEMPLATE, TASK_CHOICES)


def _examples(frame: pl.DataFrame) -> list[Example]:
    return [
        Example(row["id"], {field: row[field] for field in TASK.fields}, one_hot(TASK_CHOICES.index(row["label"]), 2))
        for row in frame.iter_rows(named=True)
    ]


def test_enough_human_labels_elicit_what_the_strong_model_knows(bench: Bench) -> None:
    recipe = Recipe(learning_rate=2e-3, max_examples=10_000)
    human, test = _examples(pool_frame(512, seed=0)), _examples(test_frame(400, seed=0))
    spec = bench.spec("microworld:strong", TASK, sequential(recipe=recipe), human=human, test=test)
    (evaluation,) = bench.run(spec).evaluations
    assert evaluation.accuracy > 0.8
