from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from isocost.cli.app import app
from isocost.core.errors import InvalidArgumentError
from tests.unit.sweep.specs import load


def _spec(folder: Path) -> Path:
    load(folder)
    return folder / "spec.yaml"


def test_a_dry_run_says_how_large_the_sweep_is_and_does_nothing(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["sweep", str(_spec(tmp_path)), "--out", str(tmp_path / "out"), "--dry-run"])
    assert result.exit_code == 0
    assert [line.split(maxsplit=2) for line in result.stdout.splitlines()] == [
        ["grid", "points", "6"],
        ["runs", "12,", "of 16 different stages at most"],
        ["weak", "labels", "1,280 by weak"],
        ["human", "labels", "128"],
    ]
    assert not (tmp_path / "out").exists()


def test_it_says_which_option_is_missing_or_too_much(tmp_path: Path) -> None:
    runner = CliRunner()
    for arguments, field in (([], "--out"), (["--out", "x", "--trainer", "h:1", "--n-workers", "2"], "--n-workers")):
        result = runner.invoke(app, ["sweep", str(_spec(tmp_path)), *arguments])
        assert isinstance(result.exception, InvalidArgumentError)
        assert result.exception.field == field


@pytest.mark.parametrize("name", ["spec.yaml", "none.yaml"])
def test_a_wrong_spec_is_one_message(tmp_path: Path, name: str) -> None:
    (tmp_path / "spec.yaml").write_text("sweep: small\n")
    result = CliRunner().invoke(app, ["sweep", str(tmp_path / name), "--dry-run"])
    assert isinstance(result.exception, InvalidArgumentError)
