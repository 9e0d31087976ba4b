"""Answers in files: the columns of `isocost.client.table.QUEUE`, and those of exported labels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isocost.client.row_file import read_rows
from isocost.core.errors import InvalidArgumentError
from isocost.resources.label import Label, check_probabilities, one_hot

__all__ = ["AnswerForm", "AnswerRow", "read_answers"]

#: The columns that may hold an answer; any of them will do, and those that are filled must agree.
_ANSWERS = ("label", "choice", "probabilities")


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """A row of a file.

    Attributes:
        number: As a person counts it: in CSV the header is row 1.
        lease_id: The lease under which it is answered; "" where there is none.
        source_id: The source whose label it is; "" where the file does not say.
        label: The answer; None where the row has none.
    """

    number: int
    lease_id: str
    source_id: str
    label: Label | None


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """What a row must look like to be an answer.

    Attributes:
        path: The file, for messages.
        choices: Those of the task; None takes them from each row's column `choices`.
        field: What errors name.
    """

    path: Path
    choices: tuple[str, ...] | None
    field: str = "file"

    def item_id(self, number: int, row: Mapping[str, Any]) -> str:
        """The item of a row.

        Raises:
            InvalidArgumentError: where the row names none.
        """
        if "item_id" not in row:
            raise self.error(number, "", "there is no column 'item_id'; it names the item that a row answers")
        item_id = self.text(number, row, "item_id")
        if not item_id:
            raise self.error(number, "item_id", "empty; name the item that the row answers, or remove the row")
        return item_id

    def answer(self, number: int, row: Mapping[str, Any]) -> Label | None:
        """The answer of a row; None where nobody has given it.

        Raises:
            InvalidArgumentError: names row and column.
        """
        item_id = self.item_id(number, row)
        if not any(name in row for name in _ANSWERS):
            raise self.error(number, "", "there is no column 'label'; it holds the answer, one of the task's choices")
        given = {name: row[name] for name in _ANSWERS if row.get(name) is not None and str(row[name]).strip()}
        if not given:
            return None
        choices = self.choices or self._own_choices(number, row)
        probabilities: dict[str, tuple[float, ...]] = {}
        if "probabilities" in given:
            probabilities["probabilities"] = self._distribution(number, given["probabilities"], choices)
        if "choice" in given:
            probabilities["choice"] = one_hot(self._index(number, given["choice"], choices), len(choices))
        if "label" in given:
            text = self.text(number, row, "label")
            probabilities["label"] = one_hot(self._named(number, item_id, text, choices), len(choices))
        labels = {
            name: Label(item_id, each, self.text(number, row, "annotator")) for name, each in probabilities.items()
        }
        # Of several, the distribution says most, and is the first.
        (first, label), *others = labels.items()
        for name, other in others:
            if other.choice != label.choice:
                raise self.error(
                    number,
                    name,
                    f"says {choices[other.choice]!r} for item {item_id}, and the column {first!r} says "
                    f"{choices[label.choice]!r}; empty the one that is wrong",
                )
        return label

    def text(self, number: int, row: Mapping[str, Any], name: str) -> str:
        """A cell as text; "" where it is empty. Whole numbers and booleans are taken as JSON writes them.

        Raises:
            InvalidArgumentError: where it is something else.
        """
        value = row.get(name)
        if value is None or isinstance(value, str):
            return value or ""
        if isinstance(value, bool | int) or (isinstance(value, float) and value.is_integer()):
            return json.dumps(int(value) if isinstance(value, float) else value)
        raise self.error(number, name, f"{value!r} is no text; write text")

    def error(self, number: int, column: str, message: str) -> InvalidArgumentError:
        """An error that names the file, the row and, where it is one column's, the column."""
        place = f", column {column!r}" if column else ""
        return InvalidArgumentError(self.field, f"{str(self.path)!r}, row {number}{place}: {message}")

    def _own_choices(self, number: int, row: Mapping[str, Any]) -> tuple[str, ...]:
        choices = self._list(number, row.get("choices"), "choices")
        if len(choices) < 2 or not all(isinstance(choice, str) for choice in choices):
            raise self.error(
                number, "choices", "does not list the task's choices, and this token may not read them; keep the column"
            )
        return tuple(choices)

    def _list(self, number: int, value: Any, column: str) -> Sequence[Any]:
        """A list, or JSON text of one; empty where there is none."""
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError:
                raise self.error(number, column, f"{value!r} is no JSON list; write it as [..., ...]") from None
        if value is not None and not isinstance(value, list):
            raise self.error(number, column, f"{value!r} is no list; write it as [..., ...]")
        return value or []

    def _distribution(self, number: int, value: Any, choices: Sequence[str]) -> tuple[float, ...]:
        parts = self._list(number, value, "probabilities")
        if len(parts) != len(choices) or not all(isinstance(part, int | float) for part in parts):
            raise self.error(number, "probabilities", f"{parts!r}; give one number for each of {len(choices)} choices")
        try:
            return check_probabilities("probabilities", tuple(map(float, parts)))
        except InvalidArgumentError as error:
            raise self.error(number, "probabilities", error.message) from None

    def _index(self, number: int, value: Any, choices: Sequence[str]) -> int:
        try:
            index = int(value)
            is_whole = not isinstance(value, bool) and index == float(value)
        except (TypeError, ValueError, OverflowError):
            is_whole = False
        if not is_whole or not 0 <= index < len(choices):
            raise self.error(number, "choice", f"{value!r}; give a whole number from 0 to {len(choices) - 1}")
        return index

    def _named(self, number: int, item_id: str, text: str, choices: Sequence[str]) -> int:
        """The choice that a text names: exactly, else but for space around it, else but for capitals."""
        for form in (str, str.strip, lambda each: each.strip().casefold()):
            found = [index for index, choice in enumerate(choices) if form(choice) == form(text)]
            if len(found) == 1:
                return found[0]
        listed = ", ".join(repr(choice.strip()) for choice in choices)
        raise self.error(
            number,
            "label",
            f"{text!r} for item {item_id} is none of the choices {listed}; write one of them, or leave the cell empty",
        )


def read_answers(form: AnswerForm) -> list[AnswerRow]:
    """Reads a file and checks the form of every row.

    Raises:
        InvalidArgumentError: names the first row that is wrong, or the second of two that contradict each other.
        FailedPreconditionError: where the file is Parquet and pyarrow is not installed.
    """
    rows: list[AnswerRow] = []
    first: dict[tuple[str, str, str, str], AnswerRow] = {}
    for number, values in read_rows(form.path, field=form.field):
        lease_id, source_id = form.text(number, values, "lease_id"), form.text(number, values, "source_id")
        row = AnswerRow(number, lease_id, source_id, form.answer(number, values))
        rows.append(row)
        if row.label is None:
            continue
        before = first.setdefault((lease_id, source_id, row.label.item_id, row.label.annotator), row)
        assert before.label is not None
        if before.label.probabilities != row.label.probabilities:
            raise form.error(
                number,
                "",
                f"answers item {row.label.item_id} otherwise than row {before.number} does; keep one of them",
            )
    return rows
