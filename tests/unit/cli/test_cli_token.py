"""`isocost token`, on a database of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from isocost.budget.database import Database
from isocost.budget.tokens import find_token
from isocost.cli.app import app
from isocost.core.caller import Role
from isocost.core.errors import NotFoundError


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/budget.db"


def test_a_token_is_made_listed_and_revoked(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = CliRunner()
    made = runner.invoke(
        app,
        ["token", "create", "--database-url", database_url, "--role", "annotator", "--name", "ann [1]", "--days", "30"],
    )
    secret = made.stdout.strip()
    database = Database(database_url)
    with database.read() as connection:
        token = find_token(connection, secret)
    assert token is not None
    assert (token.principal, token.role) == ("ann [1]", Role.ANNOTATOR)
    assert token.expire_time_us is not None
    assert token.expire_time_us - token.create_time_us == pytest.approx(30 * 86_400e6, abs=60e6)
    assert token.token_id in made.stderr
    # The environment's database is used where none is named.
    monkeypatch.setenv("ISOCOST_BUDGET_DATABASE_URL", database_url)
    listed = runner.invoke(app, ["token", "list"]).stdout
    assert secret not in listed
    assert [line.split()[:3] for line in listed.splitlines()] == [[token.token_id, "annotator", "valid"]]
    assert listed.rstrip().endswith("ann [1]")
    assert "revoked" in runner.invoke(app, ["token", "revoke", token.token_id]).stdout
    assert runner.invoke(app, ["token", "list"]).stdout.split()[:3] == [token.token_id, "annotator", "revoked"]
    with database.read() as connection:
        revoked = find_token(connection, secret)
    assert revoked is not None
    assert revoked.revoke_time_us is not None
    database.close()


def test_an_unknown_token_is_named(database_url: str) -> None:
    result = CliRunner().invoke(app, ["token", "revoke", "token-x", "--database-url", database_url])
    assert isinstance(result.exception, NotFoundError)
    assert "token-x" in str(result.exception)
