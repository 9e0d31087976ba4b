"""The label store: what was computed once is never computed again."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from isocost.core.errors import FailedPreconditionError

__all__ = ["LabelStore", "StoredLabel"]

_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE labels (
    key TEXT PRIMARY KEY,
    probabilities TEXT NOT NULL,
    choices_mass REAL NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    engine_fingerprint TEXT NOT NULL,
    create_time TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) WITHOUT ROWID
"""
#: SQLite's oldest limit on the variables of one statement is 999.
_KEYS_PER_QUERY = 500


@dataclass(frozen=True, slots=True)
class StoredLabel:
    """A label as computed.

    Attributes:
        probabilities: One for each choice, summing to 1.
        choices_mass: Probability of the choices together before normalising.
        prompt_tokens: Tokens of the prompt.
        engine_fingerprint: Model, engine and versions that made it.
    """

    probabilities: tuple[float, ...]
    choices_mass: float
    prompt_tokens: int
    engine_fingerprint: str


class LabelStore:
    """Labels by content key in one SQLite file; several labelers may share it.

    Usage::

        store = LabelStore(folder / "labels.sqlite")
        await store.open()
        await store.put({key: label})  # on disk when it returns
        await store.get([key])
        await store.close()
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        # One connection, used from worker threads one at a time.
        self._lock = threading.Lock()

    async def open(self) -> None:
        """Opens the file and makes it where it is missing.

        Raises:
            FailedPreconditionError: the file cannot be used; the message names it.
        """
        await asyncio.to_thread(self._open)

    async def get(self, keys: Sequence[str]) -> dict[str, StoredLabel]:
        """The labels that are there, by key."""
        return await asyncio.to_thread(self._get, keys)

    async def put(self, labels: Mapping[str, StoredLabel]) -> None:
        """Stores labels; one that is there already stays as it is. They are on disk when it returns."""
        if labels:
            await asyncio.to_thread(self._put, labels)

    async def count(self) -> int:
        """Number of labels."""
        return await asyncio.to_thread(self._count)

    async def close(self) -> None:
        """Closes the file; closing twice does nothing."""
        await asyncio.to_thread(self._close)

    def _open(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self._path, timeout=30.0, check_same_thread=False, isolation_level=None)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN IMMEDIATE")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == 0:
                connection.execute(_SCHEMA)
                connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
            connection.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            raise FailedPreconditionError(
                f"the label store {str(self._path)!r} cannot be used: {error}; "
                "give a writable state_dir, or move the file away to begin a new one",
                field="state_dir",
            ) from None
        if version not in (0, _SCHEMA_VERSION):
            connection.close()
            raise FailedPreconditionError(
                f"the label store {str(self._path)!r} was written by another version of isocost (schema {version}, "
                f"here {_SCHEMA_VERSION}); use that version or another state_dir",
                field="state_dir",
            )
        self._connection = connection

    def _get(self, keys: Sequence[str]) -> dict[str, StoredLabel]:
        found: dict[str, StoredLabel] = {}
        with self._lock:
            connection = self._opened()
            for part in _cut(keys):
                marks = ",".join("?" * len(part))
                rows = connection.execute(
                    "SELECT key, probabilities, choices_mass, prompt_tokens, engine_fingerprint "
                    f"FROM labels WHERE key IN ({marks})",
                    part,
                )
                for key, probabilities, choices_mass, prompt_tokens, engine_fingerprint in rows:
                    found[key] = StoredLabel(
                        tuple(json.loads(probabilities)), choices_mass, prompt_tokens, engine_fingerprint
                    )
        return found

    def _put(self, labels: Mapping[str, StoredLabel]) -> None:
        rows = [
            (key, json.dumps(label.probabilities), label.choices_mass, label.prompt_tokens, label.engine_fingerprint)
            for key, label in labels.items()
        ]
        with self._lock:
            connection = self._opened()
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.executemany(
                    "INSERT OR IGNORE INTO labels (key, probabilities, choices_mass, prompt_tokens, engine_fingerprint)"
                    " VALUES (?, ?, ?, ?, ?)",
                    rows,
                )
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def _count(self) -> int:
        with self._lock:
            (number,) = self._opened().execute("SELECT count(*) FROM labels").fetchone()
        return int(number)

    def _close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _opened(self) -> sqlite3.Connection:
        assert self._connection is not None, "open() comes first"
        return self._connection


def _cut(keys: Sequence[str]) -> Iterable[list[str]]:
    for start in range(0, len(keys), _KEYS_PER_QUERY):
        yield list(keys[start : start + _KEYS_PER_QUERY])
