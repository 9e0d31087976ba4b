"""Files of tables: JSON lines, Parquet, or CSV. A file is whole or not there, and never held in memory."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, Protocol, TextIO, TypeVar

from isocost.client.table import Column, Table
from isocost.core.errors import FailedPreconditionError, InvalidArgumentError

__all__ = ["CSV_SUFFIX", "FIELDS_PREFIX", "SUFFIXES", "TableFile", "check_suffix", "open_table_file"]

#: What `open_table_file` writes as the rows come, by the end of the file's name.
SUFFIXES = (".jsonl", ".parquet")
#: What it writes at the end, when every row is known: the columns of a CSV file depend on them all.
CSV_SUFFIX = ".csv"
#: Begins the name of a CSV column that holds one of the items' texts.
FIELDS_PREFIX = "fields."
#: A CSV cell that holds one of these is quoted.
_SPECIAL = re.compile(r'[",\r\n]')
#: A row group of a Parquet file is written when it has so many rows, or so many characters of items' texts.
_GROUP_ROWS = 10_000
_GROUP_CHARACTERS = 32 << 20

_Record = TypeVar("_Record")
_Row = tuple[Any, ...]


class _Sink(Protocol):
    def write(self, row: _Row) -> None: ...

    def close(self) -> None: ...


class _JsonLines:
    def __init__(self, path: Path, columns: dict[str, Column]) -> None:
        self._file: TextIO = path.open("w", encoding="utf-8")
        self._names = tuple(columns)

    def write(self, row: _Row) -> None:
        values = (value.isoformat() if isinstance(value, datetime) else value for value in row)
        self._file.write(json.dumps(dict(zip(self._names, values, strict=True)), ensure_ascii=False) + "\n")

    def close(self) -> None:
        self._file.close()


class _Csv:
    """Rows wait in a nameless file beside the path: which texts the items have is known with the last of them."""

    def __init__(self, path: Path, columns: dict[str, Column]) -> None:
        self._columns = columns
        self._fields: dict[str, None] = {}
        self._file: TextIO = path.open("w", encoding="utf-8", newline="")
        try:
            self._waiting = tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n", dir=path.parent)  # noqa: SIM115
        except BaseException:
            self._file.close()
            raise

    def write(self, row: _Row) -> None:
        for value, column in zip(row, self._columns.values(), strict=True):
            if column is Column.FIELDS:
                self._fields.update(dict.fromkeys(value))
        values = [value.isoformat() if isinstance(value, datetime) else value for value in row]
        self._waiting.write(json.dumps(values) + "\n")

    def close(self) -> None:
        with self._file, self._waiting:
            header: list[str] = []
            for name, column in self._columns.items():
                if column is Column.FIELDS:
                    header += [f"{FIELDS_PREFIX}{field}" for field in self._fields]
                else:
                    header.append(name)
            self._file.write(_csv_line(header))
            self._waiting.seek(0)
            for line in self._waiting:
                self._file.write(_csv_line(self._cells(json.loads(line))))

    def _cells(self, row: list[Any]) -> Iterator[Any]:
        for value, column in zip(row, self._columns.values(), strict=True):
            if column is Column.FIELDS:
                yield from map(value.get, self._fields)
            elif column in (Column.REALS, Column.TEXTS):
                yield None if value is None else json.dumps(value, ensure_ascii=False)
            elif column is Column.BOOLEAN:
                yield None if value is None else json.dumps(value)
            else:
                yield value


def _csv_line(cells: Iterable[Any]) -> str:
    return ",".join(map(_csv_cell, cells)) + "\n"


def _csv_cell(value: Any) -> str:
    """No value is an empty cell, an empty text is two quotes: readers that look can tell them apart."""
    if value is None:
        return ""
    text = str(value)
    if text and not _SPECIAL.search(text):
        return text
    return '"' + text.replace('"', '""') + '"'


class _Parquet:
    def __init__(self, path: Path, columns: dict[str, Column]) -> None:
        try:
            import pyarrow as pa  # noqa: PLC0415 - an extra
            import pyarrow.parquet as pq  # noqa: PLC0415
        except ImportError:
            raise FailedPreconditionError(
                "Parquet files need pyarrow; install isocost[report], or write .jsonl or .csv"
            ) from None
        types = {
            Column.TEXT: pa.string(),
            Column.INTEGER: pa.int64(),
            Column.REAL: pa.float64(),
            Column.REALS: pa.list_(pa.float64()),
            Column.TEXTS: pa.list_(pa.string()),
            Column.BOOLEAN: pa.bool_(),
            Column.TIME: pa.timestamp("us", tz="UTC"),
            Column.FIELDS: pa.map_(pa.string(), pa.string()),
        }
        self._columns = columns
        self._schema = pa.schema([(name, types[column]) for name, column in columns.items()])
        self._table = pa.table
        self._array = pa.array
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._rows: list[_Row] = []
        self._n_characters = 0

    def write(self, row: _Row) -> None:
        self._rows.append(row)
        self._n_characters += sum(len(text) for value in row if isinstance(value, dict) for text in value.values())
        if len(self._rows) >= _GROUP_ROWS or self._n_characters >= _GROUP_CHARACTERS:
            self._flush()

    def _flush(self) -> None:
        arrays = []
        for index, (name, column) in enumerate(self._columns.items()):
            values = [row[index] for row in self._rows]
            if column is Column.FIELDS:
                values = [list(value.items()) for value in values]
            arrays.append(self._array(values, type=self._schema.field(name).type))
        self._writer.write_table(self._table(arrays, schema=self._schema))
        self._rows, self._n_characters = [], 0

    def close(self) -> None:
        # A table without rows is still a table: its file has the columns.
        self._flush()
        self._writer.close()


class TableFile(Generic[_Record]):
    """A file that is being written; n_rows counts what is in it."""

    def __init__(self, table: Table[_Record], sink: _Sink) -> None:
        self._table = table
        self._sink = sink
        self.n_rows = 0

    def add(self, record: _Record) -> None:
        """Appends a record."""
        self._sink.write(self._table.row(record))
        self.n_rows += 1


def check_suffix(path: Path) -> None:
    """Checks that `open_table_file` writes such a file.

    Raises:
        InvalidArgumentError: where the suffix is none of .jsonl, .parquet and .csv.
    """
    if path.suffix not in (*SUFFIXES, CSV_SUFFIX):
        known = ", ".join(SUFFIXES)
        raise InvalidArgumentError("file", f"{str(path)!r} ends in none of {known} and {CSV_SUFFIX}; choose one")


def _open_sink(path: Path, suffix: str, columns: dict[str, Column]) -> _Sink:
    if suffix == ".parquet":
        return _Parquet(path, columns)
    return _JsonLines(path, columns) if suffix == ".jsonl" else _Csv(path, columns)


@contextmanager
def open_table_file(path: Path, table: Table[_Record]) -> Iterator[TableFile[_Record]]:
    """Writes a table; the suffix of the path tells the format.

    It is written beside its place, as `.NAME.partial`, and moved there when the block ends well; otherwise nothing is
    left of it.

    Raises:
        InvalidArgumentError: where the suffix is none of .jsonl, .parquet and .csv.
        FailedPreconditionError: where a Parquet file is asked for and pyarrow is not installed.
    """
    check_suffix(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    sink = _open_sink(partial, path.suffix, dict(table.columns))
    try:
        try:
            file = TableFile(table, sink)
            yield file
        finally:
            sink.close()
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
