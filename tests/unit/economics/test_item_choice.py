from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import entropy as scipy_entropy

from isocost.economics.item_choice import Floats, cost_aware_items, error_by_stratum, predictive_entropy, spread

NOBODY = np.empty((0, 2))


def _rows(yes: Floats) -> Floats:
    return np.column_stack([1 - yes, yes])


@st.composite
def predictions(draw: st.DrawFn) -> Floats:
    n_items, n_choices = draw(st.integers(1, 60)), draw(st.integers(2, 4))
    raw = draw(arrays(np.float64, (n_items, n_choices), elements=st.floats(0.001, 1)))
    rows: Floats = raw / raw.sum(axis=1, keepdims=True)
    return rows


@given(predictions())
def test_entropy_is_that_of_scipy(rows: Floats) -> None:
    assert predictive_entropy(rows) == pytest.approx(scipy_entropy(rows, axis=1), abs=1e-12)


def test_entropy_of_a_certain_prediction_is_none() -> None:
    assert predictive_entropy(np.array([[1.0, 0.0], [0.5, 0.5]])).tolist() == pytest.approx([0, math.log(2)])


@given(predictions(), st.data())
def test_so_many_different_items_are_taken_whatever_their_order(rows: Floats, data: st.DataObject) -> None:
    n_items, n_choices = rows.shape
    ids = [f"i{index}" for index in range(n_items)]
    n_taken = data.draw(st.integers(0, n_items))
    answered = data.draw(st.lists(st.integers(0, n_choices - 1), max_size=n_items))
    known = {"answered_probabilities": rows[: len(answered)], "answered_choices": answered}
    taken = cost_aware_items(ids, rows, n_taken, **known)  # type: ignore[arg-type]
    assert len(set(taken)) == len(taken) == n_taken
    assert set(taken) <= set(ids)
    order = data.draw(st.permutations(range(n_items)))
    again = cost_aware_items([ids[index] for index in order], rows[order], n_taken, **known)  # type: ignore[arg-type]
    assert again == taken


def test_more_items_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="3 items are asked for, and 2 are free"):
        cost_aware_items(["a", "b"], _rows(np.array([0.1, 0.9])), 3, answered_probabilities=NOBODY, answered_choices=[])


@given(
    st.lists(st.tuples(st.integers(0, 50), st.floats(0, 1)), min_size=1, max_size=8).filter(
        lambda strata: any(size for size, _ in strata)
    ),
    st.data(),
)
def test_labels_are_spread_whole_and_half_of_them_by_size(strata: list[tuple[int, float]], data: st.DataObject) -> None:
    sizes = np.array([size for size, _ in strata])
    worth = np.array([value for _, value in strata])
    n_labels = data.draw(st.integers(0, int(sizes.sum())))
    quota = spread(n_labels, sizes, worth)
    assert quota.sum() == n_labels
    assert ((quota >= 0) & (quota <= sizes)).all()
    assert (quota >= np.floor(0.5 * n_labels * sizes / sizes.sum())).all()


def test_of_two_equal_strata_the_one_with_more_error_gets_more() -> None:
    quota = spread(40, np.array([100, 100]), np.array([0.1, 0.3]))
    # Half of them evenly, of the other half three for one.
    assert quota.tolist() == [15, 25]
    assert spread(40, np.array([100, 100]), np.array([0.0, 0.0])).tolist() == [20, 20]
    assert spread(150, np.array([100, 60]), np.array([0.0, 1.0])).tolist() == [90, 60]


def test_error_is_measured_where_people_answered_and_the_models_claim_elsewhere() -> None:
    # Two strata of the first choice, one of the second.
    claimed, stratum = np.full(30, 0.1), np.repeat([0, 1, 3], 10)
    nobody, nothing = np.empty(0, dtype=int), np.empty(0)
    none = error_by_stratum(claimed, stratum, nothing, nobody, nothing, 2)
    assert none.tolist() == pytest.approx([0.1, 0.1, 0.0, 0.1, 0.0, 0.0])
    # Forty answers in the first stratum, thirty of them wrong: the model is far too sure of this choice.
    wrong = np.array([1.0] * 30 + [0.0] * 10)
    error = error_by_stratum(claimed, stratum, np.full(40, 0.1), np.zeros(40, dtype=int), wrong, 2)
    prior = 0.1 * (30 + 0.4) / (4 + 0.4)
    assert error.tolist() == pytest.approx([(30 + 4 * prior) / 44, prior, 0.0, 0.1, 0.0, 0.0])


def test_labels_go_where_people_found_the_model_wrong_though_it_does_not_doubt_there() -> None:
    """Systematic errors: the model is surer of "yes", and always wrong there."""
    draw = np.random.default_rng(0)
    yes = np.concatenate([draw.uniform(0.95, 0.99, 300), draw.uniform(0.2, 0.4, 300)])
    ids = [f"i{index}" for index in range(600)]
    answered = _rows(np.concatenate([draw.uniform(0.95, 0.99, 12), draw.uniform(0.2, 0.4, 12)]))
    taken = cost_aware_items(ids, _rows(yes), 60, answered_probabilities=answered, answered_choices=[0] * 24)
    n_yes = sum(int(item_id[1:]) < 300 for item_id in taken)
    assert n_yes >= 40
    # The rest is not left out, and each prefix is a sample of the whole.
    assert 60 - n_yes >= 14
    n_yes_first = sum(int(item_id[1:]) < 300 for item_id in taken[:30])
    assert 14 <= n_yes_first <= 29
    # Within a stratum they are not the most uncertain ones.
    doubts = predictive_entropy(_rows(yes))[[int(item_id[1:]) for item_id in taken if int(item_id[1:]) < 300]]
    most = np.sort(predictive_entropy(_rows(yes))[:300])[-len(doubts) :]
    assert doubts.mean() < most.mean()
