"""`isocost serve` refuses before anything is opened."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from isocost.cli.app import app
from isocost.core.errors import InvalidArgumentError


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refusal(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["serve", *arguments])
    assert isinstance(result.exception, InvalidArgumentError), result.output
    assert not list(Path.cwd().iterdir())
    return str(result.exception)


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "192.168.1.5"])
def test_a_plain_server_stays_on_loopback(host: str) -> None:
    message = refusal("budget", "--host", host, "--port", "0")
    for remedy in ("ISOCOST_SERVER_CERTIFICATE_PATH", "ISOCOST_BUDGET_REQUIRE_TOKENS=true", "--insecure"):
        assert remedy in message


def test_tokens_alone_are_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOCOST_BUDGET_REQUIRE_TOKENS", "true")
    message = refusal("budget", "--host", "0.0.0.0", "--port", "0")
    assert "ISOCOST_SERVER_CERTIFICATE_PATH" in message
    assert "REQUIRE_TOKENS" not in message


def test_wrong_settings_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "names one port" in refusal("--port", "0")
    monkeypatch.setenv("ISOCOST_BUDGET_PAGE_ROWS", "none")
    assert "ISOCOST_BUDGET_PAGE_ROWS" in refusal("budget")
    monkeypatch.setenv("ISOCOST_SERVER_METRICS_ADDRESS", "0.0.0.0:9464")
    assert "ISOCOST_SERVER_METRICS_ADDRESS" in refusal("budget")
    monkeypatch.setenv("ISOCOST_SERVER_CALLS_IN_FLIGHT_MAX", "0")
    assert "ISOCOST_SERVER_CALLS_IN_FLIGHT_MAX" in refusal("budget")
