"""Observations to record."""

from __future__ import annotations

from typing import Any

from isocost.budget import observations
from isocost.economics.interval import wilson_interval
from isocost.resources.label import Purpose
from isocost.resources.observation import Evaluation, Observation

__all__ = ["buy", "evaluation", "observation", "record"]


def evaluation(accuracy: float = 0.8, auroc: float = 0.9, name: str = "evaluation") -> Evaluation:
    low, high = wilson_interval(accuracy, 100)
    return Evaluation(name, 100, accuracy, low, high, auroc)


def observation(run_id: str, n_weak: int, n_human: int, accuracy: float = 0.8, **changes: Any) -> Observation:
    fields: dict[str, Any] = {
        "weak_source_id": "weak" if n_weak else "",
        "human_source_id": "human" if n_human else "",
        **changes,
    }
    return Observation(run_id, "sequential_sft", n_weak, n_human, 0, evaluation(accuracy), **fields)


def record(book: Any, *some: Observation) -> list[Observation]:
    with book.database.write() as connection:
        return [observations.record_observation(connection, "c", each) for each in some]


def buy(book: Any, source_id: str, prompt_tokens: list[int], purpose: Purpose = Purpose.TRAINING) -> None:
    """Labels of a metered source, 1.5 micros a token."""
    order = book.order(source_id, len(prompt_tokens), purpose=purpose)
    book.submit(order, book.items(order), prompt_tokens=prompt_tokens)
