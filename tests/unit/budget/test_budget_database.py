"""The database: migrations, durability, clear refusals."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.exc import IntegrityError

from isocost.budget.database import Database
from isocost.budget.schema import metadata
from isocost.core.errors import FailedPreconditionError, InvalidArgumentError, UnavailableError


def test_the_migrations_make_the_tables_of_the_schema(database: Database) -> None:
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_migrating_again_changes_nothing(database: Database, tmp_path: Path) -> None:
    with database.write() as connection:
        connection.exec_driver_sql("INSERT INTO requests VALUES ('r', 'm', 'd', x'01', 1)")
    database.migrate()
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM requests").scalar_one() == 1


def test_sqlite_is_durable_and_checked(database: Database) -> None:
    with database.read() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_an_error_undoes_the_transaction(database: Database) -> None:
    def fail() -> None:
        with database.write() as connection:
            for _ in range(2):
                connection.exec_driver_sql("INSERT INTO requests VALUES ('r', 'm', 'd', x'01', 1)")

    with pytest.raises(IntegrityError):
        fail()
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM requests").scalar_one() == 0


def test_a_database_of_a_newer_version_is_left_alone(database: Database) -> None:
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(FailedPreconditionError, match="a newer isocost made it"):
        database.migrate()


def test_a_database_locked_by_another_process_is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "locked.db"
    database = Database(f"sqlite:///{path}", busy_timeout_seconds=0.05)
    database.migrate()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(UnavailableError, match="locked"), database.write():
        pass
    other.close()
    database.close()


def test_the_folder_of_the_database_is_made(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/a/b/budget.db")
    database.migrate()
    database.close()
    assert (tmp_path / "a/b/budget.db").is_file()


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a database, " * 1_000)
    database = Database(f"sqlite:///{tmp_path}/notes.txt")
    with pytest.raises(FailedPreconditionError, match="not a database"):
        database.migrate()
    database.close()
    with pytest.raises(InvalidArgumentError, match="folder cannot be made"):
        Database(f"sqlite:///{tmp_path}/notes.txt/budget.db")


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://x/y", "no url"])
def test_an_unsupported_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidArgumentError) as refusal:
        Database(url)
    assert refusal.value.field == "database_url"


def test_the_budget_service_does_not_import_torch() -> None:
    code = "import sys, isocost.budget.service; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
