"""The folder that a Ray job writes into."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from isocost.bulk.parts import QUESTION_FILE, PartsFolder, part_name
from isocost.bulk.price import form_price
from isocost.bulk.question import Question, TaskFile
from isocost.bulk.rows import RowFile
from isocost.core.errors import FailedPreconditionError, InvalidArgumentError
from isocost.resources.task import Task
from isocost.tasks.prompt import FewShotExample

TASK = Task("claims", "Is {text} true?", ("no", "yes"))
QUESTION = Question(TASK, "microworld:weak", "generate")


@pytest.fixture
def rows(tmp_path: Path) -> RowFile:
    (tmp_path / "rows.csv").write_text("text\n" + "".join(f"t{n}\n" for n in range(10)))
    return RowFile(tmp_path / "rows.csv", TaskFile(TASK), None)


def write_part(folder: PartsFolder, numbers: list[int], failed: tuple[int, ...] = ()) -> Path:
    path = folder.path / part_name(numbers)
    pl.DataFrame(
        {
            "row": numbers,
            "prompt_tokens": [None if number in failed else 10 for number in numbers],
            "error": ["bad" if number in failed else None for number in numbers],
            "error_reason": ["invalid_item" if number in failed else None for number in numbers],
        },
        schema={"row": pl.Int64, "prompt_tokens": pl.Int64, "error": pl.String, "error_reason": pl.String},
    ).write_parquet(path)
    return path


def test_a_repeat_goes_on_with_what_has_no_label(tmp_path: Path, rows: RowFile) -> None:
    folder = PartsFolder(tmp_path / "out", 10)
    folder.open(QUESTION, rows)
    write_part(folder, [0, 1, 2], failed=(1,))
    write_part(folder, [7])
    only_errors = write_part(folder, [8, 9], failed=(8, 9))
    torn = folder.path / part_name([3, 4])
    torn.write_bytes(b"half of it")
    leftover = folder.path / f".{part_name([5])}.partial"
    leftover.write_bytes(b"")
    folder.open(QUESTION, rows)
    assert folder.answered().nonzero()[0].tolist() == [0, 2, 7]
    assert not any(path.exists() for path in (leftover, torn, only_errors))
    # What is to be labelled again is in no part any more, so that nothing is there twice.
    write_part(folder, [1, 3, 4, 5, 6, 8, 9], failed=(9,))
    tally = folder.tally(form_price("0.5", None, "USD"))
    assert (tally.n_labels, dict(tally.errors), tally.prompt_tokens) == (9, {"invalid_item": 1}, 90)
    assert str(tally.cost) == "$4.50"


@pytest.mark.parametrize("numbers", [[0, 1, 2], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]])
def test_a_row_that_is_there_twice_or_not_is_found_out(tmp_path: Path, rows: RowFile, numbers: list[int]) -> None:
    folder = PartsFolder(tmp_path / "out", 10)
    folder.open(QUESTION, rows)
    write_part(folder, numbers)
    write_part(folder, [2])
    with pytest.raises(FailedPreconditionError, match=r"has row [23] [02] times"):
        folder.tally(None)


def test_another_question_needs_another_folder(tmp_path: Path, rows: RowFile) -> None:
    folder = PartsFolder(tmp_path / "out", 10)
    folder.open(Question(TASK, "a mistake", "generate"), rows)
    folder.open(QUESTION, rows)
    write_part(folder, [0])
    folder.open(QUESTION, rows)
    for question, what in (
        (Question(Task("claims", "Is {text} so?", ("no", "yes")), "microworld:weak", "generate"), "another task"),
        (Question(TASK, "microworld:strong", "generate"), "another model"),
        (Question(TASK, "microworld:weak", "classify"), "another runner"),
        (Question(TASK, "microworld:weak", "generate", (FewShotExample({"text": "a"}, 1),)), "other examples"),
    ):
        with pytest.raises(InvalidArgumentError, match=f"--output: .* holds labels of {what}.*; give another folder"):
            folder.open(question, rows)
    rows.path.write_text("text\n" + "".join(f"u{n}\n" for n in range(10)))
    with pytest.raises(InvalidArgumentError, match="another input"):
        folder.open(QUESTION, rows)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, rows: RowFile) -> None:
    with pytest.raises(InvalidArgumentError, match=f"holds files but no {QUESTION_FILE}"):
        PartsFolder(tmp_path, 10).open(QUESTION, rows)
    with pytest.raises(InvalidArgumentError, match="is a file; --ray writes a folder"):
        PartsFolder(rows.path, 10).open(QUESTION, rows)
