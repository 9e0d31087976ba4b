"""How well annotators agree, and the one answer that they give together.

Pure functions over answers that were read before. The Dawid-Skene model is crowd-kit's, Fleiss' kappa statsmodels';
both take seconds to import, so they are imported when first needed.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from isocost.core.errors import FailedPreconditionError, InvalidArgumentError
from isocost.resources.queue import Agreement

__all__ = ["Answer", "ConsensusModel", "agreement", "consensus"]

_Ints = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]

#: Answers that every annotator is taken to have given beforehand to questions with a known answer, for each true
#: choice: one of each wrong choice, and this many times as many right ones. Without them a few answers make the model
#: certain, and with several choices worse than a majority vote.
_PRIOR_RIGHT_PER_WRONG = 2

#: Rows of such answers above which only the right ones are taken, one a choice: they grow with the square of the
#: choices.
_PRIOR_ROWS_MAX = 200_000

#: By how much, at least, an item's only answer is more probable than an equal share: it is what was paid for.
_ONLY_ANSWER_LEAD = 0.01

_warnings_lock = threading.Lock()

#: Cap on iterations; crowd-kit's own default, and it stops before at its tolerance.
_ITERATIONS_MAX = 100


@dataclass(frozen=True, slots=True, order=True)
class Answer:
    """One annotator's answer to one item.

    Attributes:
        item_id, annotator: The item, and who answered.
        choice: The index of the choice; of a label with probabilities, the most probable one.
    """

    item_id: str
    annotator: str
    choice: int


@dataclass(frozen=True, slots=True)
class ConsensusModel:
    """What the answers say together.

    Attributes:
        probabilities: Of each item that was answered, the probability of each choice; they sum to one.
        accuracies: Of each annotator, the expected share of right answers among those to items with two or more
            answers, or with a gold answer; None where there is no such answer.
    """

    probabilities: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    accuracies: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Coded:
    """The answers as numbers, sorted, so that their order as given cannot change a result.

    `item_codes`, `annotator_codes` and `choices` have one entry an answer; a code is a position in `item_ids` or in
    `annotators`. `n_answers_of_item` has one entry an item.
    """

    item_ids: list[str]
    annotators: list[str]
    item_codes: _Ints
    annotator_codes: _Ints
    choices: _Ints
    n_answers_of_item: _Ints

    @classmethod
    def of(cls, answers: Iterable[Answer], n_choices: int) -> _Coded:
        if n_choices < 1:
            raise InvalidArgumentError(
                "n_choices", f"{n_choices} is not positive; give the number of the task's choices"
            )
        ordered = sorted({(answer.item_id, answer.annotator, answer.choice) for answer in answers})
        for item_id, annotator, choice in ordered:
            if not 0 <= choice < n_choices:
                raise InvalidArgumentError(
                    "answers.choice",
                    f"{choice}, by {annotator!r} for item {item_id!r}, is not a choice; use 0 to {n_choices - 1}",
                )
        item_ids = list(dict.fromkeys(item_id for item_id, _, _ in ordered))
        annotators = sorted({annotator for _, annotator, _ in ordered})
        code_of_item = {item_id: code for code, item_id in enumerate(item_ids)}
        code_of_annotator = {annotator: code for code, annotator in enumerate(annotators)}
        item_codes = np.array([code_of_item[item_id] for item_id, _, _ in ordered], np.int64)
        return cls(
            item_ids=item_ids,
            annotators=annotators,
            item_codes=item_codes,
            annotator_codes=np.array([code_of_annotator[annotator] for _, annotator, _ in ordered], np.int64),
            choices=np.array([choice for _, _, choice in ordered], np.int64),
            n_answers_of_item=np.bincount(item_codes, minlength=len(item_ids)),
        )


def agreement(answers: Iterable[Answer], n_choices: int) -> Agreement:
    """Measures how well annotators agree on the items that two or more answers were given to.

    An annotator's same answer to the same item counts once; another answer of theirs to it counts as an answer of its
    own, but no annotator forms a pair for Cohen's kappa with themselves. A pair of annotators who both gave one and the
    same choice throughout has no Cohen's kappa. With few common items a pair that is left out is mostly one that
    agrees, so that the mean is then low: give annotators enough items in common, or read Fleiss' kappa.

    Args:
        answers: The answers, in any order.
        n_choices: The number of the task's choices.

    Raises:
        InvalidArgumentError: An answer is none of the choices.
        FailedPreconditionError: The `agreement` extra is not installed.
    """
    coded = _Coded.of(answers, n_choices)
    sizes = coded.n_answers_of_item
    n_items = int((sizes >= 2).sum())
    if not n_items:
        return Agreement()
    kept = sizes[coded.item_codes] >= 2
    items, annotators = coded.item_codes[kept], coded.annotator_codes[kept]
    # From here on only the choices that were given: an empty one changes no measure.
    given, choices = np.unique(coded.choices[kept], return_inverse=True)
    n_same = np.unique(items * len(given) + choices, return_counts=True)[1]
    n_pairs = int((sizes * (sizes - 1)).sum())
    return Agreement(
        n_items=n_items,
        n_labels=int(kept.sum()),
        pairwise_agreement=int((n_same * (n_same - 1)).sum()) / n_pairs,
        cohen_kappa=_cohen_kappa(items, annotators, choices),
        fleiss_kappa=_fleiss_kappa(items, choices, sizes),
    )


def consensus(answers: Iterable[Answer], n_choices: int, *, gold: Mapping[str, int] | None = None) -> ConsensusModel:
    """Estimates each item's answer and each annotator's accuracy.

    Items with two or more answers, or with a gold answer, are fitted by the Dawid-Skene model: a confusion matrix for
    each annotator and a share for each choice, by expectation maximisation from the majority vote. Every annotator is
    taken to be right more often than not beforehand, which many answers overrule. What follows in the corners:

    - No item has two answers, none is gold: each item's probabilities are the shares of its answers, and no accuracy is
      known.
    - An item has one answer: it gets that annotator's accuracy as its probability (that of all answers taken together
      where theirs is not known, and never less than an equal share), the other choices share the rest.
    - Two annotators who always differ cannot be told apart: both choices stay equally probable, both are right half the
      time. Only a gold answer, or a third annotator, says who is right.
    - Most annotators wrong together: the majority is believed. Gold answers are the remedy here too.
    - All give one choice: it is certain.
    - A choice that was never given and is never gold has probability zero.

    Not to be called from several threads at once where Python warnings matter: the deprecation warnings that crowd-kit
    causes are hidden for the time of the call, and Python keeps these filters for the whole process.

    Args:
        answers: The answers, in any order; an annotator's same answer to the same item counts once.
        n_choices: The number of the task's choices.
        gold: Known answers by item id; those to items without an answer change nothing.

    Raises:
        InvalidArgumentError: An answer, or a gold answer, is none of the choices.
        FailedPreconditionError: The `agreement` extra is not installed.
    """
    coded = _Coded.of(answers, n_choices)
    truth = _truth_of_items(coded, n_choices, gold or {})
    probabilities = np.zeros((len(coded.item_ids), n_choices))
    np.add.at(probabilities, (coded.item_codes, coded.choices), 1.0)
    probabilities /= coded.n_answers_of_item[:, None]
    checked = (coded.n_answers_of_item >= 2) | (truth >= 0)
    accuracies: list[float | None] = [None] * len(coded.annotators)
    if checked.any():
        probabilities[checked] = _dawid_skene(coded, truth, checked, n_choices)
        accuracies, accuracy_overall = _accuracies(coded, probabilities, checked)
        for row in np.flatnonzero(~checked[coded.item_codes]):
            accuracy = accuracies[coded.annotator_codes[row]]
            probabilities[coded.item_codes[row]] = _only_answer(
                int(coded.choices[row]), accuracy_overall if accuracy is None else accuracy, n_choices
            )
    return ConsensusModel(
        probabilities={
            item_id: tuple(row) for item_id, row in zip(coded.item_ids, probabilities.tolist(), strict=True)
        },
        accuracies=dict(zip(coded.annotators, accuracies, strict=True)),
    )


def _cohen_kappa(items: _Ints, annotators: _Ints, choices: _Ints) -> float | None:
    """The mean over pairs of annotators; all pairs' tables at once, as a sparse product, since pairs may be many."""
    try:
        from scipy import sparse  # noqa: PLC0415
    except ImportError as error:
        raise _missing() from error
    n_annotators, n_given = int(annotators.max()) + 1, int(choices.max()) + 1
    shape = (n_annotators * n_given, int(items.max()) + 1)
    marks = sparse.csr_array((np.ones(len(items)), (annotators * n_given + choices, items)), shape=shape)
    both = sparse.coo_array(marks @ marks.T)
    rows, columns, counts = both.row.astype(np.int64), both.col.astype(np.int64), both.data
    first, second = rows // n_given, columns // n_given
    kept = first < second
    first, second, counts = first[kept], second[kept], counts[kept]
    choice_first, choice_second = rows[kept] % n_given, columns[kept] % n_given
    if not len(counts):
        return None
    pairs, pair = np.unique(first * n_annotators + second, return_inverse=True)
    n_pairs = len(pairs)

    def margins(choice: _Ints) -> _Floats:
        flat = np.bincount(pair * n_given + choice, weights=counts, minlength=n_pairs * n_given)
        return flat.reshape(n_pairs, n_given).astype(np.float64)

    n_common = np.bincount(pair, weights=counts)
    n_equal = np.bincount(pair, weights=counts * (choice_first == choice_second))
    by_chance = (margins(choice_first) * margins(choice_second)).sum(axis=1)
    # Counts, so the comparison is exact.
    defined = by_chance != n_common**2
    if not defined.any():
        return None
    n_common, n_equal, by_chance = n_common[defined], n_equal[defined], by_chance[defined]
    kappas = (n_equal * n_common - by_chance) / (n_common**2 - by_chance)
    return float(np.average(kappas, weights=n_common))


