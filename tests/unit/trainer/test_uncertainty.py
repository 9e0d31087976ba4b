from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy

from isocost.trainer.stages.uncertainty import most_uncertain


def _probabilities(n_items: int, n_choices: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(n_choices), n_items)


@given(st.integers(1, 30), st.integers(2, 5), st.integers(0, 1000), st.data())
def test_the_chosen_are_those_of_highest_entropy_and_nested(
    n_items: int, n_choices: int, seed: int, data: st.DataObject
) -> None:
    n_given = data.draw(st.integers(0, n_items))
    n_chosen = data.draw(st.integers(n_given, n_items))
    probabilities_nc = _probabilities(n_items, n_choices, seed)
    chosen = most_uncertain(probabilities_nc, n_chosen, n_given)
    assert len(set(chosen)) == n_chosen
    assert chosen[:n_given] == list(range(n_given))
    entropy_n = entropy(probabilities_nc, axis=-1)
    left = sorted(set(range(n_items)) - set(chosen))
    if left and chosen[n_given:]:
        assert entropy_n[chosen[n_given:]].min() >= entropy_n[left].max()
    if n_chosen < n_items:
        assert most_uncertain(probabilities_nc, n_chosen + 1, n_given)[:n_chosen] == chosen


def test_certain_answers_have_no_entropy() -> None:
    probabilities_nc = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [0.9, 0.1]])
    assert most_uncertain(probabilities_nc, 3) == [1, 3, 0]
