from __future__ import annotations

import statistics

import pytest

from isocost.replay.evaluation import Evaluation, EvaluationKind, measured_accuracy
from isocost.replay.surface import SurfacePoint

_BOUGHT = Evaluation(EvaluationKind.BOUGHT, 100)


def _measured(std: float | None, n_labels: int) -> list[float]:
    evaluation = Evaluation(EvaluationKind.BOUGHT, n_labels)
    return [measured_accuracy(SurfacePoint(0, 8, 0.7, std), evaluation, seed) for seed in range(2000)]


def test_exact_evaluation_is_the_files_accuracy_whatever_its_spread() -> None:
    assert measured_accuracy(SurfacePoint(0, 8, 0.7123, 0.2), Evaluation(EvaluationKind.EXACT), 3) == 0.7123


def test_the_noise_is_that_of_the_evaluation_labels() -> None:
    accuracies = _measured(None, 100)
    assert statistics.fmean(accuracies) == pytest.approx(0.7, abs=0.004)
    assert statistics.stdev(accuracies) == pytest.approx((0.7 * 0.3 / 100) ** 0.5, rel=0.07)
    assert all(round(accuracy * 100) == pytest.approx(accuracy * 100) for accuracy in accuracies)


def test_the_spread_over_seeds_comes_on_top() -> None:
    accuracies = _measured(0.05, 1_000_000)
    assert statistics.stdev(accuracies) == pytest.approx(0.05, rel=0.07)
    assert statistics.fmean(accuracies) == pytest.approx(0.7, abs=0.004)


def test_it_is_drawn_once_for_each_seed_and_point() -> None:
    points = [SurfacePoint(w, h, 0.7, 0.05) for w in range(6) for h in range(6)]
    drawn = {(point.mix, seed): measured_accuracy(point, _BOUGHT, seed) for point in points for seed in (0, 1)}
    again = {(point.mix, seed): measured_accuracy(point, _BOUGHT, seed) for seed in (1, 0) for point in points}
    assert drawn == again
    assert len(set(drawn.values())) > 10
    assert any(drawn[point.mix, 0] != drawn[point.mix, 1] for point in points)
    # (1, 2) and (2, 1) are two points.
    assert any(drawn[(w, h), 0] != drawn[(h, w), 0] for w in range(6) for h in range(w))


def test_an_accuracy_is_a_share_even_where_the_spread_reaches_further() -> None:
    accuracies = [measured_accuracy(SurfacePoint(0, 8, 0.99, 0.9), _BOUGHT, seed) for seed in range(50)]
    assert 0.0 <= min(accuracies) <= max(accuracies) == 1.0
