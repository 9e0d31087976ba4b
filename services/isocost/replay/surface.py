"""Accuracy surfaces: reading and checking their CSV files."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from isocost.core.errors import InvalidArgumentError

__all__ = ["COLUMNS", "Surface", "SurfacePoint", "read_surface"]

_FIELD = "FILE"
_COLUMNS_NEEDED = ("dataset", "n_weak", "n_human", "accuracy", "accuracy_std")
#: Of a surface file, in order. Replay reads those of `_COLUMNS_NEEDED` and the method; files may lack the others.
COLUMNS = (
    "dataset",
    "weak_model",
    "strong_model",
    "method",
    "n_weak",
    "n_human",
    "accuracy",
    "accuracy_std",
    "n_runs",
    "weak_label_accuracy",
)
_N_LABELS_MAX = 10**9


@dataclass(frozen=True, slots=True)
class SurfacePoint:
    """A trained mix of labels.

    Attributes:
        n_weak, n_human: Labels trained on.
        accuracy: Mean over seeds, 0 to 1.
        accuracy_std: Standard deviation over seeds; None where the file does not show it.
    """

    n_weak: int
    n_human: int
    accuracy: float
    accuracy_std: float | None = None

    @property
    def mix(self) -> tuple[int, int]:
        """(n_weak, n_human)."""
        return self.n_weak, self.n_human

    def cost_micros(self, weak_price_micros: int, human_price_micros: int) -> int:
        """Price of its labels."""
        return self.n_weak * weak_price_micros + self.n_human * human_price_micros


@dataclass(frozen=True, slots=True)
class Surface:
    """The accuracy of every mix that was tried on one task.

    Attributes:
        name: Name of its file.
        dataset: What the policies' own knowledge must leave out.
        method: How its points were trained.
        points: In the order of the file, every mix once.
    """

    name: str
    dataset: str
    method: str
    points: tuple[SurfacePoint, ...]


class _Row:
    """One row of a file, and where it stands."""

    def __init__(self, path: Path, number: int, values: Mapping[str, str]) -> None:
        self._path, self._number, self._values = path, number, values

    def error(self, column: str, message: str) -> InvalidArgumentError:
        return InvalidArgumentError(_FIELD, f"{str(self._path)!r}, row {self._number}, column {column!r}: {message}")

    def text(self, column: str) -> str:
        return self._values.get(column, "").strip()

    def number(self, column: str) -> float:
        try:
            value = float(self.text(column))
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self.error(column, f"{self.text(column)!r} is not a number")
        return value

    def count(self, column: str) -> int:
        value = self.number(column)
        if value < 0 or not value.is_integer() or value > _N_LABELS_MAX:
            raise self.error(column, f"{self.text(column)!r} is not a number of labels; give a whole number from 0")
        return int(value)

    def point(self) -> SurfacePoint:
        n_weak, n_human = self.count("n_weak"), self.count("n_human")
        if n_weak == n_human == 0:
            raise self.error("n_weak", "no label of either kind; a point has at least one")
        accuracy = self.number("accuracy")
        if not 0.0 <= accuracy <= 1.0:
            raise self.error("accuracy", f"{self.text('accuracy')!r} is not an accuracy; give a share from 0 to 1")
        std = None
        if self.text("accuracy_std"):
            std = self.number("accuracy_std")
            if not 0.0 <= std <= 1.0:
                shown = self.text("accuracy_std")
                raise self.error("accuracy_std", f"{shown!r} is no spread of accuracies; give 0 to 1, or nothing")
        return SurfacePoint(n_weak, n_human, accuracy, std)


def read_surface(path: Path) -> Surface:
    """Reads and checks a surface: CSV with a header, one row a point; `COLUMNS` are its columns.

    Raises:
        InvalidArgumentError: names the file, and the row (the header is row 1) and column at fault.
    """
    rows = _read_rows(path)
    points: dict[tuple[int, int], tuple[int, SurfacePoint]] = {}
    dataset, method = "", ""
    for number, row in rows:
        point = row.point()
        if point.mix in points:
            before = points[point.mix][0]
            message = (
                f"the point {point.mix} is in row {before} already; a surface has each once, with the mean accuracy"
            )
            raise row.error("n_weak", message)
        if not row.text("dataset"):
            raise row.error("dataset", "empty; give the name of the dataset")
        if points and row.text("dataset") != dataset:
            raise row.error(
                "dataset", f"{row.text('dataset')!r} beside {dataset!r}; give each surface a file of its own"
            )
        dataset, method = row.text("dataset"), method or row.text("method")
        points[point.mix] = number, point
    if not points:
        raise InvalidArgumentError(_FIELD, f"{str(path)!r} holds no point; give one row a trained point")
    return Surface(path.name, dataset, method or "run", tuple(point for _, point in points.values()))


def _read_rows(path: Path) -> list[tuple[int, _Row]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise InvalidArgumentError(_FIELD, f"{str(path)!r} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidArgumentError(_FIELD, f"{str(path)!r} is not a CSV file in UTF-8") from None
    reader = csv.reader(lines)
    header = [name.strip() for name in next(reader, [])]
    if not any(header):
        raise InvalidArgumentError(
            _FIELD, f"{str(path)!r} is empty; its first row names the columns {', '.join(COLUMNS)}"
        )
    for column in _COLUMNS_NEEDED:
        if column not in header:
            named = ", ".join(COLUMNS)
            raise InvalidArgumentError(
                _FIELD, f"{str(path)!r}, row 1, column {column!r}: missing; a surface has the columns {named}"
            )
        if header.count(column) > 1:
            raise InvalidArgumentError(_FIELD, f"{str(path)!r}, row 1, column {column!r}: named twice")
    rows = []
    for values in reader:
        if not any(value.strip() for value in values):
            continue
        row = _Row(path, reader.line_num, dict(zip(header, values, strict=False)))
        if len(values) != len(header):
            column = header[min(len(values), len(header) - 1)]
            raise row.error(column, f"the row has {len(values)} values, the header {len(header)}")
        rows.append((reader.line_num, row))
    return rows
