"""The rows of an input file as items, in chunks of bounded size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from isocost.bulk.question import TaskFile
from isocost.client.call import MESSAGE_BYTES, MESSAGE_ITEMS
from isocost.core.errors import InvalidArgumentError
from isocost.core.limits import MESSAGE_BYTES_MAX
from isocost.resources.task import Item
from isocost.tasks.dataset import choose_pattern, pattern_columns
from isocost.tasks.scan import Scan

__all__ = ["ITEM_BYTES_MAX", "Row", "RowFile", "chunked"]

#: A longer item is refused here: with its question around it, it would not fit into a message.
ITEM_BYTES_MAX = MESSAGE_BYTES_MAX // 4


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the input.

    Attributes:
        number: Which row, counted from 0; its item's id on the wire.
        row_id: The caller's id; None where the input has no id column.
        item: What is labelled; None where the row cannot be read.
        n_bytes: UTF-8 length of the item's texts.
        error: Why there is no item, or "".
    """

    number: int
    row_id: str | None
    item: Item | None
    n_bytes: int = 0
    error: str = ""


class RowFile:
    """An input file whose columns suit a task.

    Args:
        path: The file.
        file: The task, and which columns its fields are made of.
        id_column: Column of the caller's ids; they need not be unique.

    Raises:
        InvalidArgumentError: names `--input` or `--id-column`.
    """

    def __init__(self, path: Path, file: TaskFile, id_column: str | None) -> None:
        self.path = path
        self.id_column = id_column
        self._scan = Scan(path, field="--input")
        found = self._scan.columns
        try:
            self._patterns = {
                name: choose_pattern(found, name, file.fields.get(name, f"{{{name}}}"), "--input")
                for name in file.task.fields
            }
        except InvalidArgumentError as error:
            raise InvalidArgumentError(
                "--input", f"{error.message}; rename the column, or give a campaign file whose data.fields tells it"
            ) from None
        if id_column is not None and id_column not in found:
            raise InvalidArgumentError(
                "--id-column", f"{str(path)!r} has no column {id_column!r}; it has {', '.join(map(repr, found))}"
            )
        columns = [column for pattern in self._patterns.values() for column in pattern_columns(pattern)]
        self._columns = list(dict.fromkeys([*columns, *([id_column] if id_column is not None else [])]))

    def count(self) -> int:
        """Number of rows; reads the file once.

        Raises:
            InvalidArgumentError: names `--input` where it cannot be read to its end, or has no rows.
        """
        n_rows = self._scan.count()
        if not n_rows:
            raise InvalidArgumentError("--input", f"{str(self.path)!r} has no rows; there is nothing to label")
        return n_rows

    def rows(self, *, start: int = 0, stop: int | None = None) -> Iterator[Row]:
        """The rows from `start` up to `stop`, counted from 0.

        Raises:
            InvalidArgumentError: names `--input` where it cannot be read.
        """
        for number, texts in enumerate(self._scan.rows(self._columns, start=start, stop=stop), start):
            if isinstance(texts, str):
                yield Row(number, None if self.id_column is None else "", None, error=texts)
                continue
            fields = {name: pattern.format_map(texts) for name, pattern in self._patterns.items()}
            row_id = None if self.id_column is None else texts[self.id_column]
            n_bytes = sum(len(text.encode()) for text in fields.values())
            if n_bytes > ITEM_BYTES_MAX:
                error = f"the item has {n_bytes:,} bytes, more than {ITEM_BYTES_MAX:,}; shorten its text"
                yield Row(number, row_id, None, error=error)
                continue
            yield Row(number, row_id, Item(str(number), fields), n_bytes)


def chunked(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Cuts rows into chunks that are one message each."""
    rows = iter(rows)
    while first := list(islice(rows, 1)):
        chunk, n_bytes = first, first[0].n_bytes
        while len(chunk) < MESSAGE_ITEMS and n_bytes < MESSAGE_BYTES:
            row = next(rows, None)
            if row is None:
                break
            chunk.append(row)
            n_bytes += row.n_bytes
        yield chunk