def _fleiss_kappa(items: _Ints, choices: _Ints, sizes: _Ints) -> float | None:
    """Over the items with the most frequent number of answers, the larger number where two are as frequent."""
    try:
        from statsmodels.stats.inter_rater import fleiss_kappa  # noqa: PLC0415
    except ImportError as error:
        raise _missing() from error
    numbers, frequencies = np.unique(sizes[sizes >= 2], return_counts=True)
    n_answers = numbers[frequencies == frequencies.max()].max()
    kept = sizes[items] == n_answers
    rows = np.unique(items[kept], return_inverse=True)[1]
    table = np.zeros((int(rows.max()) + 1, int(choices.max()) + 1))
    np.add.at(table, (rows, choices[kept]), 1.0)
    if (table.sum(axis=0) > 0).sum() < 2:
        return None
    return float(fleiss_kappa(table))


def _truth_of_items(coded: _Coded, n_choices: int, gold: Mapping[str, int]) -> _Ints:
    """The gold choice of each item, -1 where there is none."""
    for item_id, choice in gold.items():
        if not 0 <= choice < n_choices:
            raise InvalidArgumentError(
                "gold", f"{choice}, for item {item_id!r}, is not a choice; use 0 to {n_choices - 1}"
            )
    return np.array([gold.get(item_id, -1) for item_id in coded.item_ids], np.int64)


