"""Choice probabilities from what an API tells of an answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocost.resources.task import Task
from isocost.trainer.fine_tuning.answer import AnswerReader
from isocost.trainer.fine_tuning.api import TokenChoice, TokenChoices


def _reader(*choices: str) -> AnswerReader:
    return AnswerReader(Task("task", "{text}", choices))


def _place(chosen: str, shares: Mapping[str, float]) -> TokenChoices:
    return TokenChoices(
        chosen.encode(), tuple(TokenChoice(text.encode(), math.log(share)) for text, share in shares.items())
    )


def _read(reader: AnswerReader, *places: TokenChoices) -> list[float]:
    probabilities = reader.probabilities(places)
    assert probabilities is not None
    assert sum(probabilities) == pytest.approx(1.0)
    return list(probabilities)


@pytest.mark.parametrize(
    ("choices", "n_tokens_max"),
    [
        (("yes", "no"), 1),
        (("very good", "very bad"), 6),
        (("1", "10"), 2),
        (("Yes", "yes"), 1),
        (("Yes", "yesterday"), 4),
        (("是", "否"), 1),
    ],
)
def test_as_many_tokens_as_may_be_shared_and_one(choices: tuple[str, ...], n_tokens_max: int) -> None:
    assert _reader(*choices).n_tokens_max == n_tokens_max


def test_all_spellings_of_a_choice_count() -> None:
    place = _place("Yes", {"Yes": 0.4, " yes": 0.1, "no": 0.2, "N": 0.05, "YES": 0.05, "yes.": 0.1, "maybe": 0.1})
    assert _read(_reader("yes", "no"), place) == pytest.approx([0.55 / 0.8, 0.25 / 0.8])


def test_case_counts_where_choices_differ_by_it() -> None:
    assert _read(_reader("Yes", "yes"), _place("Yes", {"Yes": 0.6, "yes": 0.3})) == pytest.approx([2 / 3, 1 / 3])


def test_a_choice_that_is_not_shown_has_the_least_that_is_shown_at_most() -> None:
    # 0.30 is left over, but a token of more than 0.1 would be shown.
    place = _place("yes", {"yes": 0.5, "The": 0.1, "A": 0.1})
    assert _read(_reader("yes", "no"), place) == pytest.approx([0.5 / 0.6, 0.1 / 0.6])


def test_choices_that_are_not_shown_have_equal_parts_of_what_is_left() -> None:
    place = _place("yes", {"yes": 0.9, "The": 0.08})
    assert _read(_reader("yes", "no", "maybe"), place) == pytest.approx([0.9 / 0.92, 0.01 / 0.92, 0.01 / 0.92])


def test_no_choice_is_impossible() -> None:
    first, second = _read(
        _reader("yes", "no"), TokenChoices(b"yes", (TokenChoice(b"yes", 0.0), TokenChoice(b"no", -9999.0)))
    )
    assert first == pytest.approx(1.0)
    assert 0 < second < 1e-8


@pytest.mark.parametrize("places", [(), (_place("The", {"The": 0.9, " ": 0.1}),)])
def test_nothing_is_known_where_no_choice_is_seen(places: Sequence[TokenChoices]) -> None:
    assert _reader("yes", "no").probabilities(places) is None


def test_a_beginning_that_choices_share_is_told_apart_by_the_next_place() -> None:
    places = (_place("very", {"very": 0.8, "so": 0.2}), _place(" good", {" good": 0.75, " bad": 0.25}))
    assert _read(_reader("very good", "very bad", "so so"), *places) == pytest.approx([0.6, 0.2, 0.2])


def test_a_shared_beginning_that_the_model_did_not_go_on_from_is_shared_equally() -> None:
    place = _place("so", {"very": 0.2, "so": 0.8})
    assert _read(_reader("very good", "very bad", "so so"), place) == pytest.approx([0.1, 0.1, 0.8])


def test_a_choice_that_begins_another_has_the_rest() -> None:
    reader = _reader("no", "no idea", "yes")
    places = (_place("no", {"no": 0.8, "yes": 0.2}), _place(" idea", {" idea": 0.6, ".": 0.1}))
    assert _read(reader, *places) == pytest.approx([0.8 * 0.4, 0.8 * 0.6, 0.2])
    # Where the answer ended there, or went another way, it is what was spelt out.
    assert _read(reader, places[0])[0] == pytest.approx(0.8, abs=1e-6)


def test_white_space_before_the_answer_is_passed_over() -> None:
    places = (_place("\n", {"\n": 0.9, "yes": 0.06, "no": 0.04}), _place("no", {"no": 0.7, "yes": 0.3}))
    assert _read(_reader("yes", "no"), *places) == pytest.approx([0.33, 0.67])


def test_parts_of_a_character_are_read_as_bytes() -> None:
    first, second = "是".encode(), "否".encode()
    place = TokenChoices(first[:2], (TokenChoice(first[:2], math.log(0.7)), TokenChoice(second[:1], math.log(0.3))))
    assert _read(_reader("是", "否"), place) == pytest.approx([0.7, 0.3])


@given(
    st.lists(st.text("abc ", min_size=1, max_size=6).filter(str.strip), min_size=2, max_size=5, unique_by=str.strip),
    st.data(),
)
def test_whatever_is_told_probabilities_are_a_distribution(choices: list[str], data: st.DataObject) -> None:
    reader = _reader(*choices)
    places = []
    for _ in range(data.draw(st.integers(1, reader.n_tokens_max))):
        tokens = data.draw(st.lists(st.text("abcABC x", min_size=1, max_size=3), min_size=1, max_size=20, unique=True))
        weights = data.draw(st.lists(st.floats(1e-6, 1), min_size=len(tokens), max_size=len(tokens)))
        total = sum(weights) * data.draw(st.floats(1.0, 2.0))
        shares = {text: weight / total for text, weight in zip(tokens, weights, strict=True)}
        places.append(_place(data.draw(st.sampled_from(tokens)), shares))
    probabilities = reader.probabilities(places)
    if probabilities is not None:
        assert len(probabilities) == len(choices)
        assert min(probabilities) > 0
        assert sum(probabilities) == pytest.approx(1.0)


@given(st.lists(st.floats(0.01, 1), min_size=4, max_size=4), st.floats(0, 0.5))
def test_along_the_answer_the_exact_distribution_is_found(weights: list[float], other: float) -> None:
    """Four choices of two tokens each, of which the model spells out the most probable: those two that begin as the
    answer does are exact, and so is the sum of the others."""
    choices = ("a x", "a y", "b x", "b y")
    scale = (1 - other) / sum(weights)
    p = dict(zip(choices, (weight * scale for weight in weights), strict=True))
    heads = {head: p[f"{head} x"] + p[f"{head} y"] for head in ("a", "b")}
    head = max(heads, key=lambda one: heads[one])
    tails = {f" {tail}": p[f"{head} {tail}"] / heads[head] for tail in ("x", "y")}
    answer = (_place(head, heads), _place(max(tails, key=lambda one: tails[one]), tails))
    found = dict(zip(choices, _read(_reader(*choices), *answer), strict=True))
    total = sum(p.values())
    for tail in ("x", "y"):
        assert found[f"{head} {tail}"] == pytest.approx(p[f"{head} {tail}"] / total, abs=1e-7)
    left_out = "b" if head == "a" else "a"
    assert found[f"{left_out} x"] + found[f"{left_out} y"] == pytest.approx(heads[left_out] / total, abs=1e-7)
