"""Files that people fill in: what is written is what is read, in every format, and mistakes are named by place."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocost.client.answer_file import AnswerForm, read_answers
from isocost.client.row_file import read_rows
from isocost.client.table import QUEUE, QueueRow
from isocost.client.table_file import open_table_file
from isocost.core.errors import InvalidArgumentError
from isocost.resources.task import Item

FORMATS = ("csv", "jsonl", "parquet")
CHOICES = ("no", " yes", "YES!")

_nasty = st.text(st.sampled_from("a,\"';\t\n\r \u2028\x85\ufeff#=é日\\{}[]0\x1b"), max_size=6)
_texts = _nasty | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
_words = _texts.filter(bool)
_rows = st.builds(
    QueueRow,
    st.builds(Item, _words, st.dictionaries(_words, _texts, min_size=1, max_size=3)),
    st.lists(_texts, min_size=2, max_size=3).map(tuple),
    _texts,
    _texts,
    st.none() | _texts,
)


def write(path: Path, rows: list[QueueRow]) -> None:
    with open_table_file(path, QUEUE) as file:
        for row in rows:
            file.add(row)


def parsed(row: dict[str, Any]) -> QueueRow:
    choices = json.loads(row["choices"]) if isinstance(row["choices"], str) else row["choices"]
    return QueueRow(
        Item(row["item_id"], row["fields"]), tuple(choices), row["lease_id"], row["annotator"], row["label"]
    )


@given(st.lists(_rows, max_size=4))
@settings(max_examples=80, deadline=None)
def test_any_text_comes_back_from_each_format_as_it_was(rows: list[QueueRow]) -> None:
    with TemporaryDirectory() as folder:
        for suffix in FORMATS:
            path = Path(folder) / f"items.{suffix}"
            write(path, rows)
            assert [parsed(row) for _, row in read_rows(path)] == rows


def file_of(folder: Path, suffix: str, rows: list[dict[str, Any]]) -> Path:
    """A file as another program writes it."""
    path = folder / f"answers.{suffix}"
    if suffix == "jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    elif suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            for row in rows:
                writer.writerow(
                    {name: json.dumps(cell) if isinstance(cell, list) else cell for name, cell in row.items()}
                )
    return path


def answers(path: Path, choices: tuple[str, ...] | None = CHOICES) -> list[tuple[str, int | None]]:
    """The answered items, and the choices."""
    rows = read_answers(AnswerForm(path, choices))
    return [(row.label.item_id, row.label.choice) if row.label else ("", None) for row in rows]


@pytest.mark.parametrize("suffix", FORMATS)
def test_an_answer_is_a_word_a_number_or_a_distribution(tmp_path: Path, suffix: str) -> None:
    rows: list[dict[str, Any]] = [
        {"item_id": "a", "label": "yes", "choice": None, "probabilities": None},
        {"item_id": "b", "label": " No ", "choice": None, "probabilities": None},
        {"item_id": "c", "label": "", "choice": 2, "probabilities": None},
        {"item_id": "d", "label": "no", "choice": 0, "probabilities": [0.5, 0.3, 0.2]},
        {"item_id": "e", "label": "", "choice": None, "probabilities": None},
    ]
    path = file_of(tmp_path, suffix, rows)
    assert answers(path) == [("a", 1), ("b", 0), ("c", 2), ("d", 0), ("", None)]
    labels = [row.label for row in read_answers(AnswerForm(path, CHOICES))]
    assert labels[3] is not None
    assert labels[3].probabilities == (0.5, 0.3, 0.2)


def test_the_choices_may_come_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    write(path, [QueueRow(Item("a", {"text": "x"}), ("no", "yes"), label="yes")])
    assert answers(path, None) == [("a", 1)]
    bare = file_of(tmp_path, "csv", [{"item_id": "a", "label": "yes"}])
    with pytest.raises(InvalidArgumentError, match="row 2, column 'choices': does not list the task's choices"):
        answers(bare, None)


@pytest.mark.parametrize(
    "content",
    [
        "\ufeffitem_id;label\r\na;yes\r\nb;\r\n;\r\n",
        'item_id\tlabel\na\t"yes"\nb\t\n\n',
        "item_id,label,\na,yes,note\nb,,\n,,\n",
        "item_id,label\na,YES\nb\n",
    ],
    ids=["semicolons", "tabs", "unnamed", "short"],
)
def test_spreadsheets_of_other_habits_are_read(tmp_path: Path, content: str) -> None:
    path = tmp_path / "answers.csv"
    path.write_text(content, "utf-8", newline="")
    assert answers(path, ("no", "yes")) == [("a", 1), ("", None)]


def test_choices_that_are_numbers_or_booleans_keep_their_words(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"item_id": 7, "label": True}, {"item_id": 8.0, "label": False}]
    assert answers(file_of(tmp_path, "jsonl", rows), ("false", "true")) == [("7", 1), ("8", 0)]
    assert answers(file_of(tmp_path, "csv", [{"item_id": "007", "label": 1}]), ("0", "1")) == [("007", 1)]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"label": "perhaps"},
            "row 3, column 'label': 'perhaps' for item b is none of the choices 'no', 'yes', 'YES!'",
        ),
        ({"choice": 3}, "row 3, column 'choice': '3'; give a whole number from 0 to 2"),
        ({"choice": "1.5"}, "row 3, column 'choice': '1.5'"),
        ({"probabilities": [0.5, 0.5]}, "row 3, column 'probabilities'.*for each of 3 choices"),
        ({"probabilities": [0.5, 0.5, 0.5]}, "row 3, column 'probabilities'.*not a distribution"),
        ({"probabilities": "half"}, "row 3, column 'probabilities': 'half' is no JSON list"),
        (
            {"label": "no", "choice": 1},
            "row 3, column 'label': says 'no' for item b, and the column 'choice' says ' yes'",
        ),
        ({"item_id": "", "label": "no"}, "row 3, column 'item_id': empty"),
        ({"item_id": "a", "label": "yes"}, "row 3: answers item a otherwise than row 2 does"),
    ],
)
def test_a_mistake_is_named_by_row_and_column(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    columns: dict[str, Any] = {"item_id": "b", "label": "", "choice": None, "probabilities": None}
    path = file_of(tmp_path, "csv", [{**columns, "item_id": "a", "label": "no"}, {**columns, **row}])
    with pytest.raises(InvalidArgumentError, match=message):
        answers(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "id,label\na,no\n", "row 2: there is no column 'item_id'"),
        ("a.csv", "item_id,answer\na,no\n", "row 2: there is no column 'label'"),
        ("a.csv", "item_id,label\na,no,x\n", "is not a readable csv file"),
        ("a.csv", "item_id,label,label\na,no,no\n", "two columns are named 'label'"),
        ("a.csv", "", "is not a readable csv file"),
        ("a.jsonl", '{"item_id": "a", "label": "no"}\n{"item_id": \n', "row 2: Expecting value at character"),
        ("a.jsonl", "[1]\n", "row 1 is no JSON object"),
        ("a.parquet", "no parquet", "is not a readable parquet file"),
        ("a.xlsx", "", "has no known suffix; give a .csv, .jsonl or .parquet file"),
    ],
)
def test_a_file_that_is_not_one_is_refused(tmp_path: Path, name: str, content: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(content, "utf-8")
    with pytest.raises(InvalidArgumentError, match=message):
        answers(path)


def test_a_file_in_another_encoding_is_refused_with_the_remedy(tmp_path: Path) -> None:
    for suffix in ("csv", "jsonl"):
        path = tmp_path / f"answers.{suffix}"
        path.write_bytes('item_id,label\n"é",no\n'.encode("latin-1"))
        with pytest.raises(InvalidArgumentError, match="save it as UTF-8"):
            answers(path)
