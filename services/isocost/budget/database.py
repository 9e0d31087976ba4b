"""The database: engine, transactions, migrations.

Every mutation is one write transaction. On SQLite all of a process's writes go through one thread, and `BEGIN
IMMEDIATE` takes the file's write lock at once, so that no transaction fails half-way for want of it. Nothing waits for
the network inside a transaction.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import alembic.command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, Table, create_engine, event, make_url
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import ArgumentError, DatabaseError, InterfaceError, OperationalError

from isocost.budget.reads import Loader, ReadsById
from isocost.core.errors import FailedPreconditionError, InvalidArgumentError, UnavailableError

__all__ = ["Database", "execute_many", "insert_rows"]

_WRITE = "isocost_write"
_SINGLE = "isocost_single_statements"
#: Of SQLite: page cache of a connection, bytes of the file read through the page table, and pages of 4 KiB written
#: before they are moved into the file. A random order touches pages all over a large pool.
_CACHE_KIB = 65_536
_MAPPED_BYTES = 1 << 30
_CHECKPOINT_PAGES = 10_000
_POSTGRESQL = postgresql.dialect()  # type: ignore[no-untyped-call]
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
        cursor.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        cursor.execute(f"PRAGMA mmap_size = {_MAPPED_BYTES}")
        cursor.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        if not options.get(_SINGLE, False):
            connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get(_WRITE, False) else "BEGIN")


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
            raise InvalidArgumentError(
                "database_url", f"{url!r} is not a URL; give sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME"
            ) from None
        backend = parsed.get_backend_name()
        if backend not in ("sqlite", "postgresql"):
            raise InvalidArgumentError("database_url", f"{backend!r} is not supported; use sqlite or postgresql")
        if parsed.drivername == "postgresql":
            # SQLAlchemy's own default is the driver before this one.
            parsed = parsed.set(drivername="postgresql+psycopg")
        if backend == "sqlite":
            if parsed.database in (None, "", ":memory:"):
                raise InvalidArgumentError(
                    "database_url", "names no file; give sqlite:///FILE so that no money is lost"
                )
            _make_folder(Path(str(parsed.database)).absolute().parent)
        writer_threads = 1 if backend == "sqlite" else reader_threads
        try:
            engine = create_engine(
                parsed, pool_size=reader_threads + writer_threads + 1, pool_pre_ping=backend != "sqlite"
            )
        except ModuleNotFoundError as error:
            raise FailedPreconditionError(
                f"the driver {error.name!r} is not installed; install isocost[postgres]", field="database_url"
            ) from None
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
        single = {_SINGLE: True} if backend == "sqlite" else {"isolation_level": "AUTOCOMMIT"}
        self._single_reader = engine.execution_options(**single)
        self._single_connection: Connection | None = None
        self._single_thread = ThreadPoolExecutor(1, thread_name_prefix="budget-read-by-id")
        # Readers of a SQLite file in WAL mode wait for no writer, so they need no thread.
        self._reads_by_id = ReadsById(self._read_single, None if backend == "sqlite" else self._single_thread)

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

    @contextmanager
    def _read_single(self) -> Iterator[Connection]:
        """Statements without a transaction, on a connection kept for them.

        Taking a connection from the pool and beginning a transaction cost several times what a read by id does.
        """
        with _named_errors():
            if self._single_connection is None:
                self._single_connection = self._single_reader.connect()
            try:
                # SQLAlchemy thinks that a transaction was begun; the database was told of none.
                yield self._single_connection
            except OperationalError:
                # A new one next time, whatever became of this one.
                connection, self._single_connection = self._single_connection, None
                connection.close()
                raise

    async def run_write(self, work: Callable[[Connection], _Result]) -> _Result:
        """Runs work in a write transaction on the writer's thread; returns after the commit."""

        def run() -> _Result:
            with self.write() as connection:
                return work(connection)

        return await asyncio.get_running_loop().run_in_executor(self._writer_threads, run)

    async def read_by_id(self, loader: Loader[_Result], key: str) -> _Result | None:
        """What a loader finds under an id, read together with the others that wait (see `ReadsById`).

        Raises:
            UnavailableError: as `write`.
        """
        try:
            return await self._reads_by_id.read(loader, key)
        except UnavailableError:
            # The kept connection may have died unnoticed; those of the pool are tried before they are used.
            found = await self.run_read(lambda connection: loader(connection, [key]))
            return found.get(key)

    async def run_read(self, work: Callable[[Connection], _Result]) -> _Result:
        """Runs work in a read transaction, which is one snapshot, on a reader's thread."""

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
        with self._migration() as connection:
            config.attributes["connection"] = connection
            try:
                alembic.command.upgrade(config, "head")
            except CommandError as error:
                raise FailedPreconditionError(
                    f"the database cannot be migrated ({error}); a newer isocost made it: use that version"
                ) from error

    @contextmanager
    def _migration(self) -> Iterator[Connection]:
        """A write transaction in which tables may be made anew: SQLite then checks foreign keys at its end only."""
        with _named_errors(), self._writer.connect() as connection:
            if connection.dialect.name != "sqlite":
                with connection.begin():
                    yield connection
                return
            # The pragma does nothing inside a transaction, so it goes past SQLAlchemy, which would begin one.
            pragma: Any = connection.connection.dbapi_connection
            pragma.execute("PRAGMA foreign_keys = OFF")
            try:
                with connection.begin():
                    yield connection
                    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
                    assert broken is None, f"the migration would break a foreign key: {broken}"
            finally:
                pragma.execute("PRAGMA foreign_keys = ON")

    def close(self) -> None:
        """Lets running transactions end, then closes every connection."""
        self._writer_threads.shutdown(wait=True)
        self._reader_threads.shutdown(wait=True)
        self._single_thread.shutdown(wait=True)
        if self._single_connection is not None:
            self._single_connection.close()
        self._engine.dispose()


def insert_rows(
    connection: Connection,
    table: Table,
    names: tuple[str, ...],
    rows: Sequence[tuple[Any, ...]],
    *,
    replacing: str = "",
) -> None:
    """Inserts many rows the fast way of each database.

    Args:
        connection: A write transaction.
        table: Where.
        names: Columns.
        rows: Their values; each primary key at most once.
        replacing: The column that is set where the key is there already; "" where that is an error.
    """
    if rows:
        statement = _insert_statement(connection.dialect.name, table, names)
        if replacing:
            key = ", ".join(table.primary_key.columns.keys())
            statement += f" ON CONFLICT ({key}) DO UPDATE SET {replacing} = excluded.{replacing}"
        execute_many(connection, statement, rows)


def execute_many(connection: Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Executes a statement for many rows by the driver itself: SQLAlchemy's parameters cost more than the statement.

    Args:
        connection: A write transaction.
        statement: On SQLite with one `?` for each value, executed for each row; on PostgreSQL with one array `%s` for
            each value, executed once: a statement for each row costs a round trip each.
        rows: One or more.
    """
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(statement, list(rows))
    else:
        connection.exec_driver_sql(statement, tuple(list(column) for column in zip(*rows, strict=True)))


@functools.cache
def _insert_statement(dialect: str, table: Table, names: tuple[str, ...]) -> str:
    columns = ", ".join(names)
    if dialect == "sqlite":
        return f"INSERT INTO {table.name} ({columns}) VALUES ({', '.join('?' * len(names))})"
    arrays = ", ".join(f"%s::{table.c[name].type.compile(_POSTGRESQL)}[]" for name in names)
    return f"INSERT INTO {table.name} ({columns}) SELECT * FROM unnest({arrays})"


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
