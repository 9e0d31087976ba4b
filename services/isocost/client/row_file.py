"""Rows of files that people or other programs wrote: CSV, JSON lines or Parquet, with the row's number for messages."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from isocost.client.table_file import FIELDS_PREFIX
from isocost.core.errors import FailedPreconditionError, InvalidArgumentError

__all__ = ["read_rows"]

#: A row, as (number, values by column).
_Numbered = tuple[int, dict[str, Any]]
#: The name of the first column, and what parts it from the second: some spreadsheets write semicolons or tabs.
_FIRST_COLUMN = re.compile(r'(?:\ufeff)?(?:[^",;\t\r\n]+|"[^"]*")([,;\t])')


def read_rows(path: Path, *, field: str = "file") -> Iterator[_Numbered]:
    """Reads a file row by row, by its suffix: .csv, .jsonl, .ndjson or .parquet.

    The texts of an item come as a mapping in `fields`, whether the file has them in one column or in columns
    `fields.NAME`. All other values are as the format has them: text in CSV, where an empty cell is None and `""` is the
    empty text. Rows without any value are left out.

    Args:
        path: The file.
        field: What errors name.

    Yields:
        The number of the row as a person counts it, and its values by column. In CSV the header is row 1, as in a
        spreadsheet; in the others the first row is.

    Raises:
        InvalidArgumentError: names `field` where the file is not there, or not of its format.
        FailedPreconditionError: where it is Parquet and pyarrow is not installed.
    """
    path = path.expanduser()
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InvalidArgumentError(field, f"{str(path)!r} has no known suffix; give a .csv, .jsonl or .parquet file")
    if not path.is_file():
        raise InvalidArgumentError(field, f"there is no file {str(path)!r}")
    for number, values in reader(path, field):
        if any(value is not None for value in values.values()):
            yield number, _with_fields(values)


def _with_fields(values: dict[str, Any]) -> dict[str, Any]:
    """Puts the columns `fields.NAME` into one mapping."""
    row: dict[str, Any] = {}
    texts: dict[str, Any] = {}
    for name, value in values.items():
        if name.startswith(FIELDS_PREFIX):
            texts[name.removeprefix(FIELDS_PREFIX)] = value
        elif name == "fields" and value is not None:
            # A map of Parquet is a list of pairs.
            texts.update(value)
        else:
            row[name] = value
    row["fields"] = {name: text for name, text in texts.items() if text is not None}
    return row


def _unreadable(path: Path, field: str, reason: str) -> InvalidArgumentError:
    return InvalidArgumentError(field, f"{str(path)!r} is not a readable {path.suffix[1:]} file: {reason}")


def _csv(path: Path, field: str) -> Iterator[_Numbered]:
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        first = _FIRST_COLUMN.match(file.readline())
    try:
        # The header is a row like the others: only then are its quotes read as theirs are.
        frame = pl.read_csv(path, has_header=False, infer_schema=False, separator=first.group(1) if first else ",")
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise _unreadable(
            path, field, f"{reason}; save it as UTF-8 with a cell for each column of the header"
        ) from None
    rows = frame.iter_rows()
    names = [name or "" for name in next(rows)]
    if twice := sorted({name for name in names if name and names.count(name) > 1}):
        raise _unreadable(path, field, f"two columns are named {twice[0]!r}; rename one")
    for number, cells in enumerate(rows, start=2):
        yield number, {name: cell for name, cell in zip(names, cells, strict=True) if name}


def _json_lines(path: Path, field: str) -> Iterator[_Numbered]:
    try:
        # Only line feeds end a line: a text may hold other line separators.
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                values = json.loads(line)
                if not isinstance(values, dict):
                    raise _unreadable(path, field, f"row {number} is no JSON object")
                yield number, values
    except json.JSONDecodeError as error:
        raise _unreadable(path, field, f"row {number}: {error.msg} at character {error.colno}") from None
    except (UnicodeDecodeError, OSError) as error:
        raise _unreadable(path, field, f"{error}; save it as UTF-8") from None


def _parquet(path: Path, field: str) -> Iterator[_Numbered]:
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ImportError:
        raise FailedPreconditionError(
            "Parquet files need pyarrow; install isocost[report], or give .jsonl or .csv"
        ) from None
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=10_000):
                for values in batch.to_pylist():
                    number += 1
                    yield number, values
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, field, str(error).splitlines()[0]) from None


_READERS: dict[str, Callable[[Path, str], Iterator[_Numbered]]] = {
    ".csv": _csv,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".parquet": _parquet,
}
