"""Items to labels: the store is asked first, the model only for what is not in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from isocost.core.errors import FailedPreconditionError, InvalidArgumentError
from isocost.labeler.engine import ChoiceScores, Engine
from isocost.labeler.engine_pool import EngineLease, EnginePool
from isocost.labeler.pace import Pace
from isocost.labeler.question import Question
from isocost.labeler.store import LabelStore, StoredLabel
from isocost.labeler.tally import Tally
from isocost.resources.label import ItemErrorReason
from isocost.resources.task import Item
from isocost.tasks.prompt import PromptEncoder, PromptTooLongError

__all__ = ["CHUNKS_AHEAD", "Answer", "ItemError", "Labelling", "WorkInProgress"]

#: Chunks a stream works on beyond those that the engine does, so that encoding and storing keep it busy.
CHUNKS_AHEAD = 2


@dataclass(frozen=True, slots=True)
class ItemError:
    """An item's own error; it never ends the stream and is never stored."""

    reason: ItemErrorReason
    message: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one item.

    Attributes:
        item_id: The item.
        label: Its label, or None where error is set.
        stored: Whether it was made earlier.
        error: Why it has none, or None.
    """

    item_id: str
    label: StoredLabel | None
    stored: bool = False
    error: ItemError | None = None


class WorkInProgress:
    """What all streams of a labeler share.

    It knows which keys are being computed now, by any stream: the others wait instead of computing them again. And it
    sees that work goes on to its end and is stored where the stream that asked for it has gone: it is paid for.
    """

    def __init__(self) -> None:
        self._done_by_key: dict[str, asyncio.Event] = {}
        self._left: set[asyncio.Task[None]] = set()

    def claim(self, keys: Sequence[str]) -> tuple[list[str], asyncio.Event | None]:
        """Takes the keys that nobody computes; returns them, and an event of one other that somebody does."""
        mine = [key for key in keys if key not in self._done_by_key]
        others = [self._done_by_key[key] for key in keys if key in self._done_by_key]
        done = asyncio.Event()
        self._done_by_key.update(dict.fromkeys(mine, done))
        return mine, others[0] if others else None

    def settle(self, keys: Sequence[str]) -> None:
        """Gives claimed keys back, computed or not, and wakes whoever waits for them."""
        for key in keys:
            self._done_by_key.pop(key).set()

    def adopt(self, work: Coroutine[Any, Any, None]) -> None:
        """Sees to work that a stream left behind."""
        task = asyncio.create_task(work)
        self._left.add(task)
        task.add_done_callback(self._left.discard)

    async def close(self, timeout_seconds: float) -> None:
        """Waits for the work left behind, and gives it up after the timeout."""
        if self._left:
            _, late = await asyncio.wait([*self._left], timeout=timeout_seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)


class Labelling:
    """One stream of items through one question.

    At most a bounded number of chunks is worked on at a time; while it is reached, no further batch is read, which
    makes the caller wait. A stream that ends early leaves chunks that are worked on to the work in progress.

    Args:
        question: What is asked.
        pool: Where engines come from; one is taken with the first item that the store does not have.
        store: Where labels are kept, or None to compute all anew and keep nothing.
        work: Shared by all streams that use the store.
        tally: Counts what was done.
        pace: How the stream begins, before its engine says what it takes.
    """

    def __init__(
        self,
        question: Question,
        pool: EnginePool,
        store: LabelStore | None,
        work: WorkInProgress,
        tally: Tally,
        pace: Pace,
    ) -> None:
        self._pace = pace
        self._question = question
        self._pool = pool
        self._store = store
        self._work = work
        self._tally = tally
        self._leasing = asyncio.Lock()
        self._lease: EngineLease | None = None
        self._encoder: PromptEncoder | None = None

    async def run(self, batches: AsyncIterator[Sequence[Item | Answer]]) -> AsyncGenerator[list[Answer]]:
        """Yields one answer for each item, in any order, as they are ready.

        An element that is an answer already (a refusal) is passed on.

        Raises:
            IsocostError: what ended the stream; labels made before are stored.
        """
        left: list[Item | Answer] = []
        working: set[asyncio.Task[list[Answer]]] = set()
        reading: asyncio.Task[Sequence[Item | Answer] | None] | None = None
        has_more = True
        try:
            while has_more or left or working:
                while left and len(working) < self._pace.requests_in_flight + CHUNKS_AHEAD:
                    n_items = self._pace.prompts_per_request
                    chunk, left = left[:n_items], left[n_items:]
                    working.add(asyncio.create_task(self._answer(chunk)))
                if has_more and reading is None and len(working) < self._pace.requests_in_flight + CHUNKS_AHEAD:
                    reading = asyncio.create_task(_next_batch(batches))
                await asyncio.wait([*working, *([reading] if reading else [])], return_when=asyncio.FIRST_COMPLETED)
                if reading is not None and reading.done():
                    batch = reading.result()
                    reading = None
                    has_more = batch is not None
                    left = list(batch or ())
                # Failures last: what is ready goes out before the stream ends.
                ready = sorted((task for task in working if task.done()), key=lambda task: task.exception() is not None)
                working.difference_update(ready)
                for task in ready:
                    yield self._counted(task.result())
        finally:
            if reading is not None:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
            if self._store is None:
                for task in working:
                    task.cancel()
            self._work.adopt(self._finish(working))

    async def _finish(self, working: set[asyncio.Task[list[Answer]]]) -> None:
        """Waits for chunks that nobody waits for any more, then gives the engine back."""
        try:
            await asyncio.gather(*working, return_exceptions=True)
        finally:
            for task in working:
                task.cancel()
            await asyncio.gather(*working, return_exceptions=True)
            if self._lease is not None:
                self._lease.release()

    def _counted(self, answers: list[Answer]) -> list[Answer]:
        self._tally.n_computed += sum(answer.label is not None and not answer.stored for answer in answers)
        self._tally.n_stored += sum(answer.stored for answer in answers)
        for answer in answers:
            if answer.error is not None:
                self._tally.n_errors[answer.error.reason.name] += 1
        return answers

    async def _answer(self, elements: Sequence[Item | Answer]) -> list[Answer]:
        """One answer for each item of a chunk."""
        answers = [element for element in elements if isinstance(element, Answer)]
        items = [element for element in elements if isinstance(element, Item)]
        items_by_key: dict[str, list[Item]] = {}
        for item in items:
            try:
                items_by_key.setdefault(self._question.key(item.fields), []).append(item)
            except InvalidArgumentError as error:
                answers.append(Answer(item.item_id, None, error=ItemError(ItemErrorReason.INVALID_ITEM, str(error))))
        if self._store is None:
            computed = await self._compute({key: group[0] for key, group in items_by_key.items()})
            return answers + _answers(items_by_key, computed, stored=False)
        while items_by_key:
            mine, others_done = self._work.claim(list(items_by_key))
            try:
                known = await self._store.get(mine)
                missing = {key: items_by_key[key][0] for key in mine if key not in known}
                computed = await self._compute(missing) if missing else {}
                labels = {key: label for key, label in computed.items() if isinstance(label, StoredLabel)}
                # On disk before anybody hears of them.
                await self._store.put(labels)
            finally:
                self._work.settle(mine)
            answers += _answers(items_by_key, dict(known), stored=True)
            answers += _answers(items_by_key, computed, stored=False)
            for key in mine:
                del items_by_key[key]
            if others_done is not None and items_by_key:
                await others_done.wait()
        return answers

    async def _compute(self, items: dict[str, Item]) -> dict[str, StoredLabel | ItemError]:
        """By key, the label of each item or why it has none."""
        engine, encoder = await self._engine()
        prompts, outcomes = await asyncio.to_thread(_encode, encoder, items)
        scores = await self._score(engine, prompts)
        fingerprint = f"{self._question.card.fingerprint} {engine.fingerprint}"
        suffix_tokens = sum(len(one.suffix) for one in self._question.passes)
        for key, outcome in scores.items():
            if isinstance(outcome, ItemError):
                outcomes[key] = outcome
                continue
            try:
                probabilities = outcome.probabilities
            except ValueError as error:
                outcomes[key] = ItemError(ItemErrorReason.UNUSABLE_ANSWER, f"the model's answer is unusable: {error}")
                continue
            n_tokens = len(prompts[key]) * len(self._question.passes) + suffix_tokens
            mass = outcome.choices_mass if engine.knows_mass else 0.0
            outcomes[key] = StoredLabel(probabilities, mass, n_tokens, fingerprint)
        return outcomes

    async def _score(self, engine: Engine, prompts: dict[str, list[int]]) -> dict[str, ChoiceScores | ItemError]:
        """Scores the prompts; where the engine refuses the lot, halves it until it is known which one is bad."""
        if not prompts:
            return {}
        keys = list(prompts)
        answers = []
        try:
            for one in self._question.passes:
                asked = [[*prompts[key], *one.suffix] for key in keys] if one.suffix else [prompts[key] for key in keys]
                self._tally.n_prompts += len(asked)
                self._tally.n_prompt_tokens += sum(map(len, asked))
                answers.append(await engine.score(asked, one.token_ids, self._question.card.adapter))
        except InvalidArgumentError as error:
            if len(keys) == 1:
                return {keys[0]: ItemError(ItemErrorReason.REFUSED_BY_ENGINE, str(error))}
            halves = keys[: len(keys) // 2], keys[len(keys) // 2 :]
            first, second = [await self._score(engine, {key: prompts[key] for key in half}) for half in halves]
            return first | second
        tree = self._question.tree
        return {
            key: ChoiceScores(tree.log_probabilities(of_item))
            for key, of_item in zip(keys, zip(*answers, strict=True), strict=True)
        }

    async def _engine(self) -> tuple[Engine, PromptEncoder]:
        async with self._leasing:
            if self._lease is None or self._encoder is None:
                lease = await self._pool.acquire(self._question.card)
                if len(self._question.passes) > 1 and not lease.engine.knows_mass:
                    lease.release()
                    raise FailedPreconditionError(
                        "the server tells probabilities among given tokens only, which does for choices whose first "
                        "tokens differ; use such choices, or a server that answers logprob_token_ids",
                        field="config.task.choices",
                    )
                self._lease = lease
                self._pace = lease.engine.pace
                self._encoder = self._question.encoder(lease.engine.max_prompt_tokens)
        return self._lease.engine, self._encoder


async def _next_batch(batches: AsyncIterator[Sequence[Item | Answer]]) -> Sequence[Item | Answer] | None:
    return await anext(batches, None)


def _encode(
    encoder: PromptEncoder, items: dict[str, Item]
) -> tuple[dict[str, list[int]], dict[str, StoredLabel | ItemError]]:
    """Prompts by key, and by key why there is none."""
    prompts: dict[str, list[int]] = {}
    errors: dict[str, StoredLabel | ItemError] = {}
    for key, prompt in zip(items, encoder.encode_many([item.fields for item in items.values()]), strict=True):
        if isinstance(prompt, PromptTooLongError):
            errors[key] = ItemError(ItemErrorReason.PROMPT_TOO_LONG, str(prompt))
        elif isinstance(prompt, InvalidArgumentError):
            errors[key] = ItemError(ItemErrorReason.INVALID_ITEM, str(prompt))
        else:
            prompts[key] = prompt
    return prompts, errors


def _answers(
    items_by_key: dict[str, list[Item]], outcomes: dict[str, StoredLabel | ItemError], *, stored: bool
) -> list[Answer]:
    answers = []
    for key, outcome in outcomes.items():
        for item in items_by_key[key]:
            if isinstance(outcome, StoredLabel):
                answers.append(Answer(item.item_id, outcome, stored))
            else:
                answers.append(Answer(item.item_id, None, error=outcome))
    return answers
