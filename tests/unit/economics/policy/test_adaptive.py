from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from isocost.economics.frontier import ObservedPoint
from isocost.economics.mixes import round_mixes
from isocost.economics.policy import adaptive as adaptive_module
from isocost.economics.policy import race
from isocost.economics.policy.adaptive import AdaptivePolicy
from isocost.economics.policy.decision import PolicyDecision
from isocost.economics.policy.forecast import Forecast
from isocost.economics.policy.inputs import PolicyInputs, SourceState
from isocost.economics.policy.options import Options
from isocost.economics.policy.prior import surface_prior

_ROOT = Path(__file__).parents[4]
_MODULE = "tests.unit.economics.policy.test_adaptive"
_UNIT = 1_000_000
_POLICY = AdaptivePolicy()

Mix = tuple[int, int]


def _inputs(
    seen: Mapping[Mix, float],
    *,
    available: float = 500,
    tranche: float = 200,
    weak_price: float = 0.01,
    n_eval: int | None = 0,
    n_choices: int = 2,
    gain_min: float = 0.005,
) -> PolicyInputs:
    return PolicyInputs(
        weak=(SourceState("weak", round(weak_price * _UNIT), max((mix[0] for mix in seen), default=0)),),
        human=(SourceState("human", _UNIT, max((mix[1] for mix in seen), default=0)),),
        available_micros=round(available * _UNIT),
        tranche_micros=round(tranche * _UNIT),
        n_items_free=1_000_000,
        observations=tuple(
            ObservedPoint("m", w, h, 0, accuracy, n_eval or 0, "weak" if w else "", "human" if h else "")
            for (w, h), accuracy in seen.items()
        ),
        n_choices=n_choices,
        gain_min=gain_min,
        n_eval=n_eval,
    )


_USUAL = {(0, 32): 0.62, (0, 64): 0.71, (500, 0): 0.66, (1000, 0): 0.7, (1000, 32): 0.72, (1000, 64): 0.76}
#: Human labels hurt, against all experience.
_ABSURD = {
    (0, 16): 0.95, (0, 32): 0.9, (0, 64): 0.7, (0, 128): 0.5, (100, 0): 0.5, (200, 0): 0.6, (400, 0): 0.7,
    (200, 128): 0.6, (400, 128): 0.75,
}  # fmt: skip


def _everywhere(accuracy: float) -> dict[Mix, float]:
    return {(w, h): accuracy for w in (0, 500, 1000, 2000, 4000) for h in (0, 32, 64, 128, 256) if w or h}


def decided() -> str:
    """Everything about some decisions."""
    cases = [_inputs({}), _inputs(_USUAL), _inputs(_USUAL, n_eval=200), _inputs(_ABSURD), _inputs(_USUAL, n_eval=None)]
    return "\n".join(repr(_POLICY.decide(case)) for case in cases) + f"\n{_POLICY.choose_n_eval(_inputs({}))}"


def test_the_same_inputs_give_the_same_decision() -> None:
    assert decided() == decided()


