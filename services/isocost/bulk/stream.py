"""Rows through a labeler: many chunks at a time, answers in the rows' order, memory bounded."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

from isocost.bulk.price import Purse
from isocost.bulk.question import Question
from isocost.bulk.rows import Row
from isocost.bulk.tally import Answered, Tally
from isocost.client.labeler import ItemErrorReason, LabelerClient, LabelResult
from isocost.client.retry import Attempts, RetryPolicy
from isocost.core.errors import InvalidArgumentError, IsocostError, UnavailableError
from isocost.resources.task import Item

__all__ = ["INVALID_ITEM", "PATIENT", "UNKNOWN", "WINDOW_CHUNKS", "Ask", "RowStream", "asking"]

Ask = Callable[[Sequence[Item]], AsyncIterator[LabelResult]]
"""Answers each item once, in any order."""

#: Chunks asked for at a time, or answered and waiting for one before them: enough prompts for the fastest engine.
WINDOW_CHUNKS = 24
#: A labeler that loads a large model again, or moves to another machine, is away for minutes. Attempts are bounded and
#: time is not: a chunk may wait for its turn, behind the others, as long as it takes.
PATIENT = RetryPolicy(
    attempts_max=40,
    delay_first=timedelta(milliseconds=500),
    delay_max=timedelta(seconds=30),
    timeout=timedelta(days=30),
)
#: Kind of error of a row that is no item; as the labeler calls it where it finds it out.
INVALID_ITEM = ItemErrorReason.INVALID_ITEM.name.lower()
#: Kind of error where the labeler, an older one, does not tell it.
UNKNOWN = "unknown"
#: Option that says what a field of the labeler's configuration does.
_OPTIONS = {
    "config.model": "--model",
    "config.runner": "--runner",
    "config.few_shot_examples": "--examples",
    "config.task.choices": "task.choices",
    "config.task.template": "task.template",
}


def asking(labeler: LabelerClient, question: Question, *, predicts: bool = False) -> Ask:
    """Asks a labeler for labels, which it keeps, or for predictions, which it does not."""
    call = labeler.predict if predicts else labeler.label

    def ask(items: Sequence[Item]) -> AsyncIterator[LabelResult]:
        return call(
            items,
            question.task,
            model=question.model,
            runner=question.runner,
            few_shot_examples=question.few_shot_examples,
        )

    return ask


class RowStream:
    """Answers chunks of rows.

    Each chunk is one call. A call that breaks is made again with the rows that are still unanswered.

    Args:
        ask: What answers.
        purse: What labels cost; where its budget is used up, no further row is asked for.
        tally: Counts the answers as they come.
        observe: Called after every change of the tally.
        window_chunks: Chunks asked for at a time, or answered and waiting for one before them.
        retry: How often a broken call is made again.
    """

    def __init__(
        self,
        ask: Ask,
        purse: Purse,
        tally: Tally,
        observe: Callable[[Tally], None],
        *,
        window_chunks: int = WINDOW_CHUNKS,
        retry: RetryPolicy = PATIENT,
    ) -> None:
        self._ask = ask
        self._purse = purse
        self._tally = tally
        self._observe = observe
        self._window_chunks = window_chunks
        self._retry = retry
        self.out_of_budget = False
        """Whether rows are left unasked because the budget does not pay for them."""

    async def run(self, chunks: Iterator[list[Row]]) -> AsyncGenerator[list[Answered]]:
        """Yields the answers to each chunk, in the chunks' order.

        While the window is full no further chunk is read, so that a slow chunk, or a slow reader of the answers, holds
        up the reading and not the memory.

        Raises:
            IsocostError: what ended the stream.
        """
        window: deque[asyncio.Task[list[Answered]]] = deque()
        left: list[Row] = []
        has_more = True
        try:
            while True:
                working = [task for task in window if not task.done()]
                while has_more and len(window) < self._window_chunks:
                    # Reading decompresses and parses: other chunks' answers arrive meanwhile.
                    chunk: list[Row] | None = left or await asyncio.to_thread(_next_chunk, chunks)
                    if chunk is None:
                        has_more = False
                        break
                    n_paid = self._purse.reserve(chunk)
                    left = chunk[n_paid:]
                    if n_paid:
                        window.append(asyncio.create_task(self._answer(chunk[:n_paid])))
                        working.append(window[-1])
                    if left:
                        break
                if not window:
                    self.out_of_budget = bool(left)
                    return
                if working:
                    await asyncio.wait(working, return_when=asyncio.FIRST_COMPLETED)
                for task in window:
                    if task.done():
                        # An error of any chunk ends the job, whichever chunk is to be written next.
                        task.result()
                while window and window[0].done():
                    yield window.popleft().result()
        finally:
            pending: list[asyncio.Task[Any]] = [*window]
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    async def _answer(self, chunk: list[Row]) -> list[Answered]:
        answers: dict[int, Answered] = {}
        for row in chunk:
            if row.item is None:
                self._accept(answers, Answered(row, None, error=row.error, error_reason=INVALID_ITEM))
        rows_by_id = {row.item.item_id: row for row in chunk if row.item is not None}
        attempts = Attempts(self._retry)
        while rows_by_id:
            items = [row.item for row in rows_by_id.values() if row.item is not None]
            try:
                async for result in self._ask(items):
                    if result.item_id in rows_by_id:
                        self._accept(answers, _answered(rows_by_id.pop(result.item_id), result))
                        attempts.progressed()
                if not rows_by_id:
                    break
                failure: IsocostError = UnavailableError(f"the labeler left {len(rows_by_id)} items unanswered")
            except InvalidArgumentError as error:
                raise _by_option(error) from None
            except IsocostError as error:
                failure = error
            await asyncio.sleep(attempts.pause_seconds(failure))
        return [answers[row.number] for row in chunk]

    def _accept(self, answers: dict[int, Answered], answer: Answered) -> None:
        answers[answer.row.number] = answer
        cost_micros = self._purse.settle(answer.row, answer.label.prompt_tokens if answer.label else None)
        self._tally.add(answer, cost_micros)
        self._observe(self._tally)


def _next_chunk(chunks: Iterator[list[Row]]) -> list[Row] | None:
    return next(chunks, None)


def _answered(row: Row, result: LabelResult) -> Answered:
    reason = "" if result.error_reason is None else result.error_reason.name.lower()
    return Answered(row, result.label, result.stored, result.error, reason or (UNKNOWN if result.error else ""))


def _by_option(error: InvalidArgumentError) -> InvalidArgumentError:
    """The error of a labeler's configuration, by the name of the option."""
    return InvalidArgumentError(_OPTIONS.get(error.field, error.field.removeprefix("config.")), error.message)
