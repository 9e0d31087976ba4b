"""Files of any size, row by row: what is in memory at a time does not grow with the file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from isocost.core.errors import InvalidArgumentError

__all__ = ["SUFFIXES", "Scan", "ScannedRow"]

#: What can be scanned, by the end of the file's name.
SUFFIXES = (".csv", ".jsonl", ".ndjson", ".parquet")
#: Rows that polars hands over at a time.
_BATCH_ROWS = 500
#: Lines of a JSON file in which its columns are looked for.
_HEAD_LINES = 100

ScannedRow = Mapping[str, str] | str
"""The texts of a row by column, missing ones as ""; or why the row cannot be read."""


class Scan:
    """A CSV, JSONL or Parquet file, read from the top as often as wished.

    All values are read as text, so that a column of numbers with a word far below is no error. A line of JSON that is
    none is an error of its row alone; a CSV file that is malformed is one of the file, which `count` finds.

    Usage::

        scan = Scan(Path("pool.csv"), field="--input")
        for number, row in enumerate(scan.rows(["text"])):
            ...

    Args:
        path: The file; its suffix tells the format.
        field: Named in errors.

    Raises:
        InvalidArgumentError: the file is not there, its suffix is not known, or it has no columns.
    """

    def __init__(self, path: Path, *, field: str) -> None:
        # Absolute, as another process may read it from another folder.
        self._path = path.expanduser().absolute()
        self._field = field
        if self._path.suffix.lower() not in SUFFIXES:
            raise InvalidArgumentError(
                field, f"{str(path)!r} has no known suffix; give a .csv, .jsonl or .parquet file"
            )
        if not self._path.is_file():
            raise InvalidArgumentError(field, f"there is no file {str(path)!r}")
        self._is_json = self._path.suffix.lower() in (".jsonl", ".ndjson")
        self.columns: tuple[str, ...] = self._find_columns()
        """Names of the columns; of a JSONL file, those that its first 100 lines have."""
        if not self.columns:
            raise InvalidArgumentError(field, f"{str(path)!r} has no rows; there is nothing to label")

    def count(self) -> int:
        """Number of rows; reads the file once.

        Raises:
            InvalidArgumentError: the file cannot be read to its end.
        """
        if self._is_json:
            with self._path.open("rb") as lines:
                return sum(1 for line in lines if line.strip())
        try:
            if self._path.suffix.lower() == ".parquet":
                return int(pl.scan_parquet(self._path).select(pl.len()).collect(engine="streaming").item())
            # Looking at every value finds a malformed line before anything is labelled.
            frame = self._lazy().select(pl.len(), pl.all().null_count().name.prefix("nulls of "))
            return int(frame.collect(engine="streaming")["len"].item())
        except (pl.exceptions.PolarsError, OSError) as error:
            raise self._unreadable(error) from None

    def rows(self, columns: Sequence[str], *, start: int = 0, stop: int | None = None) -> Iterator[ScannedRow]:
        """The rows from `start` up to `stop`, both counted from 0; to the end where stop is None.

        Args:
            columns: Those that are read.
            start: First row.
            stop: Row after the last one.

        Raises:
            InvalidArgumentError: the file cannot be read.
        """
        if self._is_json:
            yield from self._json_rows(columns, start, stop)
            return
        try:
            frame = self._lazy().select(pl.col(list(columns)).cast(pl.String).fill_null(""))
            if start or stop is not None:
                frame = frame.slice(start, None if stop is None else stop - start)
            for batch in frame.collect_batches(chunk_size=_BATCH_ROWS, maintain_order=True):
                yield from batch.iter_rows(named=True)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise self._unreadable(error) from None

    def _json_rows(self, columns: Sequence[str], start: int, stop: int | None) -> Iterator[ScannedRow]:
        with self._path.open("rb") as lines:
            for line in islice((line for line in lines if line.strip()), start, stop):
                try:
                    value = json.loads(line)
                except ValueError as error:
                    yield f"the line is not JSON: {error}"
                    continue
                if isinstance(value, dict):
                    yield {column: _text(value.get(column)) for column in columns}
                else:
                    yield "the line is no JSON object; write {...} with a value for each column"

    def _find_columns(self) -> tuple[str, ...]:
        if not self._is_json:
            try:
                return tuple(self._lazy().collect_schema())
            except pl.exceptions.NoDataError:
                return ()
            except (pl.exceptions.PolarsError, OSError) as error:
                raise self._unreadable(error) from None
        names: dict[str, None] = {}
        n_lines = 0
        with self._path.open("rb") as lines:
            for line in islice((line for line in lines if line.strip()), _HEAD_LINES):
                n_lines += 1
                try:
                    value = json.loads(line)
                except ValueError:
                    continue
                if isinstance(value, dict):
                    names.update(dict.fromkeys(value))
        if n_lines and not names:
            raise InvalidArgumentError(self._field, f"{str(self._path)!r} holds no JSON objects, one in a line")
        return tuple(names)

    def _lazy(self) -> pl.LazyFrame:
        if self._path.suffix.lower() == ".parquet":
            return pl.scan_parquet(self._path)
        return pl.scan_csv(self._path, infer_schema=False)

    def _unreadable(self, error: Exception) -> InvalidArgumentError:
        kind, reason = self._path.suffix[1:], str(error).splitlines()[0]
        return InvalidArgumentError(self._field, f"{str(self._path)!r} is not a readable {kind} file: {reason}")


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
