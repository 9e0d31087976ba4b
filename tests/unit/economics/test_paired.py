from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, norm
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from isocost.economics.paired import PairedDifference, compare_answers, compare_runs, holm

Bools = npt.NDArray[np.bool_]
TABLES = st.tuples(*[st.integers(0, 30)] * 4).filter(lambda table: sum(table) > 0)


def _answers(both: int, a_only: int, b_only: int, neither: int) -> tuple[Bools, Bools]:
    a = np.repeat([True, True, False, False], [both, a_only, b_only, neither])
    b = np.repeat([True, False, True, False], [both, a_only, b_only, neither])
    return a, b


def _runs(draw: np.random.Generator, mean: float, n_seeds: int, hardness: npt.NDArray[np.float64], sd: float) -> Bools:
    """Runs whose accuracies vary by seed, on items that are hard for all."""
    accuracy = np.clip(mean + sd * draw.normal(size=(n_seeds, 1)), 0.01, 0.99)
    right: Bools = 0.8 * hardness + 0.6 * draw.normal(size=(n_seeds, len(hardness))) < norm.ppf(accuracy)
    return right


@settings(deadline=None)
@given(TABLES)
def test_the_p_value_is_the_exact_mcnemar_tests(table: tuple[int, int, int, int]) -> None:
    both, a_only, b_only, neither = table
    found = compare_answers(*_answers(*table))
    expected = mcnemar([[both, a_only], [b_only, neither]], exact=True).pvalue
    assert found.p_value == pytest.approx(float(expected), rel=1e-9)
    if a_only + b_only:
        assert found.p_value == pytest.approx(binomtest(a_only, a_only + b_only).pvalue, rel=1e-9)
    assert found.difference == pytest.approx((a_only - b_only) / sum(table), abs=1e-12)
    assert -1 <= found.low <= found.difference <= found.high <= 1


@settings(deadline=None)
@given(TABLES)
def test_exchanging_the_methods_exchanges_the_signs(table: tuple[int, int, int, int]) -> None:
    a, b = _answers(*table)
    there, back = compare_answers(a, b), compare_answers(b, a)
    assert (there.difference, there.low, there.high) == pytest.approx((-back.difference, -back.high, -back.low))
    assert there.p_value == back.p_value


def test_the_interval_is_bonett_and_prices() -> None:
    # 21 pairs, 1 and 7 of them discordant; shares with one more of each kind: 2/23 and 8/23.
    found = compare_answers(*_answers(1, 1, 7, 12))
    centre = 2 / 23 - 8 / 23
    half = norm.ppf(0.975) * np.sqrt((2 / 23 + 8 / 23 - centre**2) / 23)
    assert (found.low, found.high) == pytest.approx((centre - half, centre + half), abs=1e-12)
    assert found.separable


def test_the_interval_covers_the_true_difference() -> None:
    draw = np.random.default_rng(0)
    covered = []
    for _ in range(1000):
        hardness = draw.normal(size=100)
        found = compare_answers(_runs(draw, 0.85, 1, hardness, 0)[0], _runs(draw, 0.75, 1, hardness, 0)[0])
        covered.append(found.low <= 0.10 <= found.high)
    assert 0.93 <= np.mean(covered) <= 0.98


def test_methods_that_answer_alike_are_not_proven_equal() -> None:
    found = compare_answers(np.ones(20, dtype=np.bool_), np.ones(20, dtype=np.bool_))
    assert (found.difference, found.p_value, found.separable) == (0.0, 1.0, False)
    assert found.high - found.low > 0.2


@pytest.mark.parametrize(("n_a", "n_b"), [(2, 2), (3, 3), (5, 3)])
def test_with_seeds_the_interval_covers_and_agrees_with_the_test(n_a: int, n_b: int) -> None:
    draw = np.random.default_rng(0)
    covered, rejected = [], []
    for _ in range(600):
        hardness = draw.normal(size=300)
        a, b = _runs(draw, 0.75, n_a, hardness, 0.03), _runs(draw, 0.75, n_b, hardness, 0.03)
        found = compare_runs(a, b)
        covered.append(found.low <= 0 <= found.high)
        rejected.append(found.p_value < 0.05)
        assert (found.p_value < 0.05) == found.separable
    assert 0.92 <= np.mean(covered) <= 0.995
    assert np.mean(rejected) <= 0.08