def _dawid_skene(coded: _Coded, truth: _Ints, checked: npt.NDArray[np.bool_], n_choices: int) -> _Floats:
    """The posterior of the checked items, one row an item, one column a choice."""
    try:
        import pandas as pd  # type: ignore[import-untyped]  # noqa: PLC0415
        from crowdkit.aggregation import DawidSkene  # noqa: PLC0415
    except ImportError as error:
        raise _missing() from error
    kept = checked[coded.item_codes]
    given = np.unique(np.concatenate([coded.choices[kept], truth[truth >= 0]]))
    n_items = len(coded.item_ids)
    # One question more for each choice, with a known answer: see _PRIOR_RIGHT_PER_WRONG.
    prior = _prior_answers(np.unique(coded.annotator_codes[kept]), len(given))
    answers = np.column_stack(
        [coded.item_codes[kept], coded.annotator_codes[kept], np.searchsorted(given, coded.choices[kept])]
    )
    data = pd.DataFrame(
        np.concatenate([answers, prior + np.array([n_items, 0, 0])]), columns=["task", "worker", "label"]
    )
    known = np.flatnonzero(truth >= 0)
    true_labels = pd.Series(
        np.concatenate([np.searchsorted(given, truth[known]), np.arange(len(given))]),
        index=np.concatenate([known, n_items + np.arange(len(given))]),
    )
    # The filters of warnings are the process's: two fits at once would put back each other's.
    with _warnings_lock, warnings.catch_warnings():
        # crowd-kit 1.4 uses keywords that pandas 3 deprecates.
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"crowdkit\.")
        model: Any = DawidSkene(n_iter=_ITERATIONS_MAX).fit(data, true_labels)
    rows = model.probas_.loc[np.flatnonzero(checked), list(range(len(given)))].to_numpy(np.float64)
    posterior = np.zeros((len(rows), n_choices))
    # crowd-kit lifts what is zero a little above it, after it has made the sums one.
    posterior[:, given] = rows / rows.sum(axis=1, keepdims=True)
    is_gold = truth[checked] >= 0
    posterior[is_gold] = np.eye(n_choices)[truth[known]]
    return posterior


