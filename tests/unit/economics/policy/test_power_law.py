from __future__ import annotations

import pytest

from isocost.economics.frontier import ObservedPoint
from isocost.economics.policy.inputs import PolicyInputs, SourceState
from isocost.economics.policy.power_law import PowerLawPolicy, fit_power_law, predicted_accuracies

_WEAK = {100: 0.60, 200: 0.65, 400: 0.68}
_HUMAN = {10: 0.55, 20: 0.62, 40: 0.70}
_RUNS = [ObservedPoint("m", n, 0, 0, accuracy, 0) for n, accuracy in _WEAK.items()] + [
    ObservedPoint("m", 0, n, 0, accuracy, 0) for n, accuracy in _HUMAN.items()
]


def test_a_law_is_recovered_from_its_own_points() -> None:
    counts = [8, 32, 128, 512]
    law = fit_power_law(counts, [0.6 * n**-0.4 + 0.1 for n in counts])
    assert law is not None
    assert law.error(10_000) == pytest.approx(0.6 * 10_000**-0.4 + 0.1, abs=1e-3)
    assert fit_power_law([], []) is None


def test_few_points_are_fitted_as_well() -> None:
    law = fit_power_law([50], [0.4])
    assert law is not None
    assert law.error(50) == pytest.approx(0.4, abs=1e-3)
    assert law.error(500) < 0.4


def test_gains_over_guessing_add_up_to_at_most_1() -> None:
    weak, human, both = predicted_accuracies(_RUNS, 2, [(400, 0), (0, 40), (400, 40)])
    assert weak == pytest.approx(0.68, abs=0.01)
    assert human == pytest.approx(0.70, abs=0.01)
    assert both == pytest.approx(0.5 + (weak - 0.5) + (human - 0.5))
    assert predicted_accuracies(_RUNS, 2, [(10**8, 10**8)]) == [1.0]


def test_a_kind_that_was_not_seen_alone_teaches_nothing() -> None:
    only_human = [run for run in _RUNS if run.n_weak == 0]
    with_weak, without = predicted_accuracies(only_human, 2, [(400, 40), (0, 40)])
    assert with_weak == without


def test_after_the_pilot_all_money_goes_to_the_best_prediction() -> None:
    menu = tuple((w, h) for w in (0, 100, 200, 400, 1600) for h in (0, 10, 20, 40, 160) if w or h)
    given = PolicyInputs(
        weak=(SourceState("weak", 1, 100),),
        human=(SourceState("human", 10, 10),),
        available_micros=1800,
        tranche_micros=1800,
        n_items_free=10_000,
        observations=tuple(run for run in _RUNS if run.n_weak <= 100 and run.n_human <= 10),
        menu=menu,
    )
    decision = PowerLawPolicy().decide(given)
    bought = 100 + decision.n_labels("weak"), 10 + decision.n_labels("human")
    within = [(w, h) for w, h in menu if w >= 100 and h >= 10 and w + 10 * h <= 2000]
    predicted = dict(zip(within, predicted_accuracies(given.observations, 2, within), strict=True))
    assert predicted[bought] == max(predicted.values())
    assert bought != (100, 10)
