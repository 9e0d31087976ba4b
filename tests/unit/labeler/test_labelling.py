"""A stream of items through a question: an engine that answers when told to, everything else real."""

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from isocost.core.errors import InvalidArgumentError, UnavailableError
from isocost.labeler.adapter import Adapter
from isocost.labeler.engine import Engine, EngineStatus, Runner
from isocost.labeler.engine_pool import EnginePool
from isocost.labeler.labelling import Answer, ItemError, Labelling, WorkInProgress
from isocost.labeler.model_card import ModelCard
from isocost.labeler.pace import Pace
from isocost.labeler.question import Question, Request
from isocost.labeler.store import LabelStore
from isocost.labeler.tally import Tally
from isocost.resources.label import ItemErrorReason
from isocost.resources.task import Item, Task

WORDS = ["<unk>", "is", "?", "no", "yes", "bad", *(f"w{number}" for number in range(500))]
TASK = Task("t", "is {word} ?", ("no", "yes"))
BAD = WORDS.index("bad")


def make_card() -> ModelCard:
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")
    return ModelCard("m", "/m", "", "sha256@0", Runner.GENERATE, fast, 8, 0)


class FakeEngine:
    """P(yes) grows with the word's id; the word "bad" is refused."""

    fingerprint = "fake 1"
    max_prompt_tokens = 8
    is_broken = False
    knows_mass = True

    def __init__(self) -> None:
        self.pace = Pace(4, 2)
        self.calls: list[list[int]] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.failures: list[Exception] = []

    async def status(self) -> EngineStatus:
        raise NotImplementedError

    async def score(
        self, prompts: Sequence[Sequence[int]], token_ids: Sequence[int], adapter: Adapter | None = None
    ) -> list[tuple[float, ...]]:
        self.calls.append([prompt[1] for prompt in prompts])
        await self.may_answer.wait()
        if self.failures:
            raise self.failures.pop()
        if any(BAD in prompt for prompt in prompts):
            raise InvalidArgumentError("fields", "one of the prompts is bad")
        return [(math.log(0.5 - p), math.log(p)) for p in (prompt[1] / 2000 for prompt in prompts)]

    async def close(self) -> None:
        return

    @property
    def words(self) -> list[str]:
        return [WORDS[token] for call in self.calls for token in call]


class Bench:
    """Everything that one labeler's streams share."""

    def __init__(self, store: LabelStore) -> None:
        self.engine = FakeEngine()
        self.starts = 0
        self.pool = EnginePool(self._start, 1)
        self.store = store
        self.work = WorkInProgress()
        self.tally = Tally()
        self.question = Question(Request("m", Runner.GENERATE, TASK), make_card())

    async def _start(self, card: ModelCard) -> Engine:
        self.starts += 1
        return self.engine

    def labelling(self, *, keep: bool = True) -> Labelling:
        return Labelling(self.question, self.pool, self.store if keep else None, self.work, self.tally, Pace(4, 2))

    async def run(self, elements: Sequence[Item | Answer], *, keep: bool = True) -> dict[str, Answer]:
        return {a.item_id: a async for part in self.labelling(keep=keep).run(batches(elements)) for a in part}


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    store = LabelStore(tmp_path / "labels.sqlite")
    await store.open()
    yield Bench(store)
    await store.close()


async def batches(*parts: Sequence[Item | Answer]) -> AsyncIterator[Sequence[Item | Answer]]:
    for part in parts:
        yield part


def items(*words: str) -> list[Item]:
    return [Item(f"item-{word}", {"word": word}) for word in words]


async def until(condition: Any) -> None:
    while not condition():  # noqa: ASYNC110 - the condition is that of a fake, which signals nothing
        await asyncio.sleep(0.001)


async def test_each_item_gets_one_answer(bench: Bench) -> None:
    words = [f"w{number}" for number in range(11)]
    answers = await bench.run(items(*words))
    assert sorted(answers) == sorted(f"item-{word}" for word in words)
    label = answers["item-w3"].label
    assert label is not None
    expected = WORDS.index("w3") / 1000
    assert label.probabilities == pytest.approx((1 - expected, expected))
    assert label.choices_mass == pytest.approx(0.5)
    assert label.prompt_tokens == 3
    assert label.engine_fingerprint == "m@0 fake 1"
    # The calls run side by side: which of them reaches the engine first is nobody's promise.
    assert sorted(len(call) for call in bench.engine.calls) == [3, 4, 4]


async def test_what_is_stored_needs_no_engine(bench: Bench) -> None:
    first = await bench.run(items("w1", "w2"))
    assert not any(answer.stored for answer in first.values())
    again = Bench(bench.store)
    second = await again.run([Item("other id", {"word": "w1", "not shown": "x"}), *items("w2")])
    assert all(answer.stored for answer in second.values())
    assert second["other id"].label == first["item-w1"].label
    assert again.starts == 0