def test_the_decision_is_the_same_in_every_process() -> None:
    printed = [
        subprocess.run(
            [sys.executable, "-c", f"from {_MODULE} import decided; print(decided())"],
            cwd=_ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    ]
    assert printed == [decided(), decided()]


def test_the_order_of_the_observations_does_not_matter() -> None:
    inputs = _inputs(_USUAL)
    expected = _POLICY.decide(inputs)
    for seed in range(3):
        runs = list(inputs.observations)
        Random(seed).shuffle(runs)
        found = _POLICY.decide(replace(inputs, observations=tuple(runs)))
        assert [(one.source_id, one.n_labels) for one in found.purchases] == [
            (one.source_id, one.n_labels) for one in expected.purchases
        ]


def _play(
    surface: Callable[[int, int], float], *, available: float, tranche: float, n_choices: int
) -> list[tuple[Mix, PolicyDecision]]:
    """Buys until the policy stops, with exact accuracies of the mixes that a round trains."""
    inputs = _inputs({}, available=available, tranche=tranche, n_choices=n_choices)
    seen: dict[Mix, float] = {}
    bought = (0, 0)
    steps: list[tuple[Mix, PolicyDecision]] = []
    while True:
        decision = _POLICY.decide(inputs)
        steps.append((bought, decision))
        if decision.stop:
            return steps
        more = decision.n_labels("weak"), decision.n_labels("human")
        cost = more[0] * inputs.weak[0].price_micros + more[1] * inputs.human[0].price_micros
        assert min(more) >= 0
        assert sum(more) > 0
        assert cost <= min(inputs.tranche_micros, inputs.available_micros)
        bought = bought[0] + more[0], bought[1] + more[1]
        seen.update({mix: surface(*mix) for mix in round_mixes(*bought)})
        inputs = replace(
            inputs,
            weak=(replace(inputs.weak[0], n_bought=bought[0]),),
            human=(replace(inputs.human[0], n_bought=bought[1]),),
            available_micros=inputs.available_micros - cost,
            observations=_inputs(seen).observations,
        )


@pytest.mark.parametrize("n_choices", [2, 4])
def test_a_campaign_ends_and_its_forecasts_stay_between_chance_and_1(n_choices: int) -> None:
    chance = 1 / n_choices

    def surface(n_weak: int, n_human: int) -> float:
        worth = n_human + min(0.1 * n_weak, 60)
        return chance + (0.95 - chance) * worth / (worth + 100)

    steps = _play(surface, available=400, tranche=100, n_choices=n_choices)
    (mix, last), first = steps[-1], steps[0][1]
    assert not first.stop
    assert last.stop
    assert last.reason.startswith("stop: ")
    assert 3 <= len(steps) <= 20
    # It is worth buying to the end here.
    assert mix[0] * 0.01 + mix[1] > 380
    for _, decision in steps:
        explanation = decision.explanation
        assert explanation is not None
        assert chance <= explanation.accuracy_now <= explanation.accuracy_final <= 1.0
        assert sum(point.probability_best for point in explanation.line) == pytest.approx(1.0)
        for point in explanation.line:
            assert chance <= point.accuracy <= 1.0
            assert 0.0 <= point.accuracy_low <= point.accuracy <= point.accuracy_high <= 1.0


def test_four_choices_are_decided_as_two_of_the_same_difficulty() -> None:
    two = _POLICY.decide(_inputs(_USUAL))
    four = _POLICY.decide(_inputs({mix: 0.25 + 1.5 * (a - 0.5) for mix, a in _USUAL.items()}, n_choices=4))
    assert two.explanation is not None
    assert four.explanation is not None
    assert [(one.source_id, one.n_labels) for one in four.purchases] == [
        (one.source_id, one.n_labels) for one in two.purchases
    ]
    assert four.explanation.accuracy_now == pytest.approx(0.25 + 1.5 * (two.explanation.accuracy_now - 0.5))
    for one, other in zip(four.explanation.tranches, two.explanation.tranches, strict=True):
        assert one.gain == pytest.approx(1.5 * other.gain, abs=1e-6)


# Stopping ------------------------------------------------------------------------------------------------------------


def test_it_stops_where_nothing_more_can_be_won() -> None:
    decision = _POLICY.decide(_inputs(_everywhere(0.997)))
    assert decision.stop
    assert decision.reason.startswith("stop: no purchase is worth its price any more")
    assert decision.explanation is not None
    for tranche in decision.explanation.tranches:
        assert tranche.gain <= 0.003 + 1e-6
        assert tranche.final_gain <= 0.003 + 1e-6


def test_it_buys_all_the_same_where_money_is_worth_nothing() -> None:
    assert not _POLICY.decide(_inputs(_everywhere(0.997), gain_min=0.0)).stop


def test_it_stops_below_the_gain_that_is_asked_for() -> None:
    gains = [_POLICY.decide(_inputs(_USUAL, gain_min=gain_min)).stop for gain_min in (0.0, 0.005, 0.9)]
    assert gains == [False, False, True]


def test_the_first_purchase_is_made_whatever_it_brings() -> None:
    assert not _POLICY.decide(_inputs({}, gain_min=0.9)).stop


@pytest.mark.parametrize("seen", [{}, _USUAL])
def test_it_stops_where_nothing_can_be_bought(seen: dict[Mix, float]) -> None:
    poor = _POLICY.decide(_inputs(seen, available=0.005, tranche=0.005))
    assert poor.stop
    assert "the money left buys no label" in poor.reason
    empty = _POLICY.decide(replace(_inputs(seen), n_items_free=0))
    assert empty.stop
    assert "no free item" in empty.reason
    menu = _POLICY.decide(replace(_inputs(seen), menu=((1000, 64),), available_micros=10))
    assert menu.stop
    assert "the money left buys nothing more" in menu.reason


# What is bought ------------------------------------------------------------------------------------------------------


def test_human_labels_are_bought_where_weak_ones_have_stopped_helping() -> None:
    seen = {(w, 0): 0.70 for w in (500, 1000, 2000, 4000)}
    seen |= {(0, 32): 0.62, (0, 64): 0.72, (0, 128): 0.79, (4000, 64): 0.74, (2000, 128): 0.80, (4000, 128): 0.80}
    decision = _POLICY.decide(_inputs(seen, weak_price=0.1, n_eval=200))
    assert decision.n_labels("human") > 0
    assert decision.n_labels("weak") == 0
    assert "weak labels have stopped helping" in decision.reason
    assert decision.explanation is not None
    gains = {tranche.source_id: tranche.gain for tranche in decision.explanation.tranches}
    assert gains["human"] > gains["weak"] + 0.02
    # Not so where weak labels still help.
    rising = {mix: 0.60 + 0.05 * index for index, mix in enumerate([(500, 0), (1000, 0), (2000, 0), (4000, 0)])}
    assert "weak labels have stopped" not in _POLICY.decide(_inputs(rising, weak_price=0.1, n_eval=200)).reason


@pytest.mark.parametrize("seen", [{}, {(100, 0): 0.55, (200, 0): 0.6}])
def test_weak_labels_are_bought_where_the_money_buys_a_handful_of_human_ones(seen: dict[Mix, float]) -> None:
    decision = _POLICY.decide(_inputs(seen, available=8, tranche=8))
    assert decision.n_labels("weak") == 800
    assert decision.n_labels("human") == 0


def test_the_tranches_and_the_words_tell_the_same() -> None:
    decision = _POLICY.decide(_inputs(_USUAL))
    explanation = decision.explanation
    assert explanation is not None
    assert [(one.source_id, one.n_labels) for one in explanation.tranches] == [("weak", 20_000), ("human", 200)]
    for tranche in explanation.tranches:
        assert tranche.cost_micros == 200 * _UNIT
        assert tranche.final_gain >= tranche.gain
        assert f"{tranche.n_labels:,} of {tranche.source_id} alone {tranche.gain:+.3f} at once" in decision.reason
    assert f"{explanation.accuracy_now:.3f}" in decision.reason
    assert f"{explanation.regime_probability:.0%}" in decision.reason
    for purchase in decision.purchases:
        assert f"{purchase.n_labels:,} {purchase.source_id} labels" in decision.reason


def test_without_measurements_it_buys_by_other_tasks_and_ships_its_best_forecast() -> None:
    decision = _POLICY.decide(_inputs({}, n_eval=None))
    assert not decision.stop
    assert "other tasks are the guide" in decision.reason
    menu = tuple((w, h) for w in (0, 1000, 10_000) for h in (0, 16, 64) if w or h)
    blind = replace(_inputs({}, n_eval=None), menu=menu)
    bought = replace(
        blind, weak=(replace(blind.weak[0], n_bought=10_000),), human=(replace(blind.human[0], n_bought=16),)
    )
    forecast = Forecast(bought, bought.weak[0], bought.human[0], surface_prior())
    at_hand = [mix for mix in menu if mix[1] <= 16]
    means = {mix: float(forecast.posterior.mean[forecast.options.row(mix)]) for mix in at_hand}
    assert _POLICY.decide(bought).shipped == max(means, key=lambda mix: means[mix])
    assert _POLICY.decide(blind).shipped is None
    # With exact accuracies the caller sees which is the best.
    assert _POLICY.decide(replace(bought, n_eval=0)).shipped is None


def test_a_lucky_measurement_does_not_decide_what_is_shipped() -> None:
    menu = ((0, 16), (0, 256), (0, 1024))
    inputs = replace(_inputs({(0, 16): 0.9, (0, 256): 0.8, (0, 1024): 0.85}, n_eval=10), menu=menu)
    assert _POLICY.decide(inputs).shipped == (0, 1024)


def test_a_dataset_that_is_held_out_does_not_count() -> None:
    known, unknown = (
        AdaptivePolicy(held_out_datasets=names).decide(_inputs({})).explanation for names in ((), ("SciQ",))
    )
    assert known is not None
    assert unknown is not None
    assert known.accuracy_final != pytest.approx(unknown.accuracy_final, abs=1e-4)


# The guard -----------------------------------------------------------------------------------------------------------


def test_runs_that_contradict_the_posterior_are_decided_by_a_race(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = _inputs(_ABSURD)
    decision = _POLICY.decide(inputs)
    raced = race.choose(inputs, Options(inputs, inputs.weak[0], inputs.human[0]))
    assert raced is not None
    assert decision.reason == f"buy {raced.option.n_weak:,} weak labels: {raced.reason}"
    assert (decision.n_labels("weak"), decision.n_labels("human")) == (raced.option.n_weak, raced.option.n_human)
    assert decision.n_labels("weak") > 0
    monkeypatch.setattr(adaptive_module, "SURPRISE_MIN", 0.0)
    assert _POLICY.decide(inputs).reason != decision.reason


def test_usual_runs_are_not_raced() -> None:
    assert "contradict" not in _POLICY.decide(_inputs(_USUAL)).reason
    # Nor absurd ones where no pair of mixes shows what a doubling brings.
    no_pair = {mix: accuracy for mix, accuracy in _ABSURD.items() if mix[0] == 0}
    assert "contradict" not in _POLICY.decide(_inputs(no_pair)).reason


# Evaluation labels ---------------------------------------------------------------------------------------------------


def test_evaluation_labels_are_bought_only_where_the_budget_is_large() -> None:
    counts = []
    for budget in (4, 64, 1024, 16_384):
        n_eval = _POLICY.choose_n_eval(_inputs({}, available=budget, tranche=budget, n_eval=None))
        assert n_eval is None or 0 < n_eval <= budget / 5
        counts.append(n_eval or 0)
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert counts[-1] > 0


def test_evaluation_labels_are_bought_only_where_measuring_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = _inputs({}, available=1024, tranche=1024, n_eval=None)
    counts = []
    for worth in (0.0, 1.0):
        monkeypatch.setattr(adaptive_module, "_MEASURING_WORTH", worth)
        counts.append(_POLICY.choose_n_eval(inputs))
    assert counts[0] is None
    assert counts[1] is not None
