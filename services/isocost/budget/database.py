"""The database: engine, transactions, migrations.

Every mutation is one write transaction. On SQLite all of a process's writes go through one thread, and `BEGIN
IMMEDIATE` takes the file's write lock at once, so that no transaction fails half-way for want of it. Nothing waits for
the network inside a transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import alembic.command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, InterfaceError, OperationalError

from isocost.core.errors import FailedPreconditionError, InvalidArgumentError, UnavailableError

__all__ = ["Database"]

_WRITE = "isocost_write"
_Result = TypeVar("_Result")


def _prepare_sqlite(engine: Engine, busy_timeout_seconds: float) -> None:
    """Durable, checked and concurrent: WAL, synchronous=FULL, foreign keys, explicit transactions."""

    @event.listens_for(engine, "connect")
    def _connect(dbapi_connection: Any, _record: Any) -> None:
        # The driver must not begin transactions of its own: the "begin" event does.
        dbapi_connection.isolation_level = None
        cursor = dbapi_connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {round(busy_timeout_seconds * 1000)}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writing = connection.get_execution_options().get(_WRITE, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


class Database:
    """A database by URL, used from threads.

    Usage::

        database = Database("sqlite:///isocost.db")
        database.migrate()
        with database.write() as connection:
            ...
        balance = await database.run_read(lambda connection: ledger.balance(connection, "ag_news"))

    Args:
        url: SQLAlchemy URL; a SQLite file's folder is made.
        busy_timeout_seconds: How long to wait for another process's lock on a SQLite file.
        reader_threads: Read transactions at the same time.

    Raises:
        InvalidArgumentError: where the URL is not one of a SQLite file or a PostgreSQL database.
    """

    def __init__(self, url: str, *, busy_timeout_seconds: float = 30.0, reader_threads: int = 4) -> None:
        try:
            parsed = make_url(url)
        except ArgumentError:
            raise InvalidArgumentError("database_url", f"{url!r} is not a URL; give sqlite:///FILE") from None
        backend = parsed.get_backend_name()
        if backend not in ("sqlite", "postgresql"):
            raise InvalidArgumentError("database_url", f"{backend!r} is not supported; use sqlite or postgresql")
        if backend == "sqlite":
            if parsed.database in (None, "", ":memory:"):
                raise InvalidArgumentError(
                    "database_url", "names no file; give sqlite:///FILE so that no money is lost"
                )
            _make_folder(Path(str(parsed.database)).absolute().parent)
        writer_threads = 1 if backend == "sqlite" else reader_threads
        engine = create_engine(parsed, pool_size=reader_threads + writer_threads, pool_pre_ping=backend != "sqlite")
        if backend == "sqlite":
            _prepare_sqlite(engine, busy_timeout_seconds)
            self._reader = engine
        else:
            # One snapshot for a whole read, as SQLite gives it.
            self._reader = engine.execution_options(isolation_level="REPEATABLE READ")
        self._engine = engine
        self._writer = engine.execution_options(**{_WRITE: True})
        self._writer_threads = ThreadPoolExecutor(writer_threads, thread_name_prefix="budget-write")
        self._reader_threads = ThreadPoolExecutor(reader_threads, thread_name_prefix="budget-read")

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A write transaction: commits at the end, or changes nothing where an error leaves the block.

        Raises:
            UnavailableError: where the database is away, full, or locked by another process for too long.
        """
        with _named_errors(), self._writer.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A read transaction: one snapshot.

        Raises:
            UnavailableError: as `write`.
        """
        with _named_errors(), self._reader.begin() as connection:
            yield connection

    async def run_write(self, work: Callable[[Connection], _Result]) -> _Result:
        """Runs work in a write transaction on the writer's thread; returns after the commit."""

        def run() -> _Result:
            with self.write() as connection:
                return work(connection)

        return await asyncio.get_running_loop().run_in_executor(self._writer_threads, run)

    async def run_read(self, work: Callable[[Connection], _Result]) -> _Result:
        """Runs work in a read transaction on a reader's thread."""

        def run() -> _Result:
            with self.read() as connection:
                return work(connection)

        return await asyncio.get_running_loop().run_in_executor(self._reader_threads, run)

    def migrate(self) -> None:
        """Brings the tables to the newest revision, in one transaction.

        Raises:
            FailedPreconditionError: where a newer isocost made the database, or the file is no database.
            UnavailableError: as `write`.
        """
        config = Config()
        folder = Path(__file__).parent / "migrations"
        # A config file's values interpolate with percent signs.
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
        with self.write() as connection:
            config.attributes["connection"] = connection
            try:
                alembic.command.upgrade(config, "head")
            except CommandError as error:
                raise FailedPreconditionError(
                    f"the database cannot be migrated ({error}); a newer isocost made it: use that version"
                ) from error

    def close(self) -> None:
        """Lets running transactions end, then closes every connection."""
        self._writer_threads.shutdown(wait=True)
        self._reader_threads.shutdown(wait=True)
        self._engine.dispose()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidArgumentError("database_url", f"its folder cannot be made: {error}") from None


@contextmanager
def _named_errors() -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        raise UnavailableError(f"the database is not available: {error.orig}; try again") from error
    except DatabaseError as error:
        # The class itself, none of its others: SQLite says so where the file is something else, or damaged.
        if type(error) is not DatabaseError:
            raise
        raise FailedPreconditionError(
            f"the database cannot be read: {error.orig}; name another file or restore a backup", field="database_url"
        ) from error
