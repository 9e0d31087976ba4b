"""A folder of labels that many machines write into: what was asked, and one Parquet file a batch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from isocost.bulk.question import Question
from isocost.bulk.rows import RowFile
from isocost.bulk.table import ROW
from isocost.bulk.tally import Tally
from isocost.core.errors import FailedPreconditionError, InvalidArgumentError
from isocost.core.ids import content_digest
from isocost.resources.task import Source

__all__ = ["QUESTION_FILE", "PartsFolder", "part_name"]

#: What the folder's labels answer.
QUESTION_FILE = "_question.json"
#: Of the input this much is read at either end, to know it again.
_INPUT_BYTES = 1 << 20
#: Things of the question file by the words of an error.
_NAMES = {
    "task": "another task",
    "model": "another model",
    "runner": "another runner",
    "few_shot_examples": "other examples",
    "id_column": "another id column",
    "input": "another input (or it was changed since)",
}


def part_name(numbers: Sequence[int]) -> str:
    """The file of a batch: the same rows always have the same, so that a batch that is done again replaces itself."""
    return f"part-{numbers[0]:012d}-{content_digest(list(numbers))}.parquet"


@dataclass(frozen=True, slots=True)
class PartsFolder:
    """The folder; whoever may write into it reaches it by the same path.

    Attributes:
        path: The folder.
        n_rows: Rows of the input.
    """

    path: Path
    n_rows: int

    def open(self, question: Question, rows: RowFile) -> None:
        """Makes the folder, or checks that it is of the same question and input; removes what a kill left behind.

        Raises:
            InvalidArgumentError: names `--output`: the folder is no such folder, or of another question.
        """
        asked = json.loads(json.dumps({**question.to_json(), "id_column": rows.id_column, "input": _mark(rows.path)}))
        if self.path.exists() and not self.path.is_dir():
            raise InvalidArgumentError("--output", f"{str(self.path)!r} is a file; --ray writes a folder, name another")
        file = self.path / QUESTION_FILE
        if any(self._parts()) and file.exists():
            self._check(file, asked)
        elif not file.exists() and self.path.exists() and any(self.path.iterdir()):
            raise InvalidArgumentError(
                "--output", f"{str(self.path)!r} holds files but no {QUESTION_FILE}; give an empty or a new folder"
            )
        else:
            # Without labels the folder is of no question yet: that of a command with a mistake is forgotten.
            self.path.mkdir(parents=True, exist_ok=True)
            partial = file.with_name(f".{QUESTION_FILE}.partial")
            partial.write_text(json.dumps(asked, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            partial.replace(file)
        for leftover in self.path.glob(".part-*.partial"):
            leftover.unlink()

    def answered(self) -> npt.NDArray[np.bool_]:
        """Which rows have labels, by their numbers.

        Rows with errors are taken out of their parts, and parts that a crash left unreadable are removed: they are to
        be labelled again.
        """
        done = np.zeros(self.n_rows, dtype=np.bool_)
        for part in self._parts():
            try:
                frame = pl.read_parquet(part)
            except (pl.exceptions.PolarsError, OSError):
                part.unlink()
                continue
            labelled = frame.filter(pl.col("error").is_null())
            if labelled.is_empty():
                part.unlink()
            elif labelled.height < frame.height:
                partial = part.with_name(f".{part.name}.partial")
                labelled.write_parquet(partial)
                partial.replace(part)
            done[labelled[ROW].to_numpy()] = True
        return done

    def tally(self, price: Source | None) -> Tally:
        """Counts what is in the folder.

        Raises:
            FailedPreconditionError: some row is not in it exactly once, because two commands wrote into it at a time.
        """
        tally = Tally(self.n_rows, currency=None if price is None else price.unit_price.currency_code)
        seen = np.zeros(self.n_rows, dtype=np.uint8)
        for part in self._parts():
            frame = pl.read_parquet(part, columns=[ROW, "prompt_tokens", "error", "error_reason"])
            numbers = frame[ROW].to_numpy()
            seen[numbers] += 1
            labelled = frame.filter(pl.col("error").is_null())
            tally.n_labels += labelled.height
            tally.errors.update(frame.filter(pl.col("error").is_not_null())["error_reason"].to_list())
            tally.prompt_tokens += int(labelled["prompt_tokens"].sum())
            if price is not None:
                tally.cost_micros += sum(price.label_price(count).micros for count in labelled["prompt_tokens"])
        if not (seen == 1).all():
            first = int(np.argmax(seen != 1))
            raise FailedPreconditionError(
                f"{str(self.path)!r} has row {first} {seen[first]} times; two commands may have written into it at a "
                "time: remove the folder and run one",
                field="--output",
            )
        return tally

    def _parts(self) -> Iterator[Path]:
        return iter(sorted(self.path.glob("part-*.parquet")))

    def _check(self, file: Path, asked: dict[str, Any]) -> None:
        try:
            before = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            before = {}
        for key, value in asked.items():
            if before.get(key) != value:
                raise InvalidArgumentError(
                    "--output",
                    f"{str(self.path)!r} holds labels of {_NAMES[key]}, as {file.name} in it says; give another folder",
                )


def _mark(path: Path) -> dict[str, object]:
    """By what an input is known again: reading a large one whole would take longer than labelling some."""
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        digest = hashlib.sha256(file.read(_INPUT_BYTES))
        file.seek(max(size_bytes - _INPUT_BYTES, 0))
        digest.update(file.read(_INPUT_BYTES))
    return {"size_bytes": size_bytes, "ends_sha256": digest.hexdigest()}
