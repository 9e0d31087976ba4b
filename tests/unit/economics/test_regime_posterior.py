from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocost.economics.regime import Regime
from isocost.economics.regime_posterior import LinePoint, RegimePosterior, regime_posterior

SHARES = (0.0, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0)


def _line(
    means: list[float], seed: int, *, n_seeds: int = 3, n_items: int = 1000, answers: bool = True
) -> list[LinePoint]:
    draw = np.random.default_rng(seed)
    hardness = draw.random(n_items)
    points = []
    for share, mean in zip(SHARES, means, strict=True):
        accuracy = mean + 0.03 * draw.normal(size=(n_seeds, 1))
        lucky = draw.random((n_seeds, n_items)) < 0.2
        right = np.where(lucky, draw.random((n_seeds, n_items)), hardness) < accuracy
        found = LinePoint.of_answers(share, right)
        points.append(found if answers else LinePoint(share, found.accuracies, n_items))
    return points


def _probabilities(found: RegimePosterior) -> tuple[float, float, float]:
    return found.quantity_dominant, found.mixed, found.quality_dominant


@pytest.mark.parametrize("answers", [True, False])
@pytest.mark.parametrize(
    ("means", "regime"),
    [
        ([0.50, 0.55, 0.60, 0.65, 0.70, 0.72, 0.74, 0.82], Regime.QUANTITY_DOMINANT),
        ([0.82, 0.74, 0.72, 0.70, 0.65, 0.60, 0.55, 0.50], Regime.QUALITY_DOMINANT),
        ([0.65, 0.70, 0.74, 0.80, 0.82, 0.80, 0.74, 0.65], Regime.MIXED),
    ],
)
def test_a_clear_regime_is_named(means: list[float], regime: Regime, answers: bool) -> None:
    for seed in range(5):
        found = regime_posterior(_line(means, seed, answers=answers))
        assert found.regime is regime
        assert found.probability == max(_probabilities(found)) > 0.6


@pytest.mark.parametrize("n_seeds", [1, 3])
def test_many_equal_mixes_are_no_evidence_of_mixing(n_seeds: int) -> None:
    found = [_probabilities(regime_posterior(_line([0.7] * 8, seed, n_seeds=n_seeds))) for seed in range(60)]
    # The luckiest of six mixes would be the best in three lines of four.
    assert np.mean(found, axis=0) == pytest.approx([1 / 3] * 3, abs=0.1)


def test_one_noisy_seed_does_not_name_a_regime() -> None:
    points = [LinePoint(0.0, (0.70,), 1000), LinePoint(0.5, (0.71,), 1000), LinePoint(1.0, (0.70,), 1000)]
    assert regime_posterior(points).regime is Regime.UNSPECIFIED


def test_more_seeds_and_items_make_the_same_difference_surer() -> None:
    def line(n_seeds: int, n_eval: int) -> list[LinePoint]:
        spread = np.linspace(-0.02, 0.02, n_seeds)
        return [
            LinePoint(share, tuple((mean + spread).tolist()), n_eval)
            for share, mean in ((0.0, 0.70), (0.5, 0.72), (1.0, 0.78))
        ]

    few, seeds, both = (regime_posterior(line(*size)).quantity_dominant for size in ((2, 200), (8, 200), (8, 5000)))
    assert few < seeds < both


def test_answers_item_by_item_are_surer_than_their_means() -> None:
    means = [0.70, 0.70, 0.70, 0.70, 0.70, 0.70, 0.70, 0.76]
    exact = [regime_posterior(_line(means, seed, n_seeds=8, n_items=300)) for seed in range(10)]
    coarse = [regime_posterior(_line(means, seed, n_seeds=8, n_items=300, answers=False)) for seed in range(10)]
    assert np.mean([one.quantity_dominant for one in exact]) > np.mean([one.quantity_dominant for one in coarse])


@pytest.mark.parametrize("shares", [(), (0.0,), (0.3, 0.5), (1.0, 1.0)])
def test_points_of_one_regime_alone_tell_nothing(shares: tuple[float, ...]) -> None:
    found = regime_posterior([LinePoint(share, (0.9, 0.8), 100) for share in shares])
    assert found == RegimePosterior(Regime.UNSPECIFIED, 1 / 3, 1 / 3, 1 / 3, 1 / 3)


def test_a_regime_that_was_not_measured_has_no_chance() -> None:
    found = regime_posterior([LinePoint(0.5, (0.7, 0.7), 500), LinePoint(1.0, (0.9, 0.9), 500)])
    assert found.quality_dominant == 0
    assert found.regime is Regime.QUANTITY_DOMINANT


def test_spending_everything_but_for_rounding_is_an_end() -> None:
    rounded = regime_posterior([LinePoint(1e-12, (0.7,), 500), LinePoint(1 - 1e-12, (0.9,), 500)])
    assert rounded.mixed == 0


POINTS = st.lists(
    st.builds(
        LinePoint,
        weak_share=st.sampled_from(SHARES),
        accuracies=st.lists(st.floats(0, 1), min_size=1, max_size=4).map(tuple),
        n_eval=st.integers(1, 500),
    ),
    max_size=8,
)


@settings(max_examples=40, deadline=None)
@given(POINTS.flatmap(lambda points: st.tuples(st.just(points), st.permutations(points))))
def test_probabilities_sum_to_one_in_any_order_of_the_points(orders: tuple[list[LinePoint], list[LinePoint]]) -> None:
    points, shuffled = orders
    found = regime_posterior(points)
    assert sum(_probabilities(found)) == pytest.approx(1)
    assert found.probability == max(_probabilities(found))
    assert (found.regime is Regime.UNSPECIFIED) == (found.probability < 0.5)
    assert astuple(regime_posterior(shuffled)) == astuple(found)


@pytest.mark.parametrize(
    "point",
    [LinePoint(1.5, (0.5,), 10), LinePoint(0.5, (), 10), LinePoint(0.5, (0.5,), 0), LinePoint(0.5, (1.5,), 10)],
)
def test_what_is_no_point_is_refused(point: LinePoint) -> None:
    with pytest.raises(ValueError, match=r"point|accuracies"):
        regime_posterior([LinePoint(0.0, (0.5,), 10), point])


def test_answers_to_different_evaluation_sets_are_refused() -> None:
    points = [LinePoint.of_answers(share, np.ones((2, n), dtype=np.bool_)) for share, n in ((0.0, 10), (1.0, 11))]
    with pytest.raises(ValueError, match="one evaluation set"):
        regime_posterior(points)
