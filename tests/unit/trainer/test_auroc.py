from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from isocost.trainer.auroc import auroc


def _draw(n: int, n_choices: int, seed: int, *, digits: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    # Rounded, so that there are ties.
    scores = np.round(rng.dirichlet(np.ones(n_choices), size=n), digits)
    scores[:, 0] = 1 - scores[:, 1:].sum(axis=1)
    return rng.permutation(np.arange(n) % n_choices), scores


@pytest.mark.parametrize("digits", [1, 8])
@pytest.mark.parametrize("n", [2, 5, 60])
def test_two_choices_agree_with_scikit_learn(n: int, digits: int) -> None:
    choices, probabilities = _draw(n, 2, n, digits=digits)
    assert auroc(choices, probabilities) == pytest.approx(roc_auc_score(choices, probabilities[:, 1]), abs=1e-12)


@pytest.mark.parametrize("digits", [1, 8])
@pytest.mark.parametrize("n_choices", [3, 5])
def test_more_choices_agree_with_scikit_learn_one_against_the_rest(n_choices: int, digits: int) -> None:
    choices, probabilities = _draw(80, n_choices, 0, digits=digits)
    expected = roc_auc_score(choices, probabilities, multi_class="ovr", average="macro")
    assert auroc(choices, probabilities) == pytest.approx(expected, abs=1e-12)


def test_a_choice_that_never_occurs_is_left_out() -> None:
    choices, probabilities = _draw(60, 3, 1, digits=8)
    choices[choices == 2] = 1
    expected = np.mean([roc_auc_score(choices == choice, probabilities[:, choice]) for choice in (0, 1)])
    assert auroc(choices, probabilities) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("n_choices", [2, 3])
def test_one_choice_alone_has_no_area(n_choices: int) -> None:
    assert auroc(np.zeros(5, dtype=np.int64), np.full((5, n_choices), 1 / n_choices)) is None
