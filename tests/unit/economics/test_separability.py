from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from isocost.economics.interval import wilson_interval
from isocost.economics.separability import frontier_groups, line_separability

Bools = npt.NDArray[np.bool_]


def _points(accuracies: list[float], *, n_items: int = 1000, n_seeds: int = 3, seed: int = 0) -> list[Bools]:
    draw = np.random.default_rng(seed)
    hardness = draw.random(n_items)
    # Items are mostly hard or easy for all: one in ten is answered by luck.
    lucky = [draw.random((n_seeds, n_items)) < 0.1 for _ in accuracies]
    return [np.where(luck, draw.random(luck.shape), hardness) < a for a, luck in zip(accuracies, lucky, strict=True)]


def test_points_near_the_best_are_tied_and_others_are_not() -> None:
    found = line_separability(_points([0.60, 0.795, 0.80, 0.70]))
    assert found.best == 2
    assert found.tied == (False, True, True, False)
    assert found.differences[0].difference == pytest.approx(0.2, abs=0.03)
    assert found.differences[2].difference == 0


def test_pairing_separates_points_whose_own_intervals_overlap() -> None:
    points = _points([0.75, 0.79])
    low, _ = wilson_interval(float(points[1].mean()), 1000)
    _, high = wilson_interval(float(points[0].mean()), 1000)
    assert low < high
    assert line_separability(points).tied == (False, True)
    assert frontier_groups(points) == (0, 1)


def test_of_many_equal_points_seldom_any_is_told_apart() -> None:
    found = [line_separability(_points([0.7] * 6, n_items=300, seed=seed)) for seed in range(100)]
    assert np.mean([not all(one.tied) for one in found]) <= 0.05
    steps = [frontier_groups(_points([0.7] * 6, n_items=300, seed=seed)) for seed in range(100)]
    assert np.mean([groups[-1] > 0 for groups in steps]) <= 0.05


def test_one_point_is_the_best_of_itself() -> None:
    found = line_separability(_points([0.7]))
    assert (found.best, found.tied, found.p_values) == (0, (True,), (1.0,))
    assert frontier_groups(_points([0.7])) == (0,)


def test_no_point_is_refused_where_a_best_is_asked_for() -> None:
    assert frontier_groups([]) == ()
    with pytest.raises(ValueError, match="no points"):
        line_separability([])


def test_a_slow_rise_becomes_a_step_once_it_is_proven() -> None:
    groups = frontier_groups(_points([0.70, 0.702, 0.75, 0.752, 0.85]))
    assert groups == (0, 0, 1, 1, 2)


def test_a_dearer_point_that_is_worse_begins_no_group() -> None:
    assert frontier_groups(_points([0.80, 0.60, 0.90])) == (0, 0, 1)


def test_the_order_of_a_lines_points_does_not_matter() -> None:
    points = _points([0.60, 0.795, 0.80, 0.70])
    forward, backward = line_separability(points), line_separability(points[::-1])
    assert backward.best == 3 - forward.best
    assert backward.tied == forward.tied[::-1]
    assert backward.p_values == pytest.approx(forward.p_values[::-1])
