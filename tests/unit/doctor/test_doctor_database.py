"""A database is looked into, and left as it was."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from isocost.budget.database import Database
from isocost.doctor.database import check_database
from isocost.doctor.finding import State
from tests.postgres import PostgresServer


@pytest.fixture
def migrated(tmp_path: Path) -> Path:
    path = tmp_path / "budget.db"
    with closing(Database(f"sqlite:///{path}")) as database:
        database.migrate()
    return path


def set_revision(path: Path, revision: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", [revision])


def states(url: str) -> list[State]:
    return [finding.state for finding in check_database(url)]


def test_a_database_of_the_code_is_ok_and_left_alone(migrated: Path) -> None:
    before = hashlib.sha256(migrated.read_bytes()).digest()
    assert states(f"sqlite:///{migrated}") == [State.OK, State.OK]
    assert hashlib.sha256(migrated.read_bytes()).digest() == before
    assert [path.name for path in migrated.parent.iterdir()] == ["budget.db"]


def test_a_running_service_is_not_in_the_way(migrated: Path) -> None:
    with closing(Database(f"sqlite:///{migrated}")) as database, database.read():
        assert states(f"sqlite:///{migrated}") == [State.OK, State.OK]


def test_revisions(migrated: Path) -> None:
    set_revision(migrated, "0001")
    (older, _) = check_database(f"sqlite:///{migrated}")
    assert older.state is State.WARNING
    assert "of revision 0001, the code is of" in older.message
    set_revision(migrated, "9999")
    (newer, _) = check_database(f"sqlite:///{migrated}")
    assert newer.state is State.FAILED
    assert "newer isocost" in newer.message


def test_files_that_are_no_database_of_isocost(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    assert states(f"sqlite:///{path}") == [State.WARNING]
    assert not path.exists()
    path.write_text("no database, but long enough to be looked at as one " * 20)
    assert states(f"sqlite:///{path}") == [State.FAILED]
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE mine (x)")
    assert states(f"sqlite:///{path}") == [State.FAILED]
    path.unlink()
    path.touch()
    assert states(f"sqlite:///{path}") == [State.WARNING, State.OK]


def test_a_locked_file_cannot_be_written(migrated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isocost.doctor.database._BUSY_SECONDS", 0.05)
    with closing(sqlite3.connect(migrated, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        read, written = check_database(f"sqlite:///{migrated}")
    assert (read.state, written.state) == (State.OK, State.FAILED)
    assert "locked" in written.message


@pytest.mark.parametrize("url", ["nonsense", "mysql://host/name", "sqlite://"])
def test_urls_that_make_no_sense(url: str) -> None:
    (finding,) = check_database(url)
    assert (finding.state, bool(finding.remedy)) == (State.FAILED, True)


@pytest.fixture
def postgres_name(postgres: PostgresServer) -> Iterator[str]:
    name = postgres.create_database()
    yield name
    postgres.drop_database(name)


def test_postgres(postgres: PostgresServer, postgres_name: str) -> None:
    url = postgres.url(postgres_name)
    assert states(url) == [State.OK, State.OK]
    postgres.execute(f"ALTER DATABASE {postgres_name} SET default_transaction_read_only = on")
    assert states(url) == [State.OK, State.FAILED]
    empty = postgres.create_database(migrated=False)
    assert states(postgres.url(empty)) == [State.WARNING, State.OK]
    postgres.drop_database(empty)


def test_postgres_that_is_away_is_named_without_its_password(tmp_path: Path) -> None:
    (finding,) = check_database(f"postgresql://ann:secret@/budget?host={tmp_path}")
    assert finding.state is State.FAILED
    assert "secret" not in finding.message
    assert str(tmp_path) in finding.message