def _prior_answers(annotator_codes: _Ints, n_given: int) -> _Ints:
    """Rows of question, annotator, choice: what each annotator is taken to have answered beforehand."""
    truths, choices = np.divmod(np.arange(n_given**2), n_given)
    n_right = _PRIOR_RIGHT_PER_WRONG * (n_given - 1)
    n_rows = len(annotator_codes) * (n_right * n_given + n_given * (n_given - 1))
    times = np.where(truths == choices, max(n_right, 1), 1)
    if n_rows > _PRIOR_ROWS_MAX:
        times = np.where(truths == choices, 1, 0)
    truths, choices = np.repeat(truths, times), np.repeat(choices, times)
    n_each = len(truths)
    return np.column_stack(
        [
            np.tile(truths, len(annotator_codes)),
            np.repeat(annotator_codes, n_each),
            np.tile(choices, len(annotator_codes)),
        ]
    )


def _accuracies(
    coded: _Coded, probabilities: _Floats, checked: npt.NDArray[np.bool_]
) -> tuple[list[float | None], float]:
    """Each annotator's expected share of right answers to checked items, and that of all of them."""
    kept = checked[coded.item_codes]
    right = probabilities[coded.item_codes[kept], coded.choices[kept]]
    annotators = coded.annotator_codes[kept]
    n_answers = np.bincount(annotators, minlength=len(coded.annotators))
    n_right = np.bincount(annotators, weights=right, minlength=len(coded.annotators))
    shares = [float(expected / number) if number else None for expected, number in zip(n_right, n_answers, strict=True)]
    return shares, float(right.mean())


def _only_answer(choice: int, accuracy: float, n_choices: int) -> _Floats:
    """The probabilities of an item with one answer."""
    if n_choices == 1:
        return np.ones(1)
    probability = max(accuracy, 1 / n_choices + _ONLY_ANSWER_LEAD)
    row = np.full(n_choices, (1 - probability) / (n_choices - 1))
    row[choice] = probability
    return row


def _missing() -> FailedPreconditionError:
    return FailedPreconditionError(
        "agreement and consensus need crowd-kit and statsmodels, which are not installed; install isocost[agreement]"
    )
