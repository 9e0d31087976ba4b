from __future__ import annotations

from dataclasses import replace

import pytest

from isocost.economics.frontier import ObservedPoint
from isocost.economics.policy.adaptive import AdaptivePolicy
from isocost.economics.policy.inputs import PolicyInputs, SourceState
from isocost.economics.policy.source_choice import rank_sources

_UNIT = 1_000_000
_WEAK = SourceState("weak", _UNIT // 100, accuracy=0.75)
_EXPERT = SourceState("expert", _UNIT, accuracy=0.98)


def _weak(source_id: str, price: float, accuracy: float | None) -> SourceState:
    return SourceState(source_id, round(price * _UNIT), accuracy=accuracy)


_human = _weak


def _inputs(weak: tuple[SourceState, ...], human: tuple[SourceState, ...], available: int = 500) -> PolicyInputs:
    return PolicyInputs(
        weak=weak,
        human=human,
        available_micros=available * _UNIT,
        tranche_micros=available * _UNIT // 4,
        n_items_free=1_000_000,
    )


def _best_weak(*sources: SourceState) -> str:
    return rank_sources(_inputs(sources, (_EXPERT,)))[0].weak_source_id


def _best_human(*sources: SourceState) -> str:
    return rank_sources(_inputs((_WEAK,), sources))[0].human_source_id


@pytest.mark.parametrize("turned", [False, True])
def test_the_better_of_two_sources_at_one_price_ranks_first(turned: bool) -> None:
    step = -1 if turned else 1
    assert _best_weak(*(_weak("poor", 0.01, 0.65), _weak("good", 0.01, 0.85))[::step]) == "good"
    assert _best_human(*(_human("poor", 1, 0.7), _human("good", 1, 0.95))[::step]) == "good"


@pytest.mark.parametrize("turned", [False, True])
def test_the_cheaper_of_two_equally_good_sources_ranks_first(turned: bool) -> None:
    step = -1 if turned else 1
    assert _best_weak(*(_weak("dear", 0.1, 0.8), _weak("cheap", 0.01, 0.8))[::step]) == "cheap"
    assert _best_human(*(_human("dear", 10, 0.95), _human("cheap", 1, 0.95))[::step]) == "cheap"


def test_a_crowd_at_a_tenth_of_the_price_beats_experts_unless_it_guesses() -> None:
    expert = _human("expert", 10, 0.97)
    assert _best_human(expert, _human("crowd", 1, 0.9)) == "crowd"
    assert _best_human(expert, _human("crowd", 1, 0.55)) == "expert"


def test_every_pair_is_ranked_by_what_it_promises() -> None:
    weak = _weak("a", 0.01, 0.7), _weak("b", 0.05, 0.85)
    human = _human("expert", 10, 0.97), _human("crowd", 1, 0.9)
    pairs = rank_sources(_inputs(weak, human))
    assert {(pair.weak_source_id, pair.human_source_id) for pair in pairs} == {
        (one.source_id, other.source_id) for one in weak for other in human
    }
    promised = [pair.accuracy_final for pair in pairs]
    assert promised == sorted(promised, reverse=True)
    assert all(0.5 < accuracy <= 1.0 for accuracy in promised)


def test_of_equally_good_sources_the_first_given_ranks_first() -> None:
    for names in (("a", "b"), ("b", "a")):
        assert _best_weak(*(_weak(name, 0.01, 0.8) for name in names)) == names[0]


def test_adaptive_buys_of_the_pair_that_ranks_first() -> None:
    inputs = _inputs(
        (_weak("a", 0.01, 0.65), _weak("b", 0.01, 0.85)), (_human("expert", 10, 0.97), _human("crowd", 1, 0.9))
    )
    best = rank_sources(inputs)[0]
    decision = AdaptivePolicy().decide(inputs)
    assert {one.source_id for one in decision.purchases} <= {best.weak_source_id, best.human_source_id}
    assert decision.explanation is not None
    # All sources are told of, those of the pair first.
    told = [tranche.source_id for tranche in decision.explanation.tranches]
    assert sorted(told) == ["a", "b", "crowd", "expert"]
    assert set(told[:2]) == {best.weak_source_id, best.human_source_id}


def test_runs_on_the_labels_of_a_source_speak_for_it() -> None:
    weak = _weak("a", 0.01, None), _weak("b", 0.01, None)
    runs = [
        ObservedPoint("m", n, 0, 0, accuracy, 0, source_id)
        for source_id, accuracies in (("a", {500: 0.7, 1000: 0.78}), ("b", {500: 0.5, 1000: 0.5}))
        for n, accuracy in accuracies.items()
    ]
    inputs = _inputs(tuple(replace(source, n_bought=1000) for source in weak), (_EXPERT,), available=50)
    assert rank_sources(replace(inputs, observations=tuple(runs)))[0].weak_source_id == "a"
    turned = [replace(run, weak_source_id={"a": "b", "b": "a"}[run.weak_source_id]) for run in runs]
    assert rank_sources(replace(inputs, observations=tuple(turned)))[0].weak_source_id == "b"


def test_the_ranking_is_the_same_every_time_and_knows_nothing_held_out() -> None:
    inputs = _inputs((_WEAK,), (_EXPERT,))
    assert rank_sources(inputs) == rank_sources(inputs)
    assert rank_sources(inputs, ["sciq"]) != rank_sources(inputs)
