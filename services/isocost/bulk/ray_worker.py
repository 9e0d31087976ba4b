"""One of the labelers of a Ray job: an actor that holds an engine, or a client of a labeler that runs elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from isocost.bulk.labeler_link import LabelerPlace, open_labeler
from isocost.bulk.parts import part_name
from isocost.bulk.price import Purse
from isocost.bulk.question import Question
from isocost.bulk.ray_input import rows_of
from isocost.bulk.rows import Row, chunked
from isocost.bulk.stream import RowStream, asking
from isocost.bulk.table import answer_table
from isocost.bulk.tally import Answered, Tally
from isocost.client.labeler import LabelerClient
from isocost.client.table_file import open_table_file
from isocost.core.errors import InvalidArgumentError, IsocostError
from isocost.resources.task import Source

__all__ = ["LabelWorker", "WorkerTask", "raise_failure"]


@dataclass(frozen=True, slots=True)
class WorkerTask:
    """What every worker is told.

    Attributes:
        question: What is asked, and whom.
        place: Where the labeler is.
        folder: Where the parts go.
        id_column: Name of the ids' column in the parts; None where rows are numbered only.
        price: Of a label; None where labels have none.
    """

    question: Question
    place: LabelerPlace
    folder: Path
    id_column: str | None
    price: Source | None


class LabelWorker:
    """Labels batches and writes one part for each; its labeler lives as long as the actor.

    Args:
        task: What to do.
    """

    def __init__(self, task: WorkerTask) -> None:
        self._task = task
        self._stack = contextlib.AsyncExitStack()
        self._labeler: LabelerClient | None = None
        # The labeler must be served between batches too, and Ray does not run a loop for it.
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="labeler", daemon=True).start()

    def __call__(self, batch: pa.Table) -> dict[str, list[Any]]:
        """Labels one batch; its part is in place when this returns.

        Returns:
            One line of counts, or the error that ends the job: Ray would wrap a raised one, and try it again.
        """
        try:
            tally = asyncio.run_coroutine_threadsafe(self._label(rows_of(batch)), self._loop).result()
        except IsocostError as error:
            is_input = isinstance(error, InvalidArgumentError)
            return {"tally": [None], "failure": [{"field": error.field, "message": error.message, "input": is_input}]}
        counts = dataclasses.asdict(tally) | {"errors": list(tally.errors.elements())}
        return {"tally": [counts], "failure": [None]}

    async def _label(self, rows: list[Row]) -> Tally:
        task = self._task
        if self._labeler is None:
            self._labeler = await self._stack.enter_async_context(open_labeler(task.place))
        currency = None if task.price is None else task.price.unit_price.currency_code
        tally = Tally(len(rows), currency=currency)
        stream = RowStream(asking(self._labeler, task.question), Purse(task.price, None, 0), tally, _ignore)
        answers: list[Answered] = []
        async for part in stream.run(chunked(rows)):
            answers += part
        path = task.folder / part_name([row.number for row in rows])
        await asyncio.to_thread(self._write, path, answers)
        return tally

    def _write(self, path: Path, answers: list[Answered]) -> None:
        table = answer_table(self._task.question.task, self._task.id_column, numbered=True)
        with open_table_file(path, table) as file:
            for answer in answers:
                file.add(answer)


def raise_failure(failure: dict[str, Any]) -> None:
    """Raises the error that a worker met."""
    if failure["input"]:
        raise InvalidArgumentError(failure["field"], failure["message"])
    raise IsocostError(failure["message"], field=failure["field"])


def _ignore(tally: Tally) -> None:
    """Nobody watches: the driver counts whole batches."""
