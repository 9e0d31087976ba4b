"""Rows through a labeler that answers late, in any order, breaks, and costs money."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import timedelta

import pytest

from isocost.bulk.price import Purse, form_price
from isocost.bulk.rows import Row
from isocost.bulk.stream import RowStream
from isocost.bulk.tally import Answered, Tally
from isocost.client.labeler import ItemErrorReason, LabelResult
from isocost.client.retry import RetryPolicy
from isocost.core.errors import InvalidArgumentError, UnavailableError
from isocost.core.money import Money
from isocost.resources.label import Label
from isocost.resources.task import Item

QUICK = RetryPolicy(attempts_max=4, delay_first=timedelta(milliseconds=1), delay_max=timedelta(milliseconds=1))
FREE = Purse(None, None, 0)


def make_chunks(n_chunks: int, chunk_rows: int = 4) -> Iterator[list[Row]]:
    for start in range(0, n_chunks * chunk_rows, chunk_rows):
        yield [
            Row(number, None, Item(str(number), {"text": f"text {number}"}), len(f"text {number}"))
            for number in range(start, start + chunk_rows)
        ]


def result(item: Item, *, prompt_tokens: int = 10, stored: bool = False) -> LabelResult:
    return LabelResult(item.item_id, Label(item.item_id, (0.25, 0.75), prompt_tokens=prompt_tokens), stored, "")


async def ask_scrambled(items: Sequence[Item]) -> AsyncIterator[LabelResult]:
    for item in random.Random(1).sample(items, len(items)):
        await asyncio.sleep(0)
        yield result(item)


async def collect(stream: RowStream, chunks: Iterator[list[Row]]) -> list[Answered]:
    return [answer async for part in stream.run(chunks) for answer in part]


async def test_answers_come_in_the_rows_order() -> None:
    tally = Tally(80)
    seen: list[int] = []
    stream = RowStream(ask_scrambled, FREE, tally, lambda tally: seen.append(tally.n_done), window_chunks=5)
    answers = await collect(stream, make_chunks(20))
    assert [answer.row.number for answer in answers] == list(range(80))
    assert all(answer.label and answer.label.item_id == str(answer.row.number) for answer in answers)
    assert seen == list(range(1, 81)), "every answer is shown as it comes"
    assert (tally.n_labels, tally.prompt_tokens, tally.n_errors) == (80, 800, 0)


async def test_a_slow_chunk_holds_up_the_reading_and_not_the_memory() -> None:
    may_answer, n_read = asyncio.Event(), 0

    def chunks() -> Iterator[list[Row]]:
        nonlocal n_read
        for chunk in make_chunks(50):
            n_read += 1
            yield chunk

    async def ask(items: Sequence[Item]) -> AsyncIterator[LabelResult]:
        if items[0].item_id == "0":
            await may_answer.wait()
        for item in items:
            yield result(item)

    tally = Tally(200)
    waiting = asyncio.Event()
    stream = RowStream(ask, FREE, tally, lambda tally: waiting.set() if tally.n_done == 20 else None, window_chunks=6)
    running = asyncio.create_task(collect(stream, chunks()))
    await waiting.wait()
    # Whatever else could run now would have run after so many turns.
    for _ in range(1_000):
        await asyncio.sleep(0)
    assert (n_read, tally.n_done) == (6, 20), "the window is full: five chunks wait for the first"
    may_answer.set()
    assert [answer.row.number for answer in await running] == list(range(200))


async def test_a_broken_call_is_made_again_with_what_is_unanswered() -> None:
    asked: list[list[str]] = []

    async def ask(items: Sequence[Item]) -> AsyncIterator[LabelResult]:
        asked.append([item.item_id for item in items])
        for item in items:
            if len(asked) < 3 and item.item_id == str(len(asked)):
                raise UnavailableError("the connection broke")
            yield result(item)

    answers = await collect(RowStream(ask, FREE, Tally(4), lambda _: None, retry=QUICK), make_chunks(1))
    assert asked == [["0", "1", "2", "3"], ["1", "2", "3"], ["2", "3"]]
    assert [answer.row.number for answer in answers] == [0, 1, 2, 3]


async def test_items_left_unanswered_are_asked_again() -> None:
    n_calls = 0

    async def ask(items: Sequence[Item]) -> AsyncIterator[LabelResult]:
        nonlocal n_calls
        n_calls += 1
        for item in items[: 2 if n_calls == 1 else None]:
            yield result(item)

    answers = await collect(RowStream(ask, FREE, Tally(4), lambda _: None, retry=QUICK), make_chunks(1))
    assert (len(answers), n_calls) == (4, 2)


async def test_a_labeler_that_stays_away_ends_the_job() -> None:
    async def ask(items: Sequence[Item]) -> AsyncIterator[LabelResult]:
        if items[0].item_id == "4":
            raise UnavailableError("gone")
        await asyncio.Event().wait()
        yield result(items[0])

    stream = RowStream(ask, FREE, Tally(12), lambda _: None, retry=QUICK)
    with pytest.raises(UnavailableError, match=r"gone \(attempt 4 of 4\)"):
        await collect(stream, make_chunks(3))
    assert len(asyncio.all_tasks()) == 1, "nothing goes on behind the error"


async def test_a_wrong_configuration_is_named_by_its_option() -> None:
    async def ask(items: Sequence[Item]) -> AsyncIterator[LabelResult]:
        raise InvalidArgumentError("config.model", "'x' is not a folder")
        yield result(items[0])

    with pytest.raises(InvalidArgumentError, match="--model: 'x' is not a folder"):
        await collect(RowStream(ask, FREE, Tally(4), lambda _: None), make_chunks(1))


async def test_a_bad_row_has_its_error_and_the_others_their_labels() -> None:
    async def ask(items: Sequence[Item]) -> AsyncIterator[LabelResult]:
        for item in items:
            if item.item_id == "1":
                yield LabelResult("1", None, False, "too long", ItemErrorReason.PROMPT_TOO_LONG)
            else:
                yield result(item, stored=item.item_id == "2")

    (chunk,) = make_chunks(1)
    chunk[3] = Row(3, None, None, error="the line is not JSON")
    tally = Tally(4)
    answers = await collect(RowStream(ask, FREE, tally, lambda _: None), iter([chunk]))
    assert [answer.error_reason for answer in answers] == ["", "prompt_too_long", "", "invalid_item"]
    assert [answer.error for answer in answers] == ["", "too long", "", "the line is not JSON"]
    assert tally.errors == {"prompt_too_long": 1, "invalid_item": 1}
    assert (tally.n_labels, tally.n_stored, tally.n_done) == (2, 1, 4)


@pytest.mark.parametrize("prompt_tokens", [1, 10, 20])
async def test_a_metered_budget_is_used_and_never_exceeded(prompt_tokens: int) -> None:
    async def ask(items: Sequence[Item]) -> AsyncIterator[LabelResult]:
        for item in items:
            yield result(item, prompt_tokens=prompt_tokens)

    budget = Money.parse("0.001")
    # A micro a token.
    purse = Purse(form_price(None, "1.00", "USD"), budget, prompt_bytes=0)
    tally = Tally(4_000, currency="USD")
    stream = RowStream(ask, purse, tally, lambda _: None, window_chunks=3)
    answers = await collect(stream, make_chunks(1_000))
    assert stream.out_of_budget
    assert [answer.row.number for answer in answers] == list(range(len(answers)))
    assert tally.cost_micros == len(answers) * prompt_tokens
    # What one prompt of 9 bytes, and what is around it, may have.
    assert budget.micros - 30 <= tally.cost_micros <= budget.micros
    assert "the labels made are kept" in str(purse.exceeded())


async def test_a_budget_that_suffices_is_not_noticed() -> None:
    purse = Purse(form_price(None, "1.00", "USD"), Money.parse("1"), prompt_bytes=0)
    stream = RowStream(ask_scrambled, purse, Tally(40, currency="USD"), lambda _: None)
    assert len(await collect(stream, make_chunks(10))) == 40
    assert not stream.out_of_budget
