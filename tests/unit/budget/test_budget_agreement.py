"""Agreement and consensus, against published numbers, scikit-learn, and simulated annotators whose truth is known."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from isocost.budget.agreement import Answer, ConsensusModel, agreement, consensus
from isocost.core.errors import FailedPreconditionError, InvalidArgumentError
from isocost.resources.queue import Agreement

#: Ratings of ten subjects by fourteen raters into five categories: the worked example of Wikipedia's "Fleiss' kappa".
FLEISS_TABLE = (
    (0, 0, 0, 0, 14),
    (0, 2, 6, 4, 2),
    (0, 0, 3, 5, 6),
    (0, 3, 9, 2, 0),
    (2, 2, 8, 1, 1),
    (7, 7, 0, 0, 0),
    (3, 2, 6, 3, 0),
    (2, 5, 3, 2, 2),
    (6, 5, 2, 1, 0),
    (0, 2, 2, 3, 7),
)


def answers_of(annotators: dict[str, Sequence[int | None]]) -> list[Answer]:
    """One sequence of choices an annotator, one place an item; None where they did not answer."""
    return [
        Answer(f"i{index:05d}", annotator, choice)
        for annotator, choices in annotators.items()
        for index, choice in enumerate(choices)
        if choice is not None
    ]


def answers_of_table(table: Sequence[Sequence[int]]) -> list[Answer]:
    """One row an item, one column a choice: how many gave it."""
    return [
        Answer(f"i{item}", f"a{rater}", choice)
        for item, row in enumerate(table)
        for rater, choice in enumerate(np.repeat(np.arange(len(row)), row).tolist())
    ]


def simulate(
    accuracies: Sequence[float], *, n_items: int, n_choices: int, n_answers: int, seed: int
) -> tuple[dict[str, int], list[Answer]]:
    """Truth, and answers of annotators who are right with these probabilities and else give any other choice."""
    random = np.random.default_rng(seed)
    truth, answers = {}, []
    for index in range(n_items):
        item_id, true = f"i{index:05d}", int(random.integers(n_choices))
        truth[item_id] = true
        for annotator in random.choice(len(accuracies), n_answers, replace=False).tolist():
            right = random.random() < accuracies[annotator]
            choice = true if right else (true + int(random.integers(1, n_choices))) % n_choices
            answers.append(Answer(item_id, f"a{annotator}", choice))
    return truth, answers


def share_right(probabilities: dict[str, Sequence[float]], truth: dict[str, int]) -> float:
    return float(np.mean([np.argmax(probabilities[item_id]) == choice for item_id, choice in truth.items()]))


def votes(answers: Sequence[Answer], n_choices: int) -> dict[str, Sequence[float]]:
    """Shares of the answers: the majority vote."""
    counts: dict[str, list[float]] = {}
    for answer in answers:
        counts.setdefault(answer.item_id, [0.0] * n_choices)[answer.choice] += 1
    return {item_id: [count / sum(row) for count in row] for item_id, row in counts.items()}


def assert_model(model: ConsensusModel, n_choices: int) -> None:
    for probabilities in model.probabilities.values():
        assert len(probabilities) == n_choices
        assert sum(probabilities) == pytest.approx(1.0)
        assert min(probabilities) >= 0.0
    assert all(accuracy is None or 0.0 <= accuracy <= 1.0 for accuracy in model.accuracies.values())


# Agreement.


def test_fleiss_kappa_is_the_published_one() -> None:
    measured = agreement(answers_of_table(FLEISS_TABLE), 5)
    assert measured.fleiss_kappa == pytest.approx(0.210, abs=5e-4)
    # Its mean over subjects of the share of pairs that agree, worked there by hand.
    assert measured.pairwise_agreement == pytest.approx(0.378, abs=5e-4)
    assert (measured.n_items, measured.n_labels) == (10, 140)


def test_cohen_kappa_is_the_published_one() -> None:
    # Wikipedia's "Cohen's kappa": 20 both yes, 5 and 10 differ, 15 both no; agreement 0.7, by chance 0.5.
    first = [1] * 20 + [1] * 5 + [0] * 10 + [0] * 15
    second = [1] * 20 + [0] * 5 + [1] * 10 + [0] * 15
    measured = agreement(answers_of({"a": first, "b": second}), 2)
    assert measured.cohen_kappa == pytest.approx(0.4)
    assert measured.pairwise_agreement == pytest.approx(0.7)


@pytest.mark.parametrize("n_choices", [2, 3, 7])
def test_cohen_kappa_is_the_mean_of_scikit_learns_weighted_by_common_items(n_choices: int) -> None:
    _, answers = simulate([0.9, 0.8, 0.6, 0.4, 0.7], n_items=120, n_choices=n_choices, n_answers=3, seed=1)
    by_annotator: dict[str, dict[str, int]] = {}
    for answer in answers:
        by_annotator.setdefault(answer.annotator, {})[answer.item_id] = answer.choice
    kappas, weights = [], []
    for first, second in itertools.combinations(by_annotator.values(), 2):
        common = sorted(first.keys() & second.keys())
        kappas.append(cohen_kappa_score([first[item] for item in common], [second[item] for item in common]))
        weights.append(len(common))
    assert len(set(weights)) > 1
    measured = agreement(answers, n_choices)
    assert measured.cohen_kappa == pytest.approx(np.average(kappas, weights=weights))


def test_pairwise_agreement_is_over_all_pairs_and_only_items_with_two_answers_count() -> None:
    answers = answers_of({"a": [0, 1, 0, 1], "b": [0, 0, None, None], "c": [1, 0, None, None], "d": [None, 0, 0, None]})
    # Pairs that agree: 1 of 3, 3 of 6, 1 of 1.
    measured = agreement(answers, 2)
    assert measured.pairwise_agreement == pytest.approx(5 / 10)
    assert (measured.n_items, measured.n_labels) == (3, 9)


def test_fleiss_kappa_is_over_the_most_frequent_number_of_answers() -> None:
    # Items with two answers disagree, the more numerous ones with three agree.
    threes = answers_of({name: [0, 1, 1] for name in "abc"})
    twos = [Answer(f"two{index}", name, index % 2 if name == "a" else 1) for index in range(2) for name in "ab"]
    assert agreement([*threes, *twos], 2).fleiss_kappa == pytest.approx(1.0)
    assert agreement(twos, 2).fleiss_kappa == pytest.approx(-1 / 3)


def test_fleiss_kappa_takes_the_larger_of_two_equally_frequent_numbers() -> None:
    threes = answers_of({name: [0, 1] for name in "abc"})
    twos = [Answer(f"two{index}", name, index % 2 if name == "a" else 1) for index in range(2) for name in "ab"]
    assert agreement([*threes, *twos], 2).fleiss_kappa == pytest.approx(1.0)


@pytest.mark.parametrize("answers", [[], answers_of({"a": [0, 1, 1]}), answers_of({"a": [0, None], "b": [None, 1]})])
def test_without_two_answers_to_an_item_nothing_is_measured(answers: list[Answer]) -> None:
    assert agreement(answers, 2) == Agreement()


def test_kappas_of_one_choice_throughout_are_undefined() -> None:
    measured = agreement(answers_of({"a": [1, 1, 1], "b": [1, 1, 1]}), 3)
    assert measured == Agreement(n_items=3, n_labels=6, pairwise_agreement=1.0, cohen_kappa=None, fleiss_kappa=None)


def test_an_undefined_pair_is_left_out_of_cohens_kappa() -> None:
    defined = {"a": [0, 1, 0, 1, None, None], "b": [0, 1, 0, 1, None, None]}
    undefined = {"c": [None, None, None, None, 1, 1], "d": [None, None, None, None, 1, 1]}
    assert agreement(answers_of({**defined, **undefined}), 2).cohen_kappa == pytest.approx(1.0)


def test_annotators_who_always_differ_have_negative_kappas() -> None:
    measured = agreement(answers_of({"a": [0, 1, 0, 1], "b": [1, 0, 1, 0]}), 2)
    assert measured.cohen_kappa == pytest.approx(-1.0)
    assert measured.fleiss_kappa == pytest.approx(-1.0)
    assert measured.pairwise_agreement == 0.0


def test_an_annotators_repeated_answer_counts_once_and_forms_no_pair_with_itself() -> None:
    answers = answers_of({"a": [0, 1], "b": [0, 0]})
    assert agreement([*answers, answers[0]], 2) == agreement(answers, 2)
    alone = agreement([Answer("i", "a", 0), Answer("i", "a", 1)], 2)
    assert (alone.pairwise_agreement, alone.cohen_kappa) == (0.0, None)


# Consensus.


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n_choices", [2, 4])
def test_consensus_is_righter_than_the_majority_vote(n_choices: int, seed: int) -> None:
    # Two good annotators are outvoted by three that guess.
    accuracies = [0.95, 0.95, 1 / n_choices, 1 / n_choices, 1 / n_choices]
    truth, answers = simulate(accuracies, n_items=300, n_choices=n_choices, n_answers=5, seed=seed)
    model = consensus(answers, n_choices)
    assert_model(model, n_choices)
    assert share_right(dict(model.probabilities), truth) > share_right(votes(answers, n_choices), truth) + 0.05
    estimated = {name: accuracy for name, accuracy in model.accuracies.items() if accuracy is not None}
    assert min(estimated["a0"], estimated["a1"]) > max(estimated["a2"], estimated["a3"], estimated["a4"]) + 0.2


def test_estimated_accuracies_are_near_the_true_ones() -> None:
    accuracies = [0.95, 0.85, 0.75, 0.65, 0.55]
    _, answers = simulate(accuracies, n_items=600, n_choices=3, n_answers=4, seed=0)
    estimated = consensus(answers, 3).accuracies
    for index, accuracy in enumerate(accuracies):
        assert estimated[f"a{index}"] == pytest.approx(accuracy, abs=0.08)


def test_few_answers_an_annotator_make_it_neither_worse_than_the_majority_vote_nor_too_certain() -> None:
    # About nine answers each: the confusion matrices alone would be noise.
    right, voted, certainty = [], [], []
    for seed in range(5):
        accuracies = np.random.default_rng(seed).uniform(0.4, 0.98, 20).tolist()
        truth, answers = simulate(accuracies, n_items=60, n_choices=5, n_answers=3, seed=seed)
        model = consensus(answers, 5)
        right.append(share_right(dict(model.probabilities), truth))
        voted.append(share_right(votes(answers, 5), truth))
        certainty.append(np.mean([max(probabilities) for probabilities in model.probabilities.values()]))
    assert np.mean(right) > np.mean(voted) - 0.02
    assert np.mean(certainty) == pytest.approx(np.mean(right), abs=0.1)


def test_the_order_of_many_answers_changes_nothing() -> None:
    _, answers = simulate([0.9, 0.8, 0.6, 0.5], n_items=60, n_choices=3, n_answers=3, seed=9)
    assert consensus(answers[::-1], 3) == consensus(answers, 3)


def test_a_constant_annotators_answer_does_not_count() -> None:
    _, answers = simulate([0.9, 0.9, 0.9], n_items=200, n_choices=2, n_answers=3, seed=3)
    spam = [Answer(item_id, "spammer", 1) for item_id in sorted({answer.item_id for answer in answers})]
    without, with_spam = consensus(answers, 2), consensus([*answers, *spam], 2)
    for item_id, probabilities in without.probabilities.items():
        assert np.argmax(with_spam.probabilities[item_id]) == np.argmax(probabilities)
    accuracy = with_spam.accuracies["spammer"]
    assert accuracy is not None
    assert accuracy < 0.65


def test_where_no_item_has_two_answers_the_answers_stand() -> None:
    model = consensus(answers_of({"a": [0, 2, None], "b": [None, None, 1]}), 4)
    assert model.probabilities == {
        "i00000": (1.0, 0.0, 0.0, 0.0),
        "i00001": (0.0, 0.0, 1.0, 0.0),
        "i00002": (0.0, 1.0, 0.0, 0.0),
    }
    assert model.accuracies == {"a": None, "b": None}


def test_an_only_answer_gets_its_annotators_accuracy() -> None:
    _, answers = simulate([0.95, 0.95, 0.5], n_items=200, n_choices=4, n_answers=3, seed=5)
    alone = [Answer("only-good", "a0", 3), Answer("only-bad", "a2", 3), Answer("only-unknown", "new", 3)]
    model = consensus([*answers, *alone], 4)
    assert_model(model, 4)
    good, bad, unknown = (model.probabilities[answer.item_id] for answer in alone)
    assert good[3] == model.accuracies["a0"]
    assert bad[3] == model.accuracies["a2"]
    assert bad[3] < unknown[3] < good[3]
    assert good[0] == good[1] == good[2]
    assert model.accuracies["new"] is None


def test_an_only_answer_of_the_worst_annotator_is_still_the_most_probable() -> None:
    _, answers = simulate([0.95, 0.95, 0.95, 0.05], n_items=200, n_choices=2, n_answers=4, seed=6)
    model = consensus([*answers, Answer("only", "a3", 1)], 2)
    assert model.probabilities["only"][1] > 0.5
    accuracy = model.accuracies["a3"]
    assert accuracy is not None
    assert accuracy < 0.2


def test_an_annotator_who_is_always_wrong_still_tells_the_truth() -> None:
    truth, answers = simulate([0.9, 0.9, 0.9, 0.0], n_items=300, n_choices=2, n_answers=4, seed=7)
    assert share_right(dict(consensus(answers, 2).probabilities), truth) > share_right(votes(answers, 2), truth)


def test_two_annotators_who_always_differ_leave_it_open() -> None:
    model = consensus(answers_of({"a": [0, 0, 1, 1, 0], "b": [1, 1, 0, 0, 1]}), 3)
    for probabilities in model.probabilities.values():
        assert probabilities == pytest.approx((0.5, 0.5, 0.0))
    assert model.accuracies == pytest.approx({"a": 0.5, "b": 0.5})


def test_gold_tells_who_is_right_of_two_who_always_differ() -> None:
    answers = answers_of({"a": [0, 1] * 10, "b": [1, 0] * 10})
    model = consensus(answers, 2, gold={"i00000": 0, "i00001": 1, "i00002": 0, "i00003": 1})
    assert_model(model, 2)
    for index in range(20):
        assert np.argmax(model.probabilities[f"i{index:05d}"]) == index % 2
    good, bad = model.accuracies["a"], model.accuracies["b"]
    assert good is not None
    assert bad is not None
    assert good > bad + 0.5


def test_gold_alone_estimates_accuracies_where_no_item_has_two_answers() -> None:
    answers = answers_of({"a": [0, 1, 1, 0, 1]})
    model = consensus(answers, 2, gold={"i00000": 0, "i00001": 1, "i00002": 0, "i00003": 0, "elsewhere": 1})
    assert model.accuracies["a"] == pytest.approx(0.75)
    assert model.probabilities["i00002"] == pytest.approx((1.0, 0.0))
    assert model.probabilities["i00004"] == pytest.approx((0.25, 0.75))
    assert "elsewhere" not in model.probabilities


def test_a_gold_choice_that_nobody_gave_is_believed() -> None:
    model = consensus(answers_of({"a": [0, 1, 0], "b": [0, 1, 0]}), 4, gold={"i00002": 3})
    assert_model(model, 4)
    assert model.probabilities["i00002"] == pytest.approx((0.0, 0.0, 0.0, 1.0))


def test_one_choice_throughout_is_certain() -> None:
    model = consensus(answers_of({"a": [2, 2], "b": [2, 2]}), 3)
    assert set(model.probabilities.values()) == {(0.0, 0.0, 1.0)}
    assert model.accuracies == {"a": 1.0, "b": 1.0}


def test_choices_never_given_have_probability_zero() -> None:
    model = consensus(answers_of({"a": [1, 4, 1], "b": [1, 4, 4], "c": [1, 4, 1]}), 6)
    assert_model(model, 6)
    for probabilities in model.probabilities.values():
        assert [probabilities[choice] for choice in (0, 2, 3, 5)] == [0.0] * 4


def test_as_many_choices_as_a_task_may_have_are_fitted() -> None:
    # Beyond the limit of the answers that are assumed beforehand.
    n_choices = 128
    answers = answers_of({name: list(range(n_choices)) for name in "abcde"})
    model = consensus([*answers, Answer("i00000", "f", 1)], n_choices)
    assert_model(model, n_choices)
    assert [int(np.argmax(row)) for row in model.probabilities.values()] == list(range(n_choices))


def test_no_answers_give_an_empty_model() -> None:
    assert consensus([], 2) == ConsensusModel()


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.builds(
            Answer, st.sampled_from(["i0", "i1", "i2", "i3"]), st.sampled_from(["a", "b", "c"]), st.integers(0, 2)
        ),
        max_size=16,
    ),
    st.dictionaries(st.sampled_from(["i0", "i1"]), st.integers(0, 3), max_size=1),
    st.randoms(use_true_random=False),
)
def test_the_order_of_the_answers_changes_nothing_and_any_answers_are_valid(
    answers: list[Answer], gold: dict[str, int], random: object
) -> None:
    shuffled = list(answers)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    model = consensus(answers, 4, gold=gold)
    assert_model(model, 4)
    assert model.probabilities.keys() == {answer.item_id for answer in answers}
    assert consensus(shuffled, 4, gold=gold) == model
    measured = agreement(answers, 4)
    assert agreement(shuffled, 4) == measured
    for kappa in (measured.cohen_kappa, measured.fleiss_kappa):
        assert kappa is None or -1.0 <= kappa <= 1.0 + 1e-12


# Refusals.


@pytest.mark.parametrize("choice", [-1, 2])
def test_an_answer_that_is_no_choice_is_refused(choice: int) -> None:
    answers = [Answer("i", "a", choice)]
    with pytest.raises(InvalidArgumentError, match="use 0 to 1"):
        agreement(answers, 2)
    with pytest.raises(InvalidArgumentError, match="use 0 to 1"):
        consensus(answers, 2)
    with pytest.raises(InvalidArgumentError, match="gold"):
        consensus([], 2, gold={"i": choice})


def test_a_number_of_choices_that_is_not_positive_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="n_choices"):
        agreement([], 0)


@pytest.mark.parametrize("package", ["scipy", "statsmodels.stats.inter_rater"])
def test_agreement_names_the_extra_that_is_missing(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(FailedPreconditionError, match=r"install isocost\[agreement\]"):
        agreement(answers_of({"a": [0, 1], "b": [0, 1]}), 2)


def test_consensus_names_the_extra_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "crowdkit.aggregation", None)
    with pytest.raises(FailedPreconditionError, match=r"install isocost\[agreement\]"):
        consensus(answers_of({"a": [0, 1], "b": [0, 1]}), 2)
    assert consensus(answers_of({"a": [0]}), 2).probabilities == {"i00000": (1.0, 0.0)}
