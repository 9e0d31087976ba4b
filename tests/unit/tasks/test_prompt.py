"""Prompts and the choices' tokens, on small tokenizers of the kinds that matter."""

import pytest
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE, WordLevel
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from isocost.core.errors import InvalidArgumentError
from isocost.resources.task import Task
from isocost.tasks.prompt import FewShotExample, PromptEncoder, choice_token_ids

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


def metaspace() -> PreTrainedTokenizerFast:
    """As Llama 2's: a leading space becomes a token of its own."""
    vocabulary = {token: index for index, token in enumerate(["<unk>", "▁", "y", "n", "o", "▁y", "▁n", "e", "s"])}
    tokenizer = Tokenizer(BPE(vocabulary, [("▁", "y"), ("▁", "n")], unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


def words(ids: list[int]) -> list[str]:
    return [WORDS[token] for token in ids]


def test_choice_is_its_first_token() -> None:
    assert choice_token_ids(word_level(), ("no", " yes ")) == (WORDS.index("no"), WORDS.index("yes"))


def test_space_that_is_a_token_of_its_own_is_skipped() -> None:
    tokenizer = metaspace()
    assert tokenizer.tokenize(" no")[0] == "▁", "the case this test is about"
    ids = choice_token_ids(tokenizer, ("no", "yes"))
    assert tokenizer.convert_ids_to_tokens(ids) == ["▁n", "▁y"]


def test_colliding_choices_are_named() -> None:
    tokenizer = metaspace()
    with pytest.raises(InvalidArgumentError, match="'no' and 'nse' begin with the same token") as caught:
        choice_token_ids(tokenizer, ("no", "nse"))
    assert caught.value.field == "task.choices"


def test_choice_outside_the_vocabulary_is_named() -> None:
    with pytest.raises(InvalidArgumentError, match="'green' is not in the model's vocabulary"):
        choice_token_ids(word_level(), ("no", "green"))


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
