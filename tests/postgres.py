"""A PostgreSQL server of the machine's own binaries, for tests and benchmarks."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from isocost.budget.database import Database

__all__ = ["PostgresServer", "find_binaries", "running_postgres"]

_FOLDERS = "/usr/lib/postgresql"
_START_SECONDS_MAX = 60.0
#: Databases that are set up with the newest tables once, and copied for each test.
_TEMPLATE = "migrated"


def find_binaries() -> Path | None:
    """The folder with `initdb` and `postgres`: that of the newest server installed, or None."""
    in_path = shutil.which("initdb")
    if in_path is not None:
        return Path(in_path).resolve().parent
    folders = [folder for folder in Path(_FOLDERS).glob("*/bin") if (folder / "initdb").is_file()]
    return max(folders, key=lambda folder: float(folder.parent.name), default=None)


class PostgresServer:
    """A running server, reached over a unix socket only its own user and root can open."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count(1)

    def url(self, database: str) -> str:
        """SQLAlchemy URL of one of its databases."""
        return f"postgresql+psycopg://postgres@/{database}?host={self._folder}"

    def execute(self, statement: str) -> None:
        """Runs one administrative statement outside of any transaction."""
        with psycopg.connect(f"postgresql://postgres@/postgres?host={self._folder}", autocommit=True) as connection:
            connection.execute(statement.encode())

    def create_template(self) -> None:
        """Migrates the database that `create_database` copies."""
        self.execute(f"CREATE DATABASE {_TEMPLATE}")
        database = Database(self.url(_TEMPLATE))
        database.migrate()
        database.close()

    def create_database(self, *, migrated: bool = True) -> str:
        """A new database with the newest tables, or with none; returns its name."""
        name = f"budget_{next(self._numbers)}"
        template = _TEMPLATE if migrated else "template0"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        return name

    def drop_database(self, name: str) -> None:
        """Drops a database, whoever is connected to it."""
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def running_postgres(binaries: Path, *, durable: bool = True) -> Iterator[PostgresServer]:
    """Starts a server in a folder of its own, and stops it at the end.

    PostgreSQL refuses to run as root, so that root starts it as the user `postgres`.

    Args:
        binaries: What `find_binaries` found.
        durable: Whether a commit waits for the disk. Without it only a crash of the machine loses anything, so that
            tests which kill processes need not wait.
    """
    folder = Path(tempfile.mkdtemp(prefix="isocost-postgres-"))
    user = None
    if os.geteuid() == 0:
        user = "postgres"
        account = pwd.getpwnam(user)
        os.chown(folder, account.pw_uid, account.pw_gid)
    data = folder / "data"
    try:
        subprocess.run(
            [
                binaries / "initdb",
                "-D",
                data,
                "-U",
                "postgres",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--no-locale",
                "--no-sync",
            ],
            user=user,
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        with _server_process(binaries, folder, user, durable=durable):
            server = PostgresServer(folder)
            server.create_template()
            yield server
    finally:
        shutil.rmtree(folder)


@contextmanager
def _server_process(binaries: Path, folder: Path, user: str | None, *, durable: bool) -> Iterator[None]:
    settings = {"listen_addresses": "", "fsync": "on" if durable else "off"}
    log_path = folder / "log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [
                binaries / "postgres",
                *("-D", folder / "data"),
                *("-k", folder),
                *(f"--{name}={value}" for name, value in settings.items()),
            ],
            user=user,
            cwd=folder,
            stdout=log,
            stderr=log,
        )
    try:
        _wait_until_ready(process, folder, log_path)
        yield
    finally:
        # A fast shutdown: PostgreSQL ends its sessions and leaves a clean folder.
        process.send_signal(signal.SIGINT)
        process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], folder: Path, log_path: Path) -> None:
    last = time.monotonic() + _START_SECONDS_MAX
    while process.poll() is None and time.monotonic() < last:
        try:
            psycopg.connect(f"postgresql://postgres@/postgres?host={folder}").close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"PostgreSQL did not start:\n{log_path.read_text()}")
