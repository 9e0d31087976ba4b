"""Rows of a benchmark's table, read as its task file says."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from isocost.core.errors import InvalidArgumentError
from isocost.core.ids import content_digest
from isocost.tasks.dataset import choose_pattern
from isocost.tasks.library.spec import AnswersSpec, LabelSpec, RightAnswerSpec, TaskSpec, value_text

__all__ = ["Row", "clean", "read_rows"]

#: For `str.translate`: control characters but tabs and line breaks.
_CONTROL = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160)])


@dataclass(frozen=True, slots=True)
class Row:
    """One row.

    Attributes:
        number: Its place in the table, from 0.
        row_id: The data's id, or one made from the content.
        content: Digest of what it asks: its fields and, whatever their order, its answers; not of what is right.
        contexts: Texts that rows of the other split must not have, white space and case put aside.
        fields: Text by field of the template; of a multiple-choice row, all but the answer.
        answers: Of a multiple-choice row, its different answers, sorted; else empty.
        right: The right answer; of a plain classification, the right choice.
    """

    number: int
    row_id: str
    content: str
    contexts: frozenset[str]
    fields: Mapping[str, str]
    answers: tuple[str, ...]
    right: str

    @property
    def is_empty(self) -> bool:
        """Whether a text that an item would show is not there."""
        return not self.right or any(not text for text in self.fields.values())


def clean(value: object) -> str:
    """A value as text without control characters but tabs and line breaks, and without white space at its ends."""
    text = ("" if value is None else str(value)).replace("\r\n", "\n").replace("\r", "\n")
    return text.translate(_CONTROL).strip()


def read_rows(frame: pl.DataFrame, spec: TaskSpec) -> list[Row]:
    """All rows of a table, in its order.

    Raises:
        InvalidArgumentError: names `data` and the column that is not there, or the row whose label is not known.
    """
    patterns = _patterns(frame, spec)
    contexts = [column for column in spec.contexts if column in frame.columns]
    if spec.contexts and not contexts:
        _check_columns(frame, spec.contexts[:1])
    right_of = _answer_reader(frame, spec.answers) if spec.answers else _label_reader(frame, spec)
    if spec.id_column is not None:
        _check_columns(frame, [spec.id_column])
    rows = []
    for number, values in enumerate(frame.iter_rows(named=True)):
        fields = {name: clean(_fill(pattern, values)) for name, pattern in patterns.items()}
        answers, right = right_of(number, values)
        content = content_digest({"fields": fields, "answers": answers} if spec.answers else fields)
        row_id = f"item-{content}" if spec.id_column is None else clean(values[spec.id_column])
        if not row_id:
            raise InvalidArgumentError("data", f"row {number + 1} has an empty id in {spec.id_column!r}")
        keys = (" ".join(clean(values[column]).split()).casefold() for column in contexts)
        rows.append(Row(number, row_id, content, frozenset(key for key in keys if key), fields, answers, right))
    return rows


def _patterns(frame: pl.DataFrame, spec: TaskSpec) -> dict[str, str]:
    shown = [name for name in spec.task.fields if spec.answers is None or name != spec.answers.field]
    return {name: choose_pattern(frame.columns, name, spec.fields.get(name, f"{{{name}}}"), "data") for name in shown}


def _fill(pattern: str, values: Mapping[str, Any]) -> str:
    # Not format_map: a column `a.b` is a name of its own here.
    return "".join(
        literal + ("" if column is None or values[column] is None else str(values[column]))
        for literal, column, _, _ in string.Formatter().parse(pattern)
    )


def _check_columns(frame: pl.DataFrame, columns: Sequence[str]) -> None:
    if missing := next((column for column in columns if column not in frame.columns), None):
        raise InvalidArgumentError(
            "data", f"the dataset has no column {missing!r}; it has {', '.join(map(repr, frame.columns))}"
        )


_Reader = Callable[[int, Mapping[str, Any]], tuple[tuple[str, ...], str]]


def _label_reader(frame: pl.DataFrame, spec: TaskSpec) -> _Reader:
    def fits(rule: LabelSpec) -> bool:
        return all(column in frame.columns for column in (rule.column, *rule.beside))

    rule = next((rule for rule in spec.label if fits(rule)), None)
    if rule is None:
        _check_columns(frame, (spec.label[0].column, *spec.label[0].beside))
        raise AssertionError("a rule whose columns are all there fits")

    def read(number: int, values: Mapping[str, Any]) -> tuple[tuple[str, ...], str]:
        choice = rule.values.get(value_text(values[rule.column]))
        if choice is None:
            raise _unknown_label(number, rule.column, values[rule.column], f"none of {', '.join(rule.values)}")
        return (), choice

    return read


def _answer_reader(frame: pl.DataFrame, spec: AnswersSpec) -> _Reader:
    _check_columns(frame, [*spec.columns, spec.right.column, *([spec.right.keys] if spec.right.keys else [])])
    if spec.right.keys and not isinstance(frame.schema[spec.right.keys], pl.List | pl.Array):
        raise InvalidArgumentError("data", f"the column {spec.right.keys!r} is no list; give Parquet or JSONL")

    def read(number: int, values: Mapping[str, Any]) -> tuple[tuple[str, ...], str]:
        answers: list[str] = []
        for column in spec.columns:
            value = values[column]
            answers.extend(map(clean, value) if isinstance(value, list) else [clean(value)])
        right = _right_answer(number, spec.right, answers, values)
        return tuple(sorted({answer for answer in answers if answer})), right

    return read


def _right_answer(number: int, right: RightAnswerSpec, answers: Sequence[str], values: Mapping[str, Any]) -> str:
    value = values[right.column]
    text = value_text(value)
    if right.form == "text":
        if clean(value) not in answers:
            raise _unknown_label(number, right.column, value, "none of its answers")
        return clean(value)
    place = -1
    if right.form in ("index", "number"):
        place = int(text) - (right.form == "number") if text.isdecimal() else -1
    elif right.form == "letter":
        place = string.ascii_uppercase.find(text.upper()) if len(text) == 1 else -1
    elif right.keys is not None:
        keys = [value_text(key) for key in values[right.keys] or ()]
        place = keys.index(text) if text in keys else -1
    if not 0 <= place < len(answers):
        raise _unknown_label(number, right.column, value, f"not the {right.form} of one of its {len(answers)} answers")
    return answers[place]


def _unknown_label(number: int, column: str, value: object, why: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        "data", f"row {number + 1} has {value!r} in {column!r}, which is {why}; use a split that has its labels"
    )
