import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocost.economics.frontier import CostedPoint, ObservedPoint, average_seeds, pareto
from isocost.economics.interval import wilson_interval
from isocost.economics.mixes import final_mixes, round_mixes, shipped_point

POINTS = st.lists(
    st.builds(
        CostedPoint,
        cost_micros=st.integers(0, 50),
        n_weak=st.integers(0, 9),
        n_human=st.integers(0, 9),
        method=st.just("sequential_sft"),
        accuracy=st.floats(0, 1),
        accuracy_low=st.just(0.0),
        accuracy_high=st.just(1.0),
        n_seeds=st.just(1),
    ),
    min_size=1,
)


@given(POINTS)
def test_no_point_of_the_frontier_is_dominated_and_every_other_is(points: list[CostedPoint]) -> None:
    frontier = pareto(points)
    for kept in frontier:
        assert not any(
            (p.cost_micros <= kept.cost_micros and p.accuracy > kept.accuracy)
            or (p.cost_micros < kept.cost_micros and p.accuracy >= kept.accuracy)
            for p in points
        )
    for point in points:
        assert any(k.cost_micros <= point.cost_micros and k.accuracy >= point.accuracy for k in frontier)
    assert [p.cost_micros for p in frontier] == sorted({p.cost_micros for p in frontier})


def _measured(cost: int, accuracy: float) -> CostedPoint:
    low, high = wilson_interval(accuracy, 100)
    return CostedPoint(cost, cost, 0, "m", accuracy, low, high, 1)


def test_of_points_not_told_apart_the_one_with_the_most_labels_is_shipped() -> None:
    # One standard error at .80 of 100 is about .04.
    points = [_measured(10, 0.80), _measured(20, 0.75), _measured(30, 0.77), _measured(40, 0.70)]
    assert shipped_point(points).cost_micros == 30


def test_a_point_that_is_clearly_best_is_shipped_though_it_is_cheap() -> None:
    assert shipped_point([_measured(10, 0.90), _measured(20, 0.80)]).cost_micros == 10


def test_average_over_seeds_prices_the_mix_and_widens_the_interval() -> None:
    accuracies = [0.70, 0.80, 0.90]
    observations = [ObservedPoint("m", 100, 10, seed, a, 200) for seed, a in enumerate(accuracies)]
    (point,) = average_seeds(observations, weak_price_micros=10, human_price_micros=1000)
    assert point.cost_micros == 100 * 10 + 10 * 1000
    assert point.accuracy == pytest.approx(0.8)
    assert point.n_seeds == 3
    low, high = wilson_interval(0.8, 200)
    seed_half = 1.959963984540054 * statistics.stdev(accuracies) / 3**0.5
    assert point.accuracy_low == pytest.approx(0.8 - ((0.8 - low) ** 2 + seed_half**2) ** 0.5)
    assert point.accuracy_high == pytest.approx(0.8 + ((high - 0.8) ** 2 + seed_half**2) ** 0.5)


def test_methods_are_not_averaged_together() -> None:
    observations = [ObservedPoint("a", 4, 4, 0, 0.5, 10), ObservedPoint("b", 4, 4, 0, 0.9, 10)]
    points = average_seeds(observations, weak_price_micros=1, human_price_micros=1)
    assert {(p.method, p.accuracy) for p in points} == {("a", 0.5), ("b", 0.9)}


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_mixes_are_nested_subsets_that_can_be_trained(n_weak: int, n_human: int) -> None:
    for mixes in (round_mixes(n_weak, n_human), final_mixes(n_weak, n_human)):
        assert len(set(mixes)) == len(mixes)
        for weak, human in mixes:
            assert weak <= n_weak
            assert human <= n_human
            assert max(weak, human) >= 4
            assert all(count == 0 or count >= 4 for count in (weak, human))


def test_round_mixes_hold_what_the_policy_compares() -> None:
    assert set(round_mixes(160, 32)) == {(160, 32), (80, 32), (160, 16), (160, 0), (0, 32)}
