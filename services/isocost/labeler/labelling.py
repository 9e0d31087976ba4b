"""Items to labels: the store is asked first, the model only for what is not in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from isocost.core.errors import InvalidArgumentError
from isocost.labeler.engine import ChoiceScores, Engine
from isocost.labeler.engine_pool import EngineLease, EnginePool
from isocost.labeler.question import Question
from isocost.labeler.settings import LabelerSettings
from isocost.labeler.store import LabelStore, StoredLabel
from isocost.resources.task import Item
from isocost.tasks.prompt import PromptEncoder

__all__ = ["Answer", "Labelling", "WorkInProgress"]

#: Chunks a stream works on beyond those that the engine does, so that encoding and storing keep it busy.
_CHUNKS_AHEAD = 2


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one item.

    Attributes:
        item_id: The item.
        label: Its label, or None where error is set.
        stored: Whether it was made earlier.
        error: Why it has none, or "".
    """

    item_id: str
    label: StoredLabel | None
    stored: bool = False
    error: str = ""


class WorkInProgress:
    """Which keys are being computed now, by any stream: the others wait instead of computing them again."""

    def __init__(self) -> None:
        self._done_by_key: dict[str, asyncio.Event] = {}

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


class Labelling:
    """One stream of items through one question.

    At most a bounded number of chunks is worked on at a time; while it is reached, no further batch is read, which
    makes the caller wait.

    Args:
        question: What is asked.
        pool: Where engines come from; one is taken with the first item that the store does not have.
        settings: The labeler's.
        store: Where labels are kept, or None to compute all anew and keep nothing.
        work: Shared by all streams that use the store.
    """

    def __init__(
        self,
        question: Question,
        pool: EnginePool,
        settings: LabelerSettings,
        store: LabelStore | None,
        work: WorkInProgress,
    ) -> None:
        self._question = question
        self._pool = pool
        self._store = store
        self._work = work
        self._chunk_items = settings.prompts_per_request
        self._chunks_max = settings.requests_in_flight + _CHUNKS_AHEAD
        self._leasing = asyncio.Lock()
        self._lease: EngineLease | None = None
        self._encoder: PromptEncoder | None = None

    async def run(self, batches: AsyncIterator[Sequence[Item | Answer]]) -> AsyncGenerator[list[Answer]]:
        """Yields one answer for each item, in any order, as they are ready.

        An element that is an answer already (a refusal) is passed on.

        Raises:
            IsocostError: what ended the stream; labels made before are stored.
        """
        chunks: list[Sequence[Item | Answer]] = []
        working: set[asyncio.Task[list[Answer]]] = set()
        reading: asyncio.Task[Sequence[Item | Answer] | None] | None = None
        has_more = True
        try:
            while has_more or chunks or working:
                while chunks and len(working) < self._chunks_max:
                    working.add(asyncio.create_task(self._answer(chunks.pop(0))))
                if has_more and reading is None and len(working) < self._chunks_max:
                    reading = asyncio.create_task(_next_batch(batches))
                await asyncio.wait([*working, *([reading] if reading else [])], return_when=asyncio.FIRST_COMPLETED)
                if reading is not None and reading.done():
                    batch = reading.result()
                    reading = None
                    has_more = batch is not None
                    chunks = self._cut(batch or ())
                # Failures last: what is ready goes out before the stream ends.
                ready = sorted((task for task in working if task.done()), key=lambda task: task.exception() is not None)
                working.difference_update(ready)
                for task in ready:
                    yield task.result()
        finally:
            left: list[asyncio.Task[Any]] = [*working, *([reading] if reading else [])]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            if self._lease is not None:
                self._lease.release()

    def _cut(self, batch: Sequence[Item | Answer]) -> list[Sequence[Item | Answer]]:
        return [batch[start : start + self._chunk_items] for start in range(0, len(batch), self._chunk_items)]

    async def _answer(self, elements: Sequence[Item | Answer]) -> list[Answer]:
        """One answer for each item of a chunk."""
        answers = [element for element in elements if isinstance(element, Answer)]
        items = [element for element in elements if isinstance(element, Item)]
        items_by_key: dict[str, list[Item]] = {}
        for item in items:
            try:
                items_by_key.setdefault(self._question.key(item.fields), []).append(item)
            except InvalidArgumentError as error:
                answers.append(Answer(item.item_id, None, error=str(error)))
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

    async def _compute(self, items: dict[str, Item]) -> dict[str, StoredLabel | str]:
        """By key, the label of each item or why it has none."""
        engine, encoder = await self._engine()
        prompts, outcomes = await asyncio.to_thread(_encode, encoder, items)
        scores = await self._score(engine, prompts)
        for key, outcome in scores.items():
            if isinstance(outcome, str):
                outcomes[key] = outcome
                continue
            try:
                probabilities = outcome.probabilities
            except ValueError as error:
                outcomes[key] = f"the model's answer is unusable: {error}"
                continue
            outcomes[key] = StoredLabel(probabilities, outcome.choices_mass, len(prompts[key]), engine.fingerprint)
        return outcomes

    async def _score(self, engine: Engine, prompts: dict[str, list[int]]) -> dict[str, ChoiceScores | str]:
        """Scores the prompts; where the engine refuses the lot, halves it until it is known which one is bad."""
        if not prompts:
            return {}
        keys = list(prompts)
        try:
            scores = await engine.score([prompts[key] for key in keys], self._question.choice_ids)
        except InvalidArgumentError as error:
            if len(keys) == 1:
                return {keys[0]: str(error)}
            halves = keys[: len(keys) // 2], keys[len(keys) // 2 :]
            first, second = [await self._score(engine, {key: prompts[key] for key in half}) for half in halves]
            return first | second
        return dict(zip(keys, scores, strict=True))

    async def _engine(self) -> tuple[Engine, PromptEncoder]:
        async with self._leasing:
            if self._lease is None or self._encoder is None:
                self._lease = await self._pool.acquire(self._question.card)
                self._encoder = self._question.encoder(self._lease.engine.max_prompt_tokens)
        return self._lease.engine, self._encoder


async def _next_batch(batches: AsyncIterator[Sequence[Item | Answer]]) -> Sequence[Item | Answer] | None:
    return await anext(batches, None)


def _encode(
    encoder: PromptEncoder, items: dict[str, Item]
) -> tuple[dict[str, list[int]], dict[str, StoredLabel | str]]:
    """Prompts by key, and by key why there is none."""
    prompts: dict[str, list[int]] = {}
    errors: dict[str, StoredLabel | str] = {}
    for key, item in items.items():
        try:
            prompts[key] = encoder.encode(item.fields)
        except InvalidArgumentError as error:
            errors[key] = str(error)
    return prompts, errors


def _answers(
    items_by_key: dict[str, list[Item]], outcomes: dict[str, StoredLabel | str], *, stored: bool
) -> list[Answer]:
    answers = []
    for key, outcome in outcomes.items():
        for item in items_by_key[key]:
            if isinstance(outcome, StoredLabel):
                answers.append(Answer(item.item_id, outcome, stored))
            else:
                answers.append(Answer(item.item_id, None, error=outcome))
    return answers
