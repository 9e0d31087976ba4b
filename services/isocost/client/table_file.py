"""Files of tables: JSON lines, or Parquet. A file is whole or not there, and never held in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, Protocol, TextIO, TypeVar

from isocost.client.table import Column, Table
from isocost.core.errors import FailedPreconditionError, InvalidArgumentError

__all__ = ["SUFFIXES", "TableFile", "open_table_file"]

#: What `open_table_file` writes, by the end of the file's name.
SUFFIXES = (".jsonl", ".parquet")
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


class _Parquet:
    def __init__(self, path: Path, columns: dict[str, Column]) -> None:
        try:
            import pyarrow as pa  # noqa: PLC0415 - an extra
            import pyarrow.parquet as pq  # noqa: PLC0415
        except ImportError:
            raise FailedPreconditionError(
                "Parquet files need pyarrow; install isocost[report], or write .jsonl"
            ) from None
        types = {
            Column.TEXT: pa.string(),
            Column.INTEGER: pa.int64(),
            Column.REAL: pa.float64(),
            Column.REALS: pa.list_(pa.float64()),
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


@contextmanager
def open_table_file(path: Path, table: Table[_Record]) -> Iterator[TableFile[_Record]]:
    """Writes a table; the suffix of the path tells the format.

    It is written beside its place, as `.NAME.partial`, and moved there when the block ends well; otherwise nothing is
    left of it.

    Raises:
        InvalidArgumentError: where the suffix is neither .jsonl nor .parquet.
        FailedPreconditionError: where a Parquet file is asked for and pyarrow is not installed.
    """
    if path.suffix not in SUFFIXES:
        raise InvalidArgumentError("file", f"{str(path)!r} ends in neither {' nor '.join(SUFFIXES)}; choose one")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    columns = dict(table.columns)
    sink: _Sink = _Parquet(partial, columns) if path.suffix == ".parquet" else _JsonLines(partial, columns)
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
