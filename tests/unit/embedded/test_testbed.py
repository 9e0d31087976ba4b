"""The table's arithmetic, on made-up accuracies; the real table is made by `make testbed`."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from isocost.embedded.testbed import (
    BUDGETS,
    HUMAN_COUNTS,
    N_HUMAN_MAX,
    N_WEAK_MAX,
    Cell,
    TestbedTable,
    compare,
    mixes_of_testbed,
    write_table,
)


def _table(bonus: float, noise: float) -> TestbedTable:
    """Mixes are `bonus` better than either kind alone; where one's seed is lucky by `noise`, the other's is unlucky."""
    cells = []
    for n_weak, n_human in mixes_of_testbed():
        is_mix = bool(n_weak and n_human)
        centre, luck = (0.7 + bonus, noise) if is_mix else (0.7, -noise)
        cells.append(Cell(n_weak, n_human, (centre - luck, centre, centre + luck)))
    return TestbedTable(tuple(cells), (0.75, 0.74, 0.76))


def test_every_mix_of_a_line_costs_its_budget_and_fits_the_pool() -> None:
    mixes = mixes_of_testbed()
    assert len(set(mixes)) == len(mixes)
    for n_weak, n_human in mixes:
        assert n_weak <= N_WEAK_MAX
        assert n_human <= N_HUMAN_MAX
        assert n_weak == 0 or any(n_weak * 0.1 + n_human == pytest.approx(budget) for budget in BUDGETS)


def test_a_clear_bonus_wins_on_every_line() -> None:
    table = _table(bonus=0.1, noise=0.01)
    for budget in BUDGETS:
        comparison = compare(table, budget)
        assert comparison.weak_margin == pytest.approx(0.1)
        assert comparison.human_margin == pytest.approx(0.1)
        assert comparison.mix_wins


def test_a_bonus_within_the_noise_does_not_win() -> None:
    table = _table(bonus=0.01, noise=0.1)
    assert not any(compare(table, budget).mix_wins for budget in BUDGETS)


def test_the_written_surface_has_the_published_format(tmp_path: Path) -> None:
    surface_path, table_path = write_table(_table(bonus=0.1, noise=0.01), tmp_path)
    surface = pl.read_csv(surface_path)
    assert surface.columns == [
        "dataset",
        "weak_model",
        "strong_model",
        "method",
        "n_weak",
        "n_human",
        "accuracy",
        "accuracy_std",
        "n_runs",
        "weak_label_accuracy",
    ]
    assert surface.height == len(mixes_of_testbed())
    text = table_path.read_text()
    assert text.count("| yes |") == len(BUDGETS)
    assert all(str(n_human) in text for n_human in HUMAN_COUNTS)
