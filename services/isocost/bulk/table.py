"""The output's columns."""

from __future__ import annotations

from isocost.bulk.tally import Answered
from isocost.client.table import Column, Table
from isocost.resources.task import Task

__all__ = ["ANSWER_COLUMNS", "ROW", "answer_table"]

#: Column of the rows' numbers, where the input names no id column.
ROW = "row"
#: The other columns.
ANSWER_COLUMNS = {
    "choice": Column.TEXT,
    "probabilities": Column.REALS,
    "choices_mass": Column.REAL,
    "prompt_tokens": Column.INTEGER,
    "engine_fingerprint": Column.TEXT,
    "stored": Column.BOOLEAN,
    "error": Column.TEXT,
    "error_reason": Column.TEXT,
}


def answer_table(task: Task, id_column: str | None, *, numbered: bool = False) -> Table[Answered]:
    """One line a row: its id, and its label or why it has none.

    Args:
        task: Its choices are written as text.
        id_column: The input's column of ids; None for the row's number, counted from 0, as `row`.
        numbered: Whether to write the row's number beside its id too.
    """
    ids = {} if id_column is None else {id_column: Column.TEXT}
    numbers = {ROW: Column.INTEGER} if numbered or id_column is None else {}

    def row(answer: Answered) -> tuple[object, ...]:
        label = answer.label
        key = (*([answer.row.row_id] if ids else []), *([answer.row.number] if numbers else []))
        if label is None:
            return (*key, None, None, None, None, None, None, answer.error, answer.error_reason)
        return (
            *key,
            task.choices[label.choice],
            list(label.probabilities),
            label.choices_mass,
            label.prompt_tokens,
            label.engine_fingerprint,
            answer.stored,
            None,
            None,
        )

    return Table("answers", {**ids, **numbers, **ANSWER_COLUMNS}, row)
