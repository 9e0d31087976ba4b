"""The database: migrations, durability, clear refusals."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import insert, select
from sqlalchemy.exc import DBAPIError, IntegrityError

from isocost.budget import schema
from isocost.budget.database import Database
from isocost.core.errors import FailedPreconditionError, InvalidArgumentError, UnavailableError
from tests.postgres import PostgresServer

ROW = {"request_id": "r", "method": "m", "body_digest": "d", "response": b"\x01", "create_time_us": 1}


def count_rows(database: Database) -> int:
    with database.read() as connection:
        return len(connection.execute(select(schema.requests)).all())


def test_the_migrations_make_the_tables_of_the_schema(database: Database) -> None:
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []


def test_migrating_again_changes_nothing(database: Database) -> None:
    with database.write() as connection:
        connection.execute(insert(schema.requests), ROW)
    database.migrate()
    assert count_rows(database) == 1


def test_sqlite_is_durable_and_checked(sqlite_database: Database) -> None:
    with sqlite_database.read() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_an_error_undoes_the_transaction(database: Database) -> None:
    def fail() -> None:
        with database.write() as connection:
            for _ in range(2):
                connection.execute(insert(schema.requests), ROW)

    with pytest.raises(IntegrityError):
        fail()
    assert count_rows(database) == 0


def test_a_read_sees_one_instant(database: Database) -> None:
    with database.read() as reader:
        first = reader.execute(select(schema.requests)).all()
        with database.write() as writer:
            writer.execute(insert(schema.requests), ROW)
        assert reader.execute(select(schema.requests)).all() == first == []
    assert count_rows(database) == 1


@pytest.mark.parametrize("table", ["ledger_entries", "labels", "requests"])
@pytest.mark.parametrize("change", ["DELETE FROM {}", "UPDATE {} SET create_time_us = 0"])
def test_the_database_itself_refuses_to_change_what_was_written(book: Any, table: str, change: str) -> None:
    book.create()
    order = book.order("weak", 2)
    book.submit(order, book.items(order))
    with book.database.write() as connection:
        connection.execute(insert(schema.requests), ROW)
    with pytest.raises(DBAPIError, match="append-only"), book.database.write() as connection:
        connection.exec_driver_sql(change.format(table))


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


def test_a_postgresql_that_restarted_is_found_again(postgres_database: Database, postgres: PostgresServer) -> None:
    assert count_rows(postgres_database) == 0
    # Its connections are cut, as by a restart; the pool holds one of them.
    postgres.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 'budget%'")
    assert count_rows(postgres_database) == 0


def test_a_postgresql_that_is_away_is_unavailable(tmp_path: Path) -> None:
    database = Database(f"postgresql+psycopg://postgres@/budget?host={tmp_path}")
    with pytest.raises(UnavailableError, match="not available"):
        database.migrate()
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
