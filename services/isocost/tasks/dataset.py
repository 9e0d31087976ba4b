"""Datasets: a file, a hub dataset or the microworld in; items with their gold answers, where known, out."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from isocost.core.errors import InvalidArgumentError
from isocost.core.ids import content_digest
from isocost.resources.task import Item, Task

__all__ = ["Pool", "build_pool", "choose_pattern", "pattern_columns", "read_file", "read_hub"]

_READERS: dict[str, Callable[[Path], pl.DataFrame]] = {
    ".parquet": pl.read_parquet,
    ".csv": pl.read_csv,
    ".jsonl": pl.read_ndjson,
    ".ndjson": pl.read_ndjson,
}


def read_file(path: str | Path, *, field: str = "data.path") -> pl.DataFrame:
    """Reads a CSV, JSONL or Parquet file, chosen by its suffix.

    Raises:
        InvalidArgumentError: names `field` where the file is not there or cannot be read.
    """
    path = Path(path).expanduser()
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InvalidArgumentError(field, f"{str(path)!r} has no known suffix; give a .csv, .jsonl or .parquet file")
    if not path.is_file():
        raise InvalidArgumentError(field, f"there is no file {str(path)!r}")
    try:
        return reader(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidArgumentError(field, f"{str(path)!r} is not a readable {path.suffix[1:]} file: {reason}") from None


def read_hub(name: str, config: str | None, split: str, *, field: str = "data.hub") -> pl.DataFrame:
    """Reads one split of a hub dataset.

    Raises:
        InvalidArgumentError: names `field` where the hub, the dataset or the split cannot be had.
    """
    try:
        from datasets import load_dataset  # noqa: PLC0415 - an optional extra, slow to import
        from huggingface_hub.utils import logging as hub_logging  # noqa: PLC0415
    except ImportError:
        raise InvalidArgumentError(
            field, "reading from the hub needs the package 'datasets'; install isocost[hub] or give a local file"
        ) from None
    # One message of ours instead of one for each of its retries.
    hub_logging.set_verbosity_error()
    try:
        dataset = load_dataset(name, config, split=split)
    except Exception as error:  # noqa: BLE001 - the library raises what its many back ends raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InvalidArgumentError(
            field, f"{name!r} ({split}) cannot be read from the hub: {reason}; give a local copy with --data FILE"
        ) from None
    frame = pl.from_arrow(dataset.with_format("arrow")[:])
    if not isinstance(frame, pl.DataFrame):
        raise InvalidArgumentError(field, f"{name!r} is not a table")
    return frame


@dataclass(frozen=True, slots=True)
class Pool:
    """Items in the dataset's order and, by item id, the index of the gold answer where the dataset names one."""

    items: tuple[Item, ...]
    gold: Mapping[str, int]


