"""Contests within a sweep: weak labellers against one another, strong models against one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from isocost.report.sweep.cells import Setting
from isocost.report.sweep.scores import SweepScores
from isocost.report.sweep.tables import against_best

__all__ = ["Contest", "labeller_contests", "model_contests"]


@dataclass(frozen=True, slots=True)
class Contest:
    """Contestants at the same budgets and prices.

    Attributes:
        field: Column of `rows` with the contestant's name: "weak_labeller" or "strong_model".
        common: What they have in common: the strong model, or the weak labeller.
        method: The method that all of them are compared by.
        rows: As of `best_within_budget`, of one method, with the contestant's name; is_best, p_value and is_separable
            are among the contestants of the same task, weak price and budget.
    """

    field: str
    common: str
    method: str
    rows: pl.DataFrame


def labeller_contests(
    best: Mapping[Setting, pl.DataFrame], methods: Mapping[Setting, str], scores: SweepScores
) -> list[Contest]:
    """For each strong model with two weak labellers or more, the contest between these.

    Args:
        best: By setting, as of `best_within_budget`.
        methods: By setting, the method that it is compared by.
        scores: For the paired tests.
    """
    return _contests(best, methods, scores, "weak_labeller", "strong_model")


def model_contests(
    best: Mapping[Setting, pl.DataFrame], methods: Mapping[Setting, str], scores: SweepScores
) -> list[Contest]:
    """For each weak labeller that labels for two strong models or more, the contest between these; as above."""
    return _contests(best, methods, scores, "strong_model", "weak_labeller")


def _contests(
    best: Mapping[Setting, pl.DataFrame],
    methods: Mapping[Setting, str],
    scores: SweepScores,
    field: str,
    common_field: str,
) -> list[Contest]:
    found = []
    for common in sorted({str(getattr(setting, common_field)) for setting in best}):
        entered = sorted(setting for setting in best if getattr(setting, common_field) == common)
        method = _common_method([methods[setting] for setting in entered], [best[setting] for setting in entered])
        if len(entered) < 2 or method is None:
            continue
        rows = pl.concat(
            best[setting].filter(pl.col("method") == method).with_columns(pl.lit(getattr(setting, field)).alias(field))
            for setting in entered
        )
        keys = ("task", "weak_price", "budget")
        tested = [against_best(group, scores) for _, group in rows.group_by(*keys, maintain_order=True)]
        found.append(Contest(field, common, method, pl.concat(tested).sort(*keys, field)))
    return found


def _common_method(preferred: Sequence[str], tables: Sequence[pl.DataFrame]) -> str | None:
    """The first preferred method that all tables have."""
    shared = set.intersection(*(set(table["method"]) for table in tables)) if tables else set()
    return next((method for method in preferred if method in shared), next(iter(sorted(shared)), None))
