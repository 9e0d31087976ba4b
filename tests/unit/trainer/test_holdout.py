from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocost.resources.label import one_hot
from isocost.resources.run import Example
from isocost.trainer.stages.holdout import split_holdout


def _examples(choices: list[int], n_choices: int = 2) -> list[Example]:
    return [Example(f"i{k}", {"t": ""}, one_hot(choice, n_choices)) for k, choice in enumerate(choices)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n", [4, 5, 8, 10, 33, 100])
def test_the_sides_are_disjoint_whole_and_of_the_stated_size(n: int, seed: int) -> None:
    split = split_holdout(_examples([k % 2 for k in range(n)]), 0.2, seed)
    assert sorted(split.train + split.holdout) == list(range(n))
    assert len(split.holdout) == max(2, round(0.2 * n))
    assert len(split.train) >= 2


@pytest.mark.parametrize("n", [1, 2, 3])
def test_with_fewer_than_four_labels_none_is_held_out(n: int) -> None:
    split = split_holdout(_examples([0] * n), 0.2, 0)
    assert (split.train, split.holdout) == (tuple(range(n)), ())


def test_a_large_fraction_still_leaves_two_to_train_on() -> None:
    assert len(split_holdout(_examples([0, 1] * 5), 0.99, 0).train) == 2


def test_the_seed_decides() -> None:
    examples = _examples([0, 1] * 20)
    assert split_holdout(examples, 0.2, 3) == split_holdout(examples, 0.2, 3)
    assert len({split_holdout(examples, 0.2, seed).holdout for seed in range(10)}) > 5


@pytest.mark.parametrize("seed", range(10))
def test_a_rare_choice_is_on_both_sides(seed: int) -> None:
    examples = _examples([0] * 14 + [1, 1])
    split = split_holdout(examples, 0.2, seed)
    assert {examples[row].choice for row in split.holdout} == {0, 1}
    assert {examples[row].choice for row in split.train} == {0, 1}


def test_the_choices_keep_their_shares() -> None:
    examples = _examples([0] * 50 + [1] * 30 + [2] * 20, 3)
    held_out = [examples[row].choice for row in split_holdout(examples, 0.2, 0).holdout]
    assert [held_out.count(choice) for choice in range(3)] == [10, 6, 4]


def test_the_labels_of_one_item_stay_together() -> None:
    examples = [Example(f"i{k // 3}", {"t": ""}, one_hot(k % 2, 2)) for k in range(60)]
    split = split_holdout(examples, 0.2, 0)
    assert not {examples[row].item_id for row in split.train} & {examples[row].item_id for row in split.holdout}
    assert len(split.holdout) == 12


def test_at_random_the_choices_are_not_balanced() -> None:
    examples = _examples([0, 1] * 50)
    shares = {sum(row % 2 for row in split_holdout(examples, 0.2, seed, by_choice=False).holdout) for seed in range(20)}
    assert len(shares) > 1
    assert {sum(row % 2 for row in split_holdout(examples, 0.2, seed).holdout) for seed in range(20)} == {10}


@given(st.integers(0, 200), st.integers(8, 60), st.booleans())
def test_one_more_label_moves_hardly_any_other(seed: int, n_examples: int, by_choice: bool) -> None:
    examples = _examples([k % 3 % 2 for k in range(n_examples + 1)])
    fewer = split_holdout(examples[:-1], 0.2, seed, by_choice=by_choice)
    more = split_holdout(examples, 0.2, seed, by_choice=by_choice)
    assert len(set(fewer.holdout) ^ (set(more.holdout) - {n_examples})) <= 3