def build_pool(
    frame: pl.DataFrame,
    task: Task,
    *,
    fields: Mapping[str, str | Sequence[str]],
    id_column: str | None = None,
    gold_column: str | None = None,
    gold_values: Mapping[str, str] | None = None,
    n_items_max: int | None = None,
    origin: str = "data",
) -> Pool:
    """Makes items from a table's rows.

    Args:
        frame: One row an item.
        task: Its template's fields are made for each item.
        fields: For a field, a pattern over columns such as "{title}. {text}", or several of them, of which the first
            whose columns are all there is used. A field not listed is the column of its name.
        id_column: Column of the caller's ids; where None, an id is made from the fields' content, and rows of equal
            content are one item.
        gold_column: Column of the gold answer; where None, no gold answers are read.
        gold_values: Choice by gold value, both as text. Where None, text must equal a choice, and whole numbers or
            booleans are ranked: the smallest of the values that occur is the first choice.
        n_items_max: Keep only so many rows, from the top.
        origin: Prefix of the fields named in errors.

    Raises:
        InvalidArgumentError: an empty table, a column that is not there, an id given twice with other content, an
            unknown gold value.
    """
    if n_items_max is not None:
        frame = frame.head(n_items_max)
    if frame.is_empty():
        raise InvalidArgumentError(origin, "the dataset has no rows; an empty pool cannot be labelled")
    patterns = {
        name: choose_pattern(frame.columns, name, fields.get(name, f"{{{name}}}"), origin) for name in task.fields
    }
    columns = {column for pattern in patterns.values() for column in pattern_columns(pattern)}
    texts = {column: _column(frame, column, origin).cast(pl.String).fill_null("").to_list() for column in columns}
    ids = None if id_column is None else _column(frame, id_column, f"{origin}.id_column").cast(pl.String).to_list()
    golds = None if gold_column is None else _gold_choices(frame, task, gold_column, gold_values, origin)

    items: dict[str, Item] = {}
    gold: dict[str, int] = {}
    for row in range(frame.height):
        values = {column: texts[column][row] for column in columns}
        rendered = {name: pattern.format_map(values) for name, pattern in patterns.items()}
        item_id = ids[row] if ids is not None else f"item-{content_digest(rendered)}"
        if not item_id:
            raise InvalidArgumentError(f"{origin}.id_column", f"row {row + 1} has an empty id in {id_column!r}")
        item = Item(item_id, rendered)
        if items.setdefault(item_id, item) != item:
            raise InvalidArgumentError(
                f"{origin}.id_column", f"the id {item_id!r} of row {row + 1} was given before to another text"
            )
        if golds is not None:
            gold[item_id] = golds[row]
    return Pool(tuple(items.values()), gold)


def pattern_columns(pattern: str) -> list[str]:
    """The columns that a pattern shows."""
    return [name for _, name, _, _ in string.Formatter().parse(pattern) if name]


def choose_pattern(columns: Sequence[str], name: str, patterns: str | Sequence[str], origin: str) -> str:
    """The first pattern for the field `name` whose columns are all there.

    Raises:
        InvalidArgumentError: names `origin.fields.NAME` where there is none.
    """
    candidates = [patterns] if isinstance(patterns, str) else list(patterns)
    for pattern in candidates:
        if all(column in columns for column in pattern_columns(pattern)):
            return pattern
    missing = next(column for column in pattern_columns(candidates[0]) if column not in columns)
    raise InvalidArgumentError(
        f"{origin}.fields.{name}",
        f"the dataset has no column {missing!r}; it has {', '.join(map(repr, columns))}",
    )


def _column(frame: pl.DataFrame, column: str, field: str) -> pl.Series:
    if column not in frame.columns:
        raise InvalidArgumentError(
            field, f"the dataset has no column {column!r}; it has {', '.join(map(repr, frame.columns))}"
        )
    return frame[column]


def _gold_choices(
    frame: pl.DataFrame, task: Task, column: str, values: Mapping[str, str] | None, origin: str
) -> list[int]:
    field = f"{origin}.gold_column"
    series = _column(frame, column, field)
    index = {choice.strip(): position for position, choice in enumerate(task.choices)}
    if values is None and (series.dtype.is_integer() or series.dtype == pl.Boolean):
        ranked = series.drop_nulls().unique().sort().to_list()
        if len(ranked) != len(task.choices):
            raise InvalidArgumentError(
                field,
                f"{column!r} has {len(ranked)} different values ({', '.join(map(str, ranked[:8]))}), but the task has "
                f"{len(task.choices)} choices; say in gold_values which value is which choice",
            )
        of_value = {str(value): position for position, value in enumerate(ranked)}
    elif values is None:
        of_value = index
    else:
        unknown = [choice for choice in values.values() if choice.strip() not in index]
        if unknown:
            raise InvalidArgumentError(f"{origin}.gold_values", f"{unknown[0]!r} is not a choice of the task")
        of_value = {value: index[choice.strip()] for value, choice in values.items()}
    choices = []
    for row, value in enumerate(series.to_list()):
        if str(value).strip() not in of_value:
            raise InvalidArgumentError(
                field, f"row {row + 1} has {value!r} in {column!r}, which is none of {', '.join(map(repr, of_value))}"
            )
        choices.append(of_value[str(value).strip()])
    return choices
