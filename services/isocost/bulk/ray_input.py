"""The rows of an input file as a Ray dataset. Imports Ray, so only the Ray job imports this module."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata

from isocost.bulk.rows import Row, RowFile
from isocost.resources.task import Item

__all__ = ["RowSource", "rows_of"]

_SCHEMA = pa.schema(
    [("row", pa.int64()), ("id", pa.string()), ("fields", pa.string()), ("n_bytes", pa.int64()), ("error", pa.string())]
)


class RowSource(Datasource):  # type: ignore[misc]
    """The rows that are to be answered, in ranges that are read apart.

    Args:
        rows: The input, at a path that every machine has.
        answered: Rows to leave out.
        n_tasks: Ranges that the rest is cut into.
        block_rows: Rows handed over at a time.
    """

    def __init__(self, rows: RowFile, answered: npt.NDArray[np.bool_], n_tasks: int, block_rows: int) -> None:
        super().__init__()
        self._rows = rows
        self._block_rows = block_rows
        missing = np.flatnonzero(~answered)
        self._ranges = [
            # The rows that are left out are sent along as bits, for this range alone.
            (int(part[0]), int(part[-1]) + 1, len(part), np.packbits(answered[part[0] : part[-1] + 1]))
            for part in np.array_split(missing, min(n_tasks, len(missing)))
        ]

    @property
    def n_tasks(self) -> int:
        """Ranges that are read apart; not more than there are rows."""
        return len(self._ranges)

    def estimate_inmemory_data_size(self) -> int | None:
        """Not known."""
        return None

    def get_read_tasks(
        self,
        parallelism: int,  # noqa: ARG002 - the ranges are cut already
        per_task_row_limit: int | None = None,
        data_context: Any = None,  # noqa: ARG002 - Ray's signature
    ) -> list[ReadTask]:
        """One task a range."""
        return [
            ReadTask(
                functools.partial(_read, self._rows, start, stop, left_out, self._block_rows),
                BlockMetadata(num_rows=count, size_bytes=None, input_files=None, exec_stats=None),
                schema=_SCHEMA,
                per_task_row_limit=per_task_row_limit,
            )
            for start, stop, count, left_out in self._ranges
        ]


def _read(rows: RowFile, start: int, stop: int, left_out: npt.NDArray[np.uint8], block_rows: int) -> Iterator[pa.Table]:
    skip = np.unpackbits(left_out, count=stop - start).astype(bool)
    wanted = (row for row in rows.rows(start=start, stop=stop) if not skip[row.number - start])
    while block := list(islice(wanted, block_rows)):
        columns = zip(*(_values(row) for row in block), strict=True)
        yield pa.table([pa.array(column, field.type) for column, field in zip(columns, _SCHEMA, strict=True)], _SCHEMA)


def _values(row: Row) -> tuple[object, ...]:
    fields = None if row.item is None else json.dumps(dict(row.item.fields), ensure_ascii=False)
    return (row.number, row.row_id, fields, row.n_bytes, row.error)


def rows_of(batch: pa.Table) -> list[Row]:
    """The rows of a part of the dataset."""
    return [
        Row(
            value["row"],
            value["id"],
            None if value["fields"] is None else Item(str(value["row"]), json.loads(value["fields"])),
            value["n_bytes"],
            value["error"],
        )
        for value in batch.to_pylist()
    ]
