"""The budget service's database: reachable, of which revision, writable. Nothing is migrated or written."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from isocost.doctor.finding import Finding, failed, ok, warning

__all__ = ["check_database"]

_CONNECT_SECONDS = 5
_BUSY_SECONDS = 5.0
_BACKUP = "name the right database, or restore a backup (docs/operations.md)"


def check_database(url: str) -> Iterator[Finding]:
    """Looks into a database.

    Args:
        url: SQLAlchemy URL, `sqlite:///FILE` or `postgresql://...`.
    """
    try:
        from sqlalchemy import make_url  # noqa: PLC0415 - an extra
        from sqlalchemy.exc import ArgumentError  # noqa: PLC0415
    except ImportError as error:
        yield failed("database", f"{error.name} is not installed", "pip install 'isocost[budget]'")
        return
    try:
        parsed = make_url(url)
    except ArgumentError:
        yield failed(
            "database", "the URL makes no sense", "give sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME"
        )
        return
    backend = parsed.get_backend_name()
    if backend == "sqlite" and parsed.database:
        yield from _check_sqlite(Path(parsed.database))
    elif backend == "postgresql":
        # Shown without its password, which an error message could carry.
        shown = parsed.render_as_string(hide_password=True)
        plain = parsed.set(drivername="postgresql").render_as_string(hide_password=False)
        yield from _check_postgres(plain, shown)
    else:
        yield failed("database", f"{backend!r} is not supported", "give sqlite:///FILE or postgresql://...")


def _newest_revision() -> tuple[str, list[str]]:
    """The revision of the code, and all that it knows."""
    from alembic.script import ScriptDirectory  # noqa: PLC0415 - an extra

    import isocost.budget  # noqa: PLC0415

    scripts = ScriptDirectory(str(Path(isocost.budget.__path__[0]) / "migrations"))
    newest = scripts.get_current_head()
    assert newest is not None
    return newest, [script.revision for script in scripts.walk_revisions()]


def _revision(found: str | None, shown: str) -> Finding:
    newest, known = _newest_revision()
    if found is None:
        return warning(
            "database",
            f"{shown} has no tables yet",
            "none, where it is new: `isocost serve budget` makes them at its start",
        )
    if found == newest:
        return ok("database", f"{shown} is of revision {found}, which is the code's")
    if found in known:
        return warning(
            "database",
            f"{shown} is of revision {found}, the code is of {newest}",
            "back it up, then start the budget service, which upgrades it (docs/operations.md)",
        )
    return failed(
        "database", f"{shown} is of revision {found}, which a newer isocost made", "use that version of isocost"
    )


def _check_sqlite(path: Path) -> Iterator[Finding]:
    if not path.exists():
        yield warning("database", f"{path} is not there yet", "none, where it is new: `isocost serve budget` makes it")
        return
    address = f"file:{quote(str(path.absolute()))}?mode=rw"
    try:
        # Not more than reading needs: a file that may not be written is told apart below.
        with closing(sqlite3.connect(address.replace("mode=rw", "mode=ro"), uri=True, timeout=_BUSY_SECONDS)) as reader:
            tables = {row[0] for row in reader.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            row = (
                reader.execute("SELECT version_num FROM alembic_version").fetchone()
                if "alembic_version" in tables
                else None
            )
    except sqlite3.Error as error:
        yield failed("database", f"{path} cannot be read: {error}", _BACKUP)
        return
    if tables and "alembic_version" not in tables:
        yield failed("database", f"{path} holds tables of something else", "name another file")
        return
    yield _revision(row[0] if row else None, str(path))
    if not (os.access(path, os.W_OK) and os.access(path.absolute().parent, os.W_OK)):
        yield failed("database, writing", f"{path} or its folder is not writable", "let this user write both")
        return
    try:
        # Takes the write lock and gives it back: nothing is written.
        with closing(sqlite3.connect(address, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)) as writer:
            writer.execute("BEGIN IMMEDIATE")
            writer.execute("ROLLBACK")
    except sqlite3.Error as error:
        yield failed(
            "database, writing", f"{path} cannot be written to: {error}", "let this user write it, or end who locks it"
        )
    else:
        yield ok("database, writing", "writable")


def _check_postgres(url: str, shown: str) -> Iterator[Finding]:
    try:
        import psycopg  # noqa: PLC0415 - an extra
    except ImportError:
        yield failed("database", "psycopg is not installed", "pip install 'isocost[postgres]'")
        return
    try:
        with psycopg.connect(url, connect_timeout=_CONNECT_SECONDS, autocommit=True) as connection:
            row = connection.execute("SELECT to_regclass('alembic_version') IS NOT NULL").fetchone()
            has_tables = row is not None and bool(row[0])
            found = connection.execute("SELECT version_num FROM alembic_version").fetchone() if has_tables else None
            yield _revision(found[0] if found else None, shown)
            allowed = connection.execute(
                "SELECT NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off' AND "
                + (
                    "has_table_privilege('ledger_entries', 'INSERT') AND has_table_privilege('campaigns', 'UPDATE')"
                    if has_tables
                    else "has_schema_privilege(current_schema(), 'CREATE')"
                )
            ).fetchone()
    except psycopg.Error as error:
        said = str(error).strip().splitlines()
        yield failed(
            "database",
            f"{shown} cannot be read: {said[0] if said else type(error).__name__}",
            "start PostgreSQL; check host, port, name, user, password and pg_hba.conf",
        )
        return
    if allowed is not None and allowed[0]:
        yield ok("database, writing", "writable")
    else:
        yield failed(
            "database, writing",
            f"{shown} is a standby, read-only, or its user may not write",
            "name the primary, and let the user who made the tables connect",
        )
