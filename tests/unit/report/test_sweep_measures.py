from __future__ import annotations

import polars as pl
import pytest

from isocost.report.sweep.measures import MEASURES, measure_rows


def _run(run_id: str, value: float) -> dict[str, object]:
    """A run whose measures differ from one another and from their intervals."""
    row: dict[str, object] = {"run_id": run_id, "loss": 10 * value}
    for index, name in enumerate(MEASURES):
        row |= {name: value + index, f"{name}_low": value + index - 0.1, f"{name}_high": value + index + 0.2}
    return row


def test_measures_are_means_over_the_runs_of_the_best_mix_within_the_largest_budget() -> None:
    results = pl.DataFrame([_run("a", 0.1), _run("b", 0.3), _run("c", 0.9), _run("other", 7.0)])
    point = {"task": "t", "weak_price": 0.1, "method": "m", "n_weak": 5, "n_human": 6}
    best = pl.DataFrame(
        [
            point | {"budget": 16.0, "run_ids": ["other"]},
            point | {"budget": 64.0, "run_ids": ["a", "b"]},
            point | {"budget": 64.0, "method": "k", "run_ids": ["c"]},
        ]
    )
    k, m = measure_rows(best, results).to_dicts()
    assert (k["method"], k["n_runs"], m["method"], m["n_runs"]) == ("k", 1, "m", 2)
    for index, name in enumerate(MEASURES):
        assert m[name] == pytest.approx(0.2 + index)
        assert (m[f"{name}_low"], m[f"{name}_high"]) == (pytest.approx(0.1 + index), pytest.approx(0.4 + index))
        assert k[name] == pytest.approx(0.9 + index)
    assert m["loss"] == pytest.approx(2.0)
