"""`isocost replay`, on a surface of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from isocost.cli.app import app
from isocost.core.errors import InvalidArgumentError
from isocost.replay.surface import COLUMNS
from tests.unit.replay.surfaces import make_surface

_KEYS = [
    "surface", "budget", "weak_price", "human_price", "policy", "seed", "purchases", "shipped", "eval_labels",
    "evaluation", "spent", "accuracy", "best_accuracy", "regret", "seconds",
]  # fmt: skip


@pytest.fixture
def surface(tmp_path: Path) -> Path:
    path = tmp_path / "made.csv"
    rows = [
        f"made,weak,strong,sequential_sft,{p.n_weak},{p.n_human},{p.accuracy},,1,0.7" for p in make_surface().points
    ]
    path.write_text("\n".join([",".join(COLUMNS), *rows]) + "\n", encoding="utf-8")
    return path


def _replay(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["replay", *map(str, arguments)])


def test_results_are_written_and_summed_up(surface: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "result.json"
    result = _replay(
        surface, "--budgets", "64,16", "--weak-prices", "0.1,0.01", "--policy", "all-weak", "--policy", "fixed:0.5",
        "--eval-labels", "4", "--seeds", "2", "--out", out,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    rows = json.loads(out.read_text())
    assert [list(row) for row in rows] == [_KEYS] * 16
    assert {(row["policy"], row["weak_price"], row["budget"], row["seed"]) for row in rows} == {
        (policy, price, budget, seed)
        for policy in ("all-weak", "fixed:0.5") for price in (0.1, 0.01) for budget in (16, 64) for seed in (0, 1)
    }  # fmt: skip
    assert all(row["spent"] <= row["budget"] and row["surface"] == "made.csv" for row in rows)
    table = [line.split() for line in result.stdout.splitlines()]
    regrets = [row["regret"] for row in rows if (row["policy"], row["budget"]) == ("all-weak", 64)]
    assert ["all-weak", "64", "4", f"{sum(regrets) / 4:.4f}"] in [line[:4] for line in table]
    shown = [" ".join(line[:3]) for line in table if line[0] in {"all-weak", "fixed:0.5"}]
    assert shown == [
        "all-weak 16 4", "all-weak 64 4", "fixed:0.5 16 4", "fixed:0.5 64 4", "all-weak all 8", "fixed:0.5 all 8",
    ]  # fmt: skip


def test_by_default_adaptive_plays_six_budgets_and_three_prices_with_exact_accuracies(
    surface: Path, tmp_path: Path
) -> None:
    out = tmp_path / "result.json"
    assert _replay(surface, "--out", out).exit_code == 0
    rows = json.loads(out.read_text())
    assert {row["policy"] for row in rows} == {"adaptive"}
    assert {(row["evaluation"], row["eval_labels"], row["human_price"]) for row in rows} == {("exact", 0, 1)}
    cases = [(row["weak_price"], row["budget"]) for row in rows]
    assert cases == [(price, budget) for price in (0.5, 0.1, 0.01) for budget in (16, 64, 256, 512, 1024, 4096)]


def test_what_cannot_be_played_is_said(surface: Path) -> None:
    result = _replay(surface, "--budgets", "0.1,64", "--weak-prices", "0.1", "--policy", "all-human")
    assert result.exit_code == 0
    assert "skipped  made.csv, budget 0.1: no point of the surface is within the budget (1 case)" in result.stdout


def test_prices_are_exact(surface: Path, tmp_path: Path) -> None:
    surface.write_text(f"{','.join(COLUMNS)}\nmade,,,,3,0,0.6,,,\n", encoding="utf-8")
    out = tmp_path / "result.json"
    # In floating point three labels at 0.1 cost a little more than 0.3.
    result = _replay(surface, "--budgets", "0.3", "--weak-prices", "0.1", "--policy", "all-weak", "--out", out)
    assert result.exit_code == 0
    assert [(row["purchases"], row["spent"]) for row in json.loads(out.read_text())] == [([[3, 0]], 0.3)]


def test_targets_take_the_place_of_budgets(surface: Path, tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    result = _replay(surface, "--targets", "0.6,0.99", "--policy", "all-human", "--out", out)
    assert result.exit_code == 0
    rows = json.loads(out.read_text())
    assert [(row["target"], row["failed"]) for row in rows] == [(0.6, False)] * 3
    assert "target 0.99: no point of the surface reaches the target (3 cases)" in result.stdout


def test_the_policy_may_choose_its_evaluation_labels(surface: Path, tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    arguments = ("--eval-labels", "auto", "--budgets", "100", "--weak-prices", "0.1", "--out", out)
    assert _replay(surface, "--policy", "paper-advice", "--policy", "loc", *arguments).exit_code == 0
    rows = json.loads(out.read_text())
    assert [(row["policy"], row["evaluation"], row["eval_labels"]) for row in rows] == [
        ("paper-advice", "none", 0),
        ("loc", "bought", 10),
    ]


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (["--budgets", "16,,64"], "--budgets"),
        (["--budgets", "many"], "--budgets"),
        (["--budgets", "0"], "--budgets"),
        (["--budgets", "16", "--targets", "0.8"], "--targets"),
        (["--targets", "80"], "--targets"),
        (["--weak-prices", "-0.1"], "--weak-prices"),
        (["--human-price", "free"], "--human-price"),
        (["--policy", "best"], "--policy"),
        (["--policy", "fixed:2"], "--policy"),
        (["--eval-labels", "-1"], "--eval-labels"),
        (["--eval-labels", "some"], "--eval-labels"),
    ],
)
def test_a_bad_option_is_named(surface: Path, arguments: list[str], field: str) -> None:
    result = _replay(surface, *arguments)
    assert isinstance(result.exception, InvalidArgumentError)
    assert result.exception.field == field


def test_a_bad_file_and_a_place_that_cannot_be_written_are_named(surface: Path, tmp_path: Path) -> None:
    result = _replay(tmp_path / "none.csv")
    assert isinstance(result.exception, InvalidArgumentError)
    assert (result.exception.field, "none.csv" in result.exception.message) == ("FILE", True)
    result = _replay(surface, "--policy", "all-human", "--out", surface / "result.json")
    assert isinstance(result.exception, InvalidArgumentError)
    assert result.exception.field == "--out"