async def test_only_what_is_missing_is_computed(bench: Bench) -> None:
    await bench.run(items("w1", "w3"))
    answers = await bench.run(items("w1", "w2", "w3", "w4"))
    assert bench.engine.words == ["w1", "w3", "w2", "w4"]
    assert {item_id for item_id, answer in answers.items() if answer.stored} == {"item-w1", "item-w3"}


async def test_predictions_are_computed_anew_and_not_stored(bench: Bench) -> None:
    await bench.run(items("w1"), keep=False)
    assert await bench.store.count() == 0
    await bench.run(items("w1"))
    answers = await bench.run(items("w1"), keep=False)
    assert not answers["item-w1"].stored
    assert bench.engine.words == ["w1"] * 3


async def test_bad_items_get_their_own_errors(bench: Bench) -> None:
    long = Item("long", {"word": "w1 " * 20})
    missing = Item("missing", {"wort": "w1"})
    refused = Answer("refused", None, error=ItemError(ItemErrorReason.INVALID_ITEM, "item_id: empty"))
    answers = await bench.run([*items("w1", "bad", "w2"), long, missing, refused, *items("w3")])
    errors = {item_id: answer.error for item_id, answer in answers.items() if answer.error}
    assert errors == {
        "item-bad": ItemError(ItemErrorReason.REFUSED_BY_ENGINE, "fields: one of the prompts is bad"),
        "long": ItemError(
            ItemErrorReason.PROMPT_TOO_LONG,
            "fields: the prompt has 22 tokens, more than the model's 8; shorten the item's text or the few-shot block",
        ),
        "missing": ItemError(ItemErrorReason.INVALID_ITEM, "fields.word: missing; the task's template shows {word}"),
        "refused": ItemError(ItemErrorReason.INVALID_ITEM, "item_id: empty"),
    }
    assert all(answer.label for item_id, answer in answers.items() if item_id not in errors)
    assert await bench.store.count() == 3, "no failure is stored"
    assert not (await bench.run(items("bad")))["item-bad"].stored


async def test_equal_items_are_computed_once(bench: Bench) -> None:
    twins = [Item("a", {"word": "w1"}), Item("b", {"word": "w1"})]
    answers = await bench.run(twins)
    assert bench.engine.words == ["w1"]
    assert answers["a"].label == answers["b"].label


async def test_streams_do_not_compute_the_same_item_twice(bench: Bench) -> None:
    bench.engine.may_answer.clear()
    first = asyncio.create_task(bench.run(items("w1", "w2")))
    await until(lambda: bench.engine.calls)
    second = asyncio.create_task(bench.run(items("w2", "w3")))
    await until(lambda: len(bench.engine.calls) == 2)
    bench.engine.may_answer.set()
    await first
    answers = await second
    assert bench.engine.words == ["w1", "w2", "w3"]
    assert answers["item-w2"].stored
    assert not answers["item-w3"].stored


async def test_work_of_a_stream_that_went_away_is_finished_and_stored(bench: Bench) -> None:
    bench.engine.may_answer.clear()
    first = asyncio.create_task(bench.run(items("w1")))
    await until(lambda: bench.engine.calls)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    second = asyncio.create_task(bench.run(items("w1")))
    bench.engine.may_answer.set()
    assert (await second)["item-w1"].stored
    assert bench.engine.words == ["w1"], "it was sent once"


async def test_stream_takes_over_what_failed_with_another(bench: Bench) -> None:
    bench.engine.may_answer.clear()
    bench.engine.failures = [UnavailableError("gone")]
    first = asyncio.create_task(bench.run(items("w1")))
    await until(lambda: bench.engine.calls)
    second = asyncio.create_task(bench.run(items("w1")))
    await asyncio.sleep(0)
    bench.engine.may_answer.set()
    with pytest.raises(UnavailableError):
        await first
    assert not (await second)["item-w1"].stored
    assert bench.engine.words == ["w1", "w1"]


async def test_work_left_behind_is_given_up_when_the_labeler_stops(bench: Bench) -> None:
    bench.engine.may_answer.clear()
    first = asyncio.create_task(bench.run(items("w1")))
    await until(lambda: bench.engine.calls)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await bench.work.close(timeout_seconds=0.01)
    assert await bench.store.count() == 0
    lease = await asyncio.wait_for(bench.pool.acquire(make_other_card()), 5)
    assert lease.engine is bench.engine, "the engine was given back"


async def test_tally_counts_what_was_done(bench: Bench) -> None:
    await bench.run(items("w1", "w2"))
    await bench.run([*items("w2", "w3"), Item("missing", {"wort": "w1"})])
    tally = bench.tally
    assert (tally.n_computed, tally.n_stored, tally.n_prompts, tally.n_prompt_tokens) == (3, 1, 3, 9)
    assert dict(tally.n_errors) == {"INVALID_ITEM": 1}


