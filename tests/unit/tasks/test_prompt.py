"""Prompts: what stands where."""

import pytest
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from isocost.core.errors import InvalidArgumentError
from isocost.resources.task import Task
from isocost.tasks.prompt import FewShotExample, PromptEncoder

WORDS = ["<pad>", "<bos>", "<eos>", "<unk>", "is", "red", "blue", "?", "yes", "no", "yes-man"]
TASK = Task("colour", "is {word} ?", ("no", "yes"))
BOS, EOS = 1, 2


def word_level(template: str = "<bos> $A") -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = TemplateProcessing(single=template, special_tokens=[("<bos>", BOS), ("<eos>", EOS)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>"
    )


def words(ids: list[int]) -> list[str]:
    return [WORDS[token] for token in ids]


def test_prompt_without_examples_is_the_question_as_the_tokenizer_marks_it() -> None:
    encoder = PromptEncoder(word_level(), TASK, max_tokens=10)
    assert words(encoder.encode({"word": "red"})) == ["<bos>", "is", "red", "?"]


def test_block_comes_first_once_with_one_beginning() -> None:
    examples = [FewShotExample({"word": "red"}, 1), FewShotExample({"word": "blue"}, 0)]
    encoder = PromptEncoder(word_level(), TASK, examples, max_tokens=20)
    block = ["<bos>", "is", "red", "?", "yes", "is", "blue", "?", "no"]
    assert words(list(encoder.prefix)) == block
    assert words(encoder.encode({"word": "red"})) == [*block, "is", "red", "?"]


def test_end_marker_does_not_stand_between_block_and_item() -> None:
    encoder = PromptEncoder(word_level("<bos> $A <eos>"), TASK, [FewShotExample({"word": "red"}, 1)], max_tokens=20)
    assert words(encoder.encode({"word": "blue"})) == ["<bos>", "is", "red", "?", "yes", "is", "blue", "?"]


def test_longest_prompt_is_accepted_and_one_more_token_is_not() -> None:
    fields = {"word": "red"}
    assert len(PromptEncoder(word_level(), TASK, max_tokens=4).encode(fields)) == 4
    with pytest.raises(InvalidArgumentError, match="has 4 tokens, more than the model's 3"):
        PromptEncoder(word_level(), TASK, max_tokens=3).encode(fields)


def test_missing_field_of_an_item_is_named() -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        PromptEncoder(word_level(), TASK, max_tokens=9).encode({"wort": "red"})
    assert caught.value.field == "fields.word"


@pytest.mark.parametrize(
    ("example", "field"),
    [
        (FewShotExample({"word": "red"}, 2), "few_shot_examples[1].choice"),
        (FewShotExample({"word": "red"}, -1), "few_shot_examples[1].choice"),
        (FewShotExample({"wort": "red"}, 0), "few_shot_examples[1].fields.word"),
    ],
)
def test_bad_example_is_named(example: FewShotExample, field: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        PromptEncoder(word_level(), TASK, [FewShotExample({"word": "red"}, 1), example], max_tokens=99)
    assert caught.value.field == field


def test_block_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="the block alone has 5 tokens") as caught:
        PromptEncoder(word_level(), TASK, [FewShotExample({"word": "red"}, 1)], max_tokens=5)
    assert caught.value.field == "few_shot_examples"


def test_spaces_at_the_end_of_a_question_are_dropped_and_a_lead_ends_the_prompt() -> None:
    spaced = Task("colour", "is {word} ?  ", ("no", "yes"))
    encoder = PromptEncoder(word_level(), spaced, max_tokens=10, lead=[WORDS.index("?")])
    assert words(encoder.encode({"word": "red"})) == ["<bos>", "is", "red", "?", "?"]


def test_block_puts_answers_where_the_question_leaves_room_for_them() -> None:
    class Recorder:
        unk_token_id = None

        def encode(self, text: str, **_: object) -> list[int]:
            texts.append(text)
            return [0]

    texts: list[str] = []
    PromptEncoder(
        Recorder(), Task("t", "is {word}?\nA: ", ("no", "yes")), [FewShotExample({"word": "x"}, 1)], max_tokens=9
    )
    PromptEncoder(
        Recorder(), Task("t", "is {word}?\n", ("no", "yes")), [FewShotExample({"word": "x"}, 1)], max_tokens=9
    )
    assert texts[0] == "is x?\nA: yes\n"
    assert texts[2] == "is x?\nyes\n"
