"""The choices' tokens, with real tokenizers of the kinds that language models have, and their tree."""

import hashlib
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE, WordLevel
from transformers import PreTrainedTokenizerFast

from isocost.core.errors import InvalidArgumentError
from isocost.resources.task import Task
from isocost.tasks.choices import ChoiceTree, choice_token_ids
from isocost.tasks.prompt import PromptEncoder
from tests.unit.tasks.tokenizers_of_all_kinds import KINDS, build_tokenizer

N_VOCABULARY = 6


@pytest.fixture(params=sorted(KINDS), scope="module")
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return build_tokenizer(request.param, tmp_path_factory.mktemp("kinds") / request.param)


def task(template: str, *choices: str) -> Task:
    return Task("t", template, choices)


@pytest.mark.parametrize("template", ["{a} Answer:", "{a}\nAnswer: ", "{a}\nAnswer:\n", "Answer {a}", "Answer {a} "])
def test_answers_are_cut_as_they_are_in_the_whole_text(tokenizer: Any, template: str) -> None:
    """A prompt and a choice's path are the first tokens of the text that a person would write."""
    choices = ("yes", "no", "very good", "very bad", "none", "no idea")
    asked = task(template, *choices)
    tree = ChoiceTree.build(tokenizer, asked)
    encoder = PromptEncoder(tokenizer, asked, max_tokens=999, lead=tree.lead)
    prompt = encoder.encode({"a": "is it good?"})
    question = template.format(a="is it good?").rstrip(" ")
    for choice, path in zip(choices, tree.paths, strict=True):
        text = f"{question}{choice}" if template.endswith("\n") else f"{question} {choice}"
        whole = tokenizer.encode(text)
        assert whole[: len(prompt) + len(path)] == [*prompt, *path]


def test_choices_that_differ_from_the_start_take_one_pass(tokenizer: Any) -> None:
    asked = task("{a} Answer:", "no", "yes")
    tree = ChoiceTree.build(tokenizer, asked)
    (one,) = tree.passes
    assert one.suffix == ()
    assert one.token_ids == tuple(path[0] for path in tree.paths) == choice_token_ids(tokenizer, asked)
    assert tree.log_probabilities([(-1.0, -2.0)]) == (-1.0, -2.0)


def test_shared_beginnings_take_a_pass_each(tokenizer: Any) -> None:
    asked = task("{a} Answer:", "very good", "very bad", "no", "no idea")
    tree = ChoiceTree.build(tokenizer, asked)
    very, no = tree.paths[0][0], tree.paths[2][0]
    assert tree.paths[2] == (no,)
    assert {one.suffix for one in tree.passes} == {(), (very,), (no,)}
    with pytest.raises(InvalidArgumentError, match="begin with the same token") as caught:
        choice_token_ids(tokenizer, asked)
    assert caught.value.field == "task.choices"


def test_choices_of_the_same_tokens_are_named(tokenizer: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="'no' and ' no' are the same tokens"):
        ChoiceTree.build(tokenizer, task("{a} Answer:", "yes", "no", " no"))


def letters() -> PreTrainedTokenizerFast:
    """A tokenizer that writes the space as a token of its own, and every letter as one."""
    vocabulary = {token: index for index, token in enumerate(["<unk>", "▁", "y", "n", "o", "e", "s", ":"])}
    made = Tokenizer(BPE(vocabulary, [], unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="never")
    made.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="never")
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>")


def test_space_of_its_own_belongs_to_the_prompt() -> None:
    tokenizer = letters()
    asked = task("{a} :", "no", "yes")
    tree = ChoiceTree.build(tokenizer, asked)
    assert tokenizer.convert_ids_to_tokens(list(tree.lead)) == ["▁"]
    assert tokenizer.convert_ids_to_tokens(list(choice_token_ids(tokenizer, asked))) == ["n", "y"]
    prompt = PromptEncoder(tokenizer, asked, max_tokens=99, lead=tree.lead).encode({"a": "no"})
    assert tokenizer.convert_ids_to_tokens(prompt) == ["n", "o", "▁", ":", "▁"]


def test_choice_outside_the_vocabulary_is_named() -> None:
    made = Tokenizer(WordLevel({"<unk>": 0, "no": 1, "yes": 2, "?": 3}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>")
    assert ChoiceTree.build(tokenizer, task("{a} ?", "no", " yes ")).paths == ((1,), (2,))
    with pytest.raises(InvalidArgumentError, match="'green' is not in the model's vocabulary"):
        ChoiceTree.build(tokenizer, task("{a} ?", "no", "green"))


def next_token(sequence: tuple[int, ...]) -> list[float]:
    """A distribution that depends on all tokens so far: a model of six tokens."""
    digest = hashlib.sha256(repr(sequence).encode()).digest()
    weights = [1 + byte for byte in digest[:N_VOCABULARY]]
    return [weight / sum(weights) for weight in weights]


def read(tree: ChoiceTree, model: Callable[[tuple[int, ...]], list[float]] = next_token) -> tuple[float, ...]:
    answers = [[math.log(model(one.suffix)[token]) for token in one.token_ids] for one in tree.passes]
    return tuple(math.exp(value) for value in tree.log_probabilities(answers))


def make_tree(whole: list[tuple[int, ...]]) -> ChoiceTree:
    class Identity:
        """Tokens are digits."""

        unk_token_id = None

        def encode(self, text: str, **_: object) -> list[int]:
            return [int(letter) for letter in text if letter.isdigit()]

        def decode(self, tokens: list[int]) -> str:
            return str(tokens)

    return ChoiceTree.build(Identity(), task("{a}", *("".join(map(str, path)) for path in whole)))


paths = st.lists(st.integers(0, N_VOCABULARY - 1), min_size=1, max_size=4).map(tuple)


@given(st.lists(paths, min_size=2, max_size=6, unique=True))
def test_probabilities_are_products_along_the_paths(whole: list[tuple[int, ...]]) -> None:
    tree = make_tree(whole)
    got = read(tree)
    for path, value in zip(tree.paths, got, strict=True):
        expected = math.prod(next_token(path[:length])[token] for length, token in enumerate(path))
        goes_on = {other[len(path)] for other in tree.paths if len(other) > len(path) and other[: len(path)] == path}
        # A choice that others begin with has what they leave over.
        expected *= 1 - sum(next_token(path)[token] for token in goes_on)
        assert value == pytest.approx(expected, abs=1e-9)
    assert sum(got) <= 1 + 1e-9


@given(st.lists(paths, min_size=2, max_size=6, unique=True))
def test_paths_are_the_shortest_that_tell_choices_apart(whole: list[tuple[int, ...]]) -> None:
    tree = make_tree(whole)
    assert len(set(tree.paths)) == len(whole)
    for original, path in zip(whole, tree.paths, strict=True):
        assert original[: len(path)] == path
        if len(path) > 1:
            assert sum(other[: len(path) - 1] == path[:-1] for other in whole) > 1
    # Each pass is needed: several choices go through it, or one ends where another goes on.
    for one in tree.passes:
        assert sum(path[: len(one.suffix)] == one.suffix for path in tree.paths) > 1
        assert len(set(one.token_ids)) == len(one.token_ids)
