"""Where a benchmark's rows come from: the hub, a folder with a file for each split, or one file."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from isocost.core.errors import InvalidArgumentError
from isocost.tasks.dataset import read_file, read_hub
from isocost.tasks.library.spec import HubSpec, TaskSpec
from isocost.tasks.scan import SUFFIXES, Scan

__all__ = ["has_split", "read_split"]


def has_split(data: Path | None, split: str) -> bool:
    """Whether the rows of a split are apart from the others' and can be had: not where one file holds all."""
    if data is None:
        return True
    return data.is_dir() and _split_file(data, split) is not None


def read_split(spec: TaskSpec, data: Path | None, split: str) -> pl.DataFrame:
    """The table of a split, or the whole table where `data` is one file.

    The parts of a struct column `a` are columns of their own as well, named `a.b`. The values of a CSV file are text.

    Args:
        spec: The task.
        data: Folder with `train` and `test` files (.parquet, .csv, .jsonl), or one file, or None for the hub.
        split: `train` or `test`.

    Raises:
        InvalidArgumentError: names `data` where there are no rows to be had.
    """
    if data is None:
        if spec.hub is None:
            raise InvalidArgumentError("data", f"the task {spec.name!r} names no hub dataset; give a folder or a file")
        frame = _read_hub(spec.hub, spec.hub.train if split == "train" else spec.hub.test)
    elif data.is_dir():
        path = _split_file(data, split)
        if path is None:
            raise InvalidArgumentError(
                "data",
                f"the folder {str(data)!r} holds no {split}.parquet, {split}.csv or {split}.jsonl; put one there",
            )
        frame = _read_table(path)
    elif data.exists():
        frame = _read_table(data)
    else:
        raise InvalidArgumentError("data", f"there is no file or folder {str(data)!r}")
    if frame.is_empty():
        raise InvalidArgumentError("data", f"the {split} table of {spec.name!r} has no rows")
    return _with_parts(frame)


def _split_file(folder: Path, split: str) -> Path | None:
    candidates = [folder / f"{split}{suffix}" for suffix in SUFFIXES]
    found = [path for path in candidates if path.is_file()]
    if len(found) > 1:
        raise InvalidArgumentError(
            "data", f"the folder {str(folder)!r} holds {found[0].name} and {found[1].name}; keep one of them"
        )
    return found[0] if found else None


def _read_table(path: Path) -> pl.DataFrame:
    if path.suffix.lower() != ".csv":
        return read_file(path, field="data")
    # As text: answers such as "007" and "1.50" are what they look like.
    scan = Scan(path, field="data")
    scan.count()
    rows = [row for row in scan.rows(scan.columns) if not isinstance(row, str)]
    return pl.DataFrame(rows, schema=dict.fromkeys(scan.columns, pl.String))


def _with_parts(frame: pl.DataFrame) -> pl.DataFrame:
    parts = [
        pl.col(name).struct.field(part.name).alias(f"{name}.{part.name}")
        for name, dtype in frame.schema.items()
        if isinstance(dtype, pl.Struct)
        for part in dtype.fields
    ]
    return frame.with_columns(parts)


def _read_hub(hub: HubSpec, split: str) -> pl.DataFrame:
    if hub.revision is None:
        return read_hub(hub.name, hub.config, split, field="data")
    try:
        from datasets import load_dataset  # noqa: PLC0415 - an optional extra, slow to import
    except ImportError:
        raise InvalidArgumentError(
            "data", "reading from the hub needs the package 'datasets'; install isocost[hub] or give local files"
        ) from None
    try:
        dataset = load_dataset(hub.name, hub.config, split=split, revision=hub.revision)
    except Exception as error:  # noqa: BLE001 - the library raises what its many back ends raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InvalidArgumentError(
            "data", f"{hub.name!r} ({split}) cannot be read from the hub: {reason}; give local files"
        ) from None
    frame = pl.from_arrow(dataset.with_format("arrow")[:])
    if not isinstance(frame, pl.DataFrame):
        raise InvalidArgumentError("data", f"{hub.name!r} is not a table")
    return frame