async def test_choices_that_share_their_first_token_take_more_passes(tmp_path: Path) -> None:
    store = LabelStore(tmp_path / "tree.sqlite")
    await store.open()
    bench = Bench(store)
    task = Task("t", "is {word} ?", ("no", "yes w1", "yes w2"))
    bench.question = Question(Request("m", Runner.GENERATE, task), make_card())
    no, yes, w1, w2 = (WORDS.index(word) for word in ("no", "yes", "w1", "w2"))
    asked: list[tuple[list[int], tuple[int, ...]]] = []

    async def score(prompts: Any, token_ids: Any, adapter: Any = None) -> list[tuple[float, ...]]:
        asked.extend((prompt[3:], tuple(token_ids)) for prompt in prompts)
        shares = {no: 0.5, yes: 0.3, w1: 0.25, w2: 0.5}
        return [tuple(math.log(shares[token]) for token in token_ids) for _ in prompts]

    bench.engine.score = score  # type: ignore[method-assign]
    label = (await bench.run(items("w9")))["item-w9"].label
    assert sorted(asked) == [([], (no, yes)), ([yes], (w1, w2))]
    assert label is not None
    assert label.choices_mass == pytest.approx(0.5 + 0.3 * 0.25 + 0.3 * 0.5)
    assert label.probabilities == pytest.approx([value / 0.725 for value in (0.5, 0.075, 0.15)])
    assert label.prompt_tokens == 3 + 4
    # The longest prompt leaves room for the answer's shared tokens.
    longest = (await bench.run([Item("l", {"word": "w1 " * 6})]))["l"]
    assert longest.error is not None
    assert longest.error.reason is ItemErrorReason.PROMPT_TOO_LONG
    await store.close()


async def test_server_that_goes_away_ends_the_stream_and_keeps_what_was_made(bench: Bench) -> None:
    answered = asyncio.Event()

    async def parts() -> AsyncIterator[Sequence[Item]]:
        yield items("w1", "w2")
        await answered.wait()
        bench.engine.failures = [UnavailableError("gone")]
        yield items("w3", "w4")

    run = bench.labelling().run(parts())
    assert len(await anext(run)) == 2
    answered.set()
    with pytest.raises(UnavailableError, match="gone"):
        await anext(run)
    again = await bench.run(items("w1", "w2", "w3", "w4"))
    assert {item_id for item_id, answer in again.items() if answer.stored} == {"item-w1", "item-w2"}


async def test_caller_waits_while_enough_is_in_flight(bench: Bench) -> None:
    n_read = 0

    async def endless() -> AsyncIterator[Sequence[Item]]:
        nonlocal n_read
        for start in range(0, 400, 4):
            n_read += 1
            yield items(*(f"w{start + offset}" for offset in range(4)))

    bench.engine.may_answer.clear()
    run = bench.labelling().run(endless())
    first = asyncio.ensure_future(anext(run))
    await until(lambda: len(bench.engine.calls) == 4)
    for _ in range(100):
        await asyncio.sleep(0)
    # Two requests in flight, two chunks ahead of them, and no batch beyond.
    assert n_read == 4
    bench.engine.may_answer.set()
    await first
    assert len([answer async for part in run for answer in part]) == 396


async def test_answers_come_while_the_caller_still_thinks(bench: Bench) -> None:
    more = asyncio.Event()

    async def slow() -> AsyncIterator[Sequence[Item]]:
        yield items("w1")
        await more.wait()
        yield items("w2")

    run = bench.labelling().run(slow())
    assert (await anext(run))[0].item_id == "item-w1"
    more.set()
    assert (await anext(run))[0].item_id == "item-w2"


async def test_closing_a_stream_stops_its_work_and_frees_the_engine(bench: Bench) -> None:
    more = asyncio.Event()

    async def slow() -> AsyncIterator[Sequence[Item]]:
        yield items("w1")
        yield items("w2")
        await more.wait()

    run = bench.labelling().run(slow())
    await anext(run)
    await run.aclose()
    lease = await asyncio.wait_for(bench.pool.acquire(make_other_card()), 5)
    assert lease.engine is bench.engine
    assert bench.starts == 2


def make_other_card() -> ModelCard:
    return ModelCard("n", "/n", "", "sha256@1", Runner.GENERATE, None, 8, 0)


def key(template: str = TASK.template, model: str = "0", runner: Runner = Runner.GENERATE, **fields: str) -> str:
    card = make_card()
    card = ModelCard("m", "/m", "", f"sha256@{model}", runner, card.tokenizer, 8, 2)
    task = Task("t", template, ("no", "yes"))
    return Question(Request("m", runner, task), card).key(fields)


def test_key_is_that_of_question_model_and_shown_fields() -> None:
    keys = [
        key(word="w1"),
        key(word="w2"),
        key(word="w1", model="1"),
        key(word="w1", runner=Runner.CLASSIFY),
        key(word="w1", template="{word} ?"),
    ]
    assert len(set(keys)) == len(keys)
    assert key(word="w1", other="x") == keys[0]
