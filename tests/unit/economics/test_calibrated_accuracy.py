from __future__ import annotations

from itertools import permutations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocost.economics.calibrated_accuracy import calibrated_accuracy, match_counts

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def _binary(scores: Floats) -> Floats:
    return np.stack([1 - scores, scores], axis=1)


def _draw(n: int, n_choices: int, seed: int, *, bias: float = 1.0) -> tuple[Ints, Floats]:
    """Items of unequal choices, and a model that knows something and favours the first choices."""
    draw = np.random.default_rng(seed)
    weights = np.arange(1, n_choices + 1)
    choices = draw.choice(n_choices, size=n, p=weights / weights.sum())
    logits = draw.normal(size=(n, n_choices)) + 1.5 * np.eye(n_choices)[choices]
    logits += bias * np.arange(n_choices)[::-1]
    odds = np.exp(logits)
    return choices, odds / odds.sum(axis=1, keepdims=True)


def test_a_model_that_ranks_rightly_but_finds_all_claims_true_is_right_once_calibrated() -> None:
    choices = np.array([0, 0, 0, 1, 1])
    probabilities = _binary(np.array([0.91, 0.92, 0.93, 0.94, 0.95]))
    assert (probabilities.argmax(axis=1) == choices).mean() == 0.4
    assert calibrated_accuracy(choices, probabilities)[0] == 1.0


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 999_999)), min_size=1, max_size=40, unique_by=lambda x: x[1]))
def test_of_distinct_scores_as_many_get_a_choice_as_have_it(items: list[tuple[bool, int]]) -> None:
    choices = np.array([second for second, _ in items], dtype=np.int64)
    scores = np.array([score / 1_000_000 for _, score in items])
    predicted = np.zeros(len(items), dtype=np.int64)
    predicted[np.argsort(-scores)[: choices.sum()]] = 1
    # The highest, as many as have the second choice: then the numbers of either choice agree.
    assert np.bincount(predicted, minlength=2).tolist() == np.bincount(choices, minlength=2).tolist()
    assert calibrated_accuracy(choices, _binary(scores))[0] == pytest.approx((predicted == choices).mean(), abs=1e-12)


def test_ties_count_by_expectation_over_every_order_of_theirs() -> None:
    choices = np.array([1, 0, 0, 1, 0, 1])
    scores = np.array([0.9, 0.6, 0.6, 0.6, 0.6, 0.2])
    tied = np.flatnonzero(scores == 0.6)
    accuracies = []
    for order in permutations(tied.tolist()):
        predicted = np.zeros(6, dtype=np.int64)
        predicted[[0, *order[:2]]] = 1
        accuracies.append((predicted == choices).mean())
    assert calibrated_accuracy(choices, _binary(scores))[0] == pytest.approx(np.mean(accuracies), abs=1e-12)


def test_nothing_known_is_the_accuracy_of_drawing_from_the_labels() -> None:
    choices = np.array([1] * 3 + [0] * 7)
    assert calibrated_accuracy(choices, np.full((10, 2), 0.5))[0] == pytest.approx(0.3**2 + 0.7**2)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("n_choices", [3, 4, 7])
def test_more_choices_get_their_numbers_by_offsets_alone(n_choices: int, seed: int) -> None:
    choices, probabilities = _draw(300, n_choices, seed)
    counts = np.bincount(choices, minlength=n_choices)
    scores = np.log(probabilities)
    assert np.bincount(scores.argmax(axis=1), minlength=n_choices).tolist() != counts.tolist()
    given_nc, offsets = match_counts(scores, counts)
    chosen = given_nc.argmax(axis=1)
    assert set(np.unique(given_nc)) == {0.0, 1.0}
    assert np.bincount(chosen, minlength=n_choices).tolist() == counts.tolist()
    assert ((scores + offsets).argmax(axis=1) == chosen).all()
    assert calibrated_accuracy(choices, probabilities)[0] == (chosen == choices).mean()


def test_the_offsets_give_the_most_probable_of_all_assignments_with_these_numbers() -> None:
    from scipy.optimize import linear_sum_assignment

    choices, probabilities = _draw(60, 3, 2)
    scores, counts = np.log(probabilities), np.bincount(choices, minlength=3)
    chosen = match_counts(scores, counts)[0].argmax(axis=1)
    rows, seats = linear_sum_assignment(np.repeat(scores, counts, axis=1), maximize=True)
    best = np.repeat(scores, counts, axis=1)[rows, seats].sum()
    assert scores[np.arange(60), chosen].sum() == pytest.approx(best, abs=1e-9)


def test_two_choices_by_offsets_agree_with_the_quantile() -> None:
    choices, probabilities = _draw(200, 2, 0)
    chosen = match_counts(np.log(probabilities), np.bincount(choices, minlength=2))[0].argmax(axis=1)
    assert calibrated_accuracy(choices, probabilities)[0] == pytest.approx((chosen == choices).mean(), abs=1e-12)


def test_ties_of_more_choices_count_by_expectation() -> None:
    # Nothing is known: 2, 4 and 1 of 7 items, chosen blindly.
    choices = np.array([0, 0, 1, 1, 1, 1, 2])
    assert calibrated_accuracy(choices, np.full((7, 3), 1 / 3))[0] == pytest.approx((4 + 16 + 1) / 49)
    # Known for all but two items, which share a choice of either kind.
    probabilities = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.4, 0.4, 0.2], [0.4, 0.4, 0.2]])
    assert calibrated_accuracy(np.array([0, 1, 2, 0, 1]), probabilities)[0] == pytest.approx((3 + 1) / 5)


@pytest.mark.parametrize("n_choices", [2, 3])
def test_a_choice_that_no_item_has_is_never_given(n_choices: int) -> None:
    choices, probabilities = _draw(50, n_choices + 1, 0)
    choices = np.minimum(choices, n_choices - 1)
    given_nc, _ = match_counts(np.log(probabilities), np.bincount(choices, minlength=n_choices + 1))
    assert given_nc[:, n_choices].max() == 0


@pytest.mark.parametrize(("n_choices", "bias"), [(2, 0.0), (2, 2.0), (3, 1.0)])
def test_the_interval_covers_what_many_items_show(n_choices: int, bias: float) -> None:
    truth = calibrated_accuracy(*_draw(200_000, n_choices, 0, bias=bias))[0]
    bounds = [calibrated_accuracy(*_draw(150, n_choices, seed, bias=bias))[1:] for seed in range(1, 401)]
    assert 0.92 <= np.mean([low <= truth <= high for low, high in bounds]) <= 0.985


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(2, 4), st.integers(0, 2**32 - 1))
def test_the_interval_holds_the_value_in_any_order_of_the_items(n: int, n_choices: int, seed: int) -> None:
    choices, probabilities = _draw(n, n_choices, seed)
    accuracy, low, high = calibrated_accuracy(choices, probabilities)
    assert 0 <= low <= accuracy <= high <= 1
    order = np.random.default_rng(seed).permutation(n)
    assert calibrated_accuracy(choices[order], probabilities[order]) == pytest.approx((accuracy, low, high), abs=1e-9)
