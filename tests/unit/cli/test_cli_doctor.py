"""`isocost doctor`: lines, JSON, exit codes; no check can end it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from isocost.budget.database import Database
from isocost.cli.app import app
from isocost.core.errors import FailedPreconditionError
from isocost.doctor import diagnosis, machine, services
from isocost.doctor.finding import Finding, State, ok


@pytest.fixture(autouse=True)
def _light(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is imported that takes seconds, and no port of this machine matters."""
    monkeypatch.setattr(machine, "run_python", lambda code: '["2.13.0+cpu", null, []]')
    monkeypatch.setattr(services, "check_ports", lambda ports: [ok("port", f"{sorted(ports)}")])
    for name in ("DATABASE_URL", "BUDGET_DATABASE_URL", "LABELER_VLLM_URL", "TOKEN"):
        monkeypatch.delenv(f"ISOCOST_{name}", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))


def test_each_check_is_a_line_with_its_remedy(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, ["doctor", "--database-url", f"sqlite:///{tmp_path}/none.db", "--out", str(tmp_path)]
    )
    lines = result.stdout.splitlines()
    assert any(line.startswith(("ok       python: Python 3.", "warning  python")) for line in lines)
    assert "ok       port: ['budget', 'labeler', 'trainer']" in lines
    (number,) = [number for number, line in enumerate(lines) if "warning  database:" in line]
    assert lines[number + 1].startswith("         -> ")
    assert "checks: " in lines[-1]
    assert not (tmp_path / "none.db").exists()


def test_a_failed_check_is_exit_code_1_and_json_says_the_same(tmp_path: Path) -> None:
    arguments = ["doctor", "--json", "--database-url", "mysql://host/name", "--vllm-url", "gpu-7:8000"]
    result = CliRunner().invoke(app, [*arguments, "--address", "nowhere"])
    assert result.exit_code == 1
    diagnosed = json.loads(result.stdout)
    assert diagnosed["ok"] is False
    failed = {check["check"]: check for check in diagnosed["checks"] if check["state"] == "failed"}
    assert failed.keys() >= {"database", "vllm server", "budget service"}
    assert all(check["remedy"] and set(check) == {"check", "state", "message", "remedy"} for check in failed.values())


def test_the_database_of_an_output_folder_is_looked_at(tmp_path: Path) -> None:
    with closing(Database(f"sqlite:///{tmp_path}/state/budget.db")) as database:
        database.migrate()
    result = CliRunner().invoke(app, ["doctor", "--out", str(tmp_path), "--json"])
    checks = {check["check"]: check["state"] for check in json.loads(result.stdout)["checks"]}
    assert (checks["database"], checks["database, writing"]) == ("ok", "ok")


def test_a_check_that_crashes_is_a_failed_one_and_the_next_goes_on() -> None:
    def crash() -> Iterator[Finding]:
        yield ok("first", "half of it")
        raise ZeroDivisionError("by\nzero")

    def refuse() -> Iterator[Finding]:
        raise FailedPreconditionError("not now")

    findings = list(diagnosis.run_checks({"a": crash, "b": refuse, "c": lambda: [ok("c", "fine")]}))
    assert [(finding.check, finding.state) for finding in findings] == [
        ("first", State.OK),
        ("a", State.FAILED),
        ("b", State.FAILED),
        ("c", State.OK),
    ]
    assert "ZeroDivisionError: by zero" in findings[1].message
    assert "not now" in findings[2].message
