from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from isocost.core.errors import InvalidArgumentError
from isocost.resources.label import one_hot
from isocost.resources.run import Example
from isocost.resources.task import Task
from isocost.trainer.models.inputs import Prompts, TokenInputs
from isocost.trainer.models.prediction import batches_by_length
from tests.integration.trainer.weather import make_tokenizer

TASK = Task("weather", "text : {text} answer :", ("yes", "no"))


def _example(item_id: str, text: str, choice: int = 0) -> Example:
    return Example(item_id, {"text": text}, one_hot(choice, 2))


@pytest.mark.parametrize("pad_left", [True, False])
def test_batches_are_padded_on_the_side_asked_for(pad_left: bool) -> None:
    inputs = TokenInputs([[5, 6], [7, 8, 9], [4]], pad_id=0, pad_left=pad_left)
    batch = inputs.batch([2, 1])
    assert batch["input_ids"].tolist() == ([[0, 0, 4], [7, 8, 9]] if pad_left else [[4, 0, 0], [7, 8, 9]])
    assert batch["attention_mask"].tolist() == ([[0, 0, 1], [1, 1, 1]] if pad_left else [[1, 0, 0], [1, 1, 1]])
    assert inputs.batch([1, 1]).keys() == {"input_ids"}


def test_batches_by_length_hold_every_row_once_within_the_limit() -> None:
    lengths = np.random.default_rng(0).integers(1, 50, size=200)
    batches = batches_by_length(lengths, 120)
    assert sorted(row for batch in batches for row in batch) == list(range(200))
    assert max(len(batch) * lengths[batch].max() for batch in batches) <= 120
    assert len(batches) < 1.3 * lengths.sum() / 120 + 2


def test_a_text_longer_than_a_batch_is_a_batch_of_its_own() -> None:
    assert batches_by_length(np.array([3, 500, 3]), 10) == [[1], [0, 2]]


def test_the_few_shot_block_comes_first_and_never_shows_the_items_own_answer() -> None:
    tokenizer = make_tokenizer(encoder=False)
    block = [_example("a", "sun w1", 0), _example("b", "rain w2", 1)]
    prompts = Prompts(tokenizer, TASK, block, max_tokens=64)
    shown = [tokenizer.decode(ids) for ids in prompts.encode([_example("c", "w3"), *block])]
    assert shown == [
        "<bos> text : sun w1 answer : yes text : rain w2 answer : no text : w3 answer :",
        "<bos> text : rain w2 answer : no text : sun w1 answer :",
        "<bos> text : sun w1 answer : yes text : rain w2 answer :",
    ]


def test_a_prompt_longer_than_the_context_names_its_item(tmp_path: Path) -> None:
    prompts = Prompts(make_tokenizer(encoder=False), TASK, [], max_tokens=8)
    prompts.encode([_example("short", "w1 w2 w3")])
    with pytest.raises(InvalidArgumentError, match="item 'long': the prompt has 9 tokens, more than the model's 8"):
        prompts.encode([_example("short", "w1"), _example("long", "w1 w2 w3 w4")])