def test_items_alone_are_too_sure_where_seeds_vary() -> None:
    draw = np.random.default_rng(0)
    hardness = draw.normal(size=1000)
    a, b = _runs(draw, 0.75, 3, hardness, 0.05), _runs(draw, 0.75, 3, hardness, 0.05)
    found = compare_runs(a, b)
    by_items = compare_answers(a[0], b[0])
    assert found.high - found.low > 2 * (by_items.high - by_items.low)


def test_pairing_seeds_takes_off_the_luck_they_share() -> None:
    draw = np.random.default_rng(0)
    hardness, luck = draw.normal(size=2000), 0.08 * draw.normal(size=(4, 1))
    a = 0.8 * hardness + 0.6 * draw.normal(size=(4, 2000)) < 0.7 + luck * 3
    b = 0.8 * hardness + 0.6 * draw.normal(size=(4, 2000)) < 0.5 + luck * 3
    paired, unpaired = compare_runs(a, b, same_seeds=True), compare_runs(a, b)
    assert paired.difference == unpaired.difference
    assert paired.high - paired.low < 0.6 * (unpaired.high - unpaired.low)
    assert paired.separable


def test_one_seed_of_each_is_the_comparison_of_answers() -> None:
    a, b = _answers(5, 9, 2, 4)
    assert compare_runs(a[None], b[None]) == compare_answers(a, b)


def test_one_seed_takes_the_others_variance() -> None:
    draw = np.random.default_rng(1)
    hardness = draw.normal(size=1000)
    a, b = _runs(draw, 0.8, 1, hardness, 0.0), _runs(draw, 0.7, 4, hardness, 0.08)
    alone = compare_answers(a[0], b[0])
    assert compare_runs(a, b).high - compare_runs(a, b).low > 2 * (alone.high - alone.low)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 4), st.integers(1, 20))
def test_the_interval_holds_the_difference_in_any_order_of_items_and_seeds(
    seed: int, n_a: int, n_b: int, n_items: int
) -> None:
    draw = np.random.default_rng(seed)
    a, b = draw.random((n_a, n_items)) < 0.7, draw.random((n_b, n_items)) < 0.5
    found = compare_runs(a, b)
    assert -1 <= found.low <= found.difference <= found.high <= 1
    assert 0 <= found.p_value <= 1
    order = draw.permutation(n_items)
    again = compare_runs(a[::-1][:, order], b[:, order])
    for name in ("difference", "low", "high", "p_value"):
        assert getattr(again, name) == pytest.approx(getattr(found, name), abs=1e-9)


# Few examples: statsmodels takes a fifth of a second for each.
@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holms_p_values_are_statsmodels(p_values: list[float]) -> None:
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1].tolist(), abs=1e-12)


def test_no_tests_need_no_adjusting() -> None:
    assert holm([]) == ()


@pytest.mark.parametrize(
    ("a_shape", "b_shape", "same_seeds"),
    [
        ((2, 3), (2, 4), False),
        ((0, 3), (1, 3), False),
        ((2, 0), (2, 0), False),
        ((3,), (3,), False),
        ((2, 3), (1, 3), True),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(
    a_shape: tuple[int, ...], b_shape: tuple[int, ...], same_seeds: bool
) -> None:
    with pytest.raises(ValueError, match=r"seeds|answers"):
        compare_runs(np.ones(a_shape, dtype=np.bool_), np.ones(b_shape, dtype=np.bool_), same_seeds=same_seeds)


def test_answers_to_different_items_are_refused() -> None:
    with pytest.raises(ValueError, match="answers"):
        compare_answers(np.ones(3, dtype=np.bool_), np.ones(4, dtype=np.bool_))


def test_a_bound_at_zero_separates_nothing() -> None:
    assert not PairedDifference(0.1, 0.0, 0.2, 0.05, 10, (1, 1)).separable
    assert PairedDifference(-0.1, -0.2, -0.01, 0.03, 10, (1, 1)).separable
