"""Streams into files."""

from __future__ import annotations

from collections.abc import AsyncIterable
from pathlib import Path
from typing import TypeVar

from isocost.client.table import Table
from isocost.client.table_file import open_table_file

__all__ = ["write_table"]

_Record = TypeVar("_Record")


async def write_table(path: Path, table: Table[_Record], records: AsyncIterable[_Record]) -> int:
    """Writes a stream as JSON lines (.jsonl), Parquet (.parquet) or CSV (.csv), by the path's suffix.

    Returns the number of rows.

    Only a batch of rows is in memory at a time, and the file is whole or not there.

    Usage::

        await write_table(Path("labels.parquet"), LABELS, budget.labels("ag_news"))

    Raises:
        InvalidArgumentError: where the suffix is another.
        FailedPreconditionError: where Parquet is asked for and pyarrow is not installed.
        IsocostError: what the stream met.
    """
    with open_table_file(path, table) as file:
        async for record in records:
            file.add(record)
    return file.n_rows
