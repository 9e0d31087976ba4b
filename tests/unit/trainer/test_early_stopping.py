from __future__ import annotations

from isocost.resources.method import StoppingRule
from isocost.trainer.stages.early_stopping import EarlyStopping


def _follow(
    scores: list[float | None], losses: list[float] | None = None, *, accuracy: float = 0.5
) -> tuple[EarlyStopping, int]:
    """Feeds evaluations until told to stop; returns how many were needed."""
    stopping = EarlyStopping(patience=4, min_improvement=0.01)
    for count, score in enumerate(scores, start=1):
        stopping.update(count * 10, score, losses[count - 1] if losses else 1.0, accuracy)
        if stopping.should_stop:
            return stopping, count
    return stopping, len(scores)


def test_it_stops_after_four_evaluations_without_improvement_and_keeps_the_best() -> None:
    stopping, count = _follow([0.6, 0.8, 0.7, 0.75, 0.79, 0.6, 0.99])
    assert (count, stopping.best_step, stopping.best_auroc) == (6, 20, 0.8)


def test_a_rise_below_the_threshold_buys_no_time() -> None:
    _, count = _follow([0.8, 0.805, 0.8, 0.8, 0.8, 0.9])
    assert count == 5


def test_slow_steady_rise_counts_once_it_adds_up() -> None:
    _, count = _follow([0.800, 0.804, 0.808, 0.812, 0.816, 0.820, 0.824, 0.828])
    assert count == 8


def test_a_falling_loss_goes_on_while_answers_are_wrong() -> None:
    losses = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3]
    assert _follow([0.9] * 8, losses)[1] == 8
    stopping, count = _follow([0.9] * 8, losses, accuracy=1.0)
    assert (count, stopping.best_step) == (5, 50)


def test_a_fall_of_the_loss_below_the_threshold_buys_no_time() -> None:
    assert _follow([0.9] * 8, [1.0, 0.999, 0.998, 0.997, 0.996, 0.995, 0.994, 0.993])[1] == 5


def test_of_scores_as_good_as_equal_the_lowest_loss_is_kept() -> None:
    stopping, _ = _follow([0.5, 1.0, 0.995, 0.9], [1.0, 0.9, 0.3, 0.1])
    assert (stopping.best_step, stopping.best_auroc) == (30, 0.995)


def test_a_higher_score_is_kept_whatever_its_loss() -> None:
    stopping, _ = _follow([0.5, 0.8, 0.7], [0.1, 0.9, 0.05])
    assert stopping.best_step == 20


def test_without_an_auroc_the_loss_decides_and_one_half_is_reported() -> None:
    stopping, count = _follow([None] * 9, [1.0, 0.5, 0.3, 0.31, 0.32, 0.33, 0.34, 0.1, 0.1])
    assert (count, stopping.best_step, stopping.best_auroc) == (7, 30, 0.5)


def test_a_threshold_of_zero_still_needs_a_rise() -> None:
    stopping = EarlyStopping(patience=2, min_improvement=0.0)
    for step in range(3):
        stopping.update(step, 0.7, 1.0, 0.5)
    assert stopping.should_stop


def test_the_papers_rule_looks_at_the_auroc_alone() -> None:
    stopping = EarlyStopping(4, 0.01, StoppingRule.AUROC)
    evaluations = [(0.9, 1.0), (0.905, 0.5), (0.905, 0.1), (0.8, 0.05), (0.9, 0.01)]
    kept = [stopping.update(step, auroc, loss, 0.5) for step, (auroc, loss) in enumerate(evaluations, start=1)]
    assert kept == [True, True, False, False, False]
    assert stopping.should_stop
    assert (stopping.best_step, stopping.best_auroc) == (2, 0.905)
