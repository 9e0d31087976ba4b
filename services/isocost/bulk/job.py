"""A bulk job on one machine: a file of rows in, a file of labels out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from isocost.bulk.labeler_link import LabelerPlace, open_labeler
from isocost.bulk.price import Purse, prompt_bytes
from isocost.bulk.question import Question
from isocost.bulk.rows import RowFile, chunked
from isocost.bulk.stream import RowStream, asking
from isocost.bulk.table import ANSWER_COLUMNS, ROW, answer_table
from isocost.bulk.tally import Answered, Tally
from isocost.client.labeler import LabelerClient, ServedModel
from isocost.client.table_file import SUFFIXES, open_table_file
from isocost.core.errors import InvalidArgumentError, IsocostError
from isocost.core.money import Money
from isocost.resources.task import Source

__all__ = ["Job", "Outcome", "Watch", "check_id_column", "check_output", "partial_path", "run_job"]

Watch = Callable[[Tally], None]
"""Told of every answer."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to do.

    Attributes:
        question: What is asked, and whom.
        rows: The input.
        output: File to write: .parquet or .jsonl.
        place: Where the labeler is.
        price: Of a label; None where labels have none.
        budget: The most that all labels of the file may cost; None for no bound.
        predicts: Ask for predictions, which the labeler does not keep.
    """

    question: Question
    rows: RowFile
    output: Path
    place: LabelerPlace
    price: Source | None = None
    budget: Money | None = None
    predicts: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended.

    Attributes:
        tally: What became of the rows.
        path: The file that was written.
        served: The model as it is served; None where the labeler does not tell.
    """

    tally: Tally
    path: Path
    served: ServedModel | None


def check_output(output: Path, id_column: str | None) -> None:
    """Checks, before anything is labelled, that the output can be written.

    Raises:
        InvalidArgumentError: names `--output` or `--id-column`.
    """
    if output.suffix not in SUFFIXES:
        raise InvalidArgumentError("--output", f"{str(output)!r} ends in neither {' nor '.join(SUFFIXES)}; choose one")
    if output.is_dir():
        raise InvalidArgumentError("--output", f"{str(output)!r} is a folder; name a file in it")
    check_id_column(id_column)


def check_id_column(id_column: str | None) -> None:
    """Checks that the ids' column has a name of its own in the output.

    Raises:
        InvalidArgumentError: names `--id-column`.
    """
    if id_column in (ROW, *ANSWER_COLUMNS):
        raise InvalidArgumentError(
            "--id-column", f"the output has a column {id_column!r} of its own; rename the input's column"
        )


def partial_path(output: Path) -> Path:
    """Where the labels lie that a budget paid for, while it does not pay for all: `NAME.partial.SUFFIX`."""
    return output.with_name(f"{output.stem}.partial{output.suffix}")


async def run_job(job: Job, watch: Watch) -> Outcome:
    """Labels every row of the input and writes the output, whole or not at all.

    A row that cannot be labelled has its error in the output. What was labelled stays in the labeler's store: after a
    kill or an error, the same job goes on from there.

    Raises:
        BudgetExceededError: the budget is used up; the labels made are in `partial_path(output)`.
        IsocostError: what ended the job.
    """
    n_rows = await asyncio.to_thread(job.rows.count)
    purse = Purse(job.price, job.budget, prompt_bytes(job.question.task, job.question.few_shot_examples))
    purse.check(n_rows)
    tally = Tally(n_rows, currency=None if job.price is None else job.price.unit_price.currency_code)
    partial = partial_path(job.output)
    table = answer_table(job.question.task, job.rows.id_column)
    async with open_labeler(job.place) as labeler:
        stream = RowStream(asking(labeler, job.question, predicts=job.predicts), purse, tally, watch)
        with open_table_file(partial, table) as file:
            async with contextlib.aclosing(stream.run(chunked(job.rows.rows()))) as parts:
                async for answers in parts:
                    # Compressing and writing would hold up the answers of the other chunks.
                    await asyncio.to_thread(_write, file.add, answers)
        served = await _served(labeler, job.question)
    if stream.out_of_budget:
        error = purse.exceeded()
        error.message = f"{error.message}, the first {file.n_rows:,} rows also in {partial}"
        raise error
    partial.replace(job.output)
    return Outcome(tally, job.output, served)


def _write(add: Callable[[Answered], None], answers: list[Answered]) -> None:
    for answer in answers:
        add(answer)


async def _served(labeler: LabelerClient, question: Question) -> ServedModel | None:
    """How the question's model is served; None where it cannot be told, which is no reason to lose the labels."""
    try:
        description = await labeler.describe()
    except IsocostError:
        return None
    models = [model for model in description.served_models if model.model == question.model]
    return models[0] if models else None
