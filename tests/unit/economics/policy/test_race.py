from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from isocost.economics.frontier import ObservedPoint
from isocost.economics.policy.inputs import PolicyInputs, SourceState
from isocost.economics.policy.options import Options
from isocost.economics.policy.race import Raced, choose, doubling_gains

Mix = tuple[int, int]


def _inputs(seen: Mapping[Mix, float], available_micros: int = 10_000) -> PolicyInputs:
    return PolicyInputs(
        weak=(SourceState("weak", 10, max((mix[0] for mix in seen), default=0)),),
        human=(SourceState("human", 100, max((mix[1] for mix in seen), default=0)),),
        available_micros=available_micros,
        tranche_micros=available_micros,
        n_items_free=100_000,
        observations=tuple(ObservedPoint("m", *mix, 0, accuracy, 0) for mix, accuracy in seen.items()),
    )


def _gains(seen: Mapping[Mix, float]) -> list[float | None]:
    return list(doubling_gains(_inputs(seen)))


def _choose(seen: Mapping[Mix, float], available_micros: int = 10_000) -> Raced | None:
    inputs = _inputs(seen, available_micros)
    return choose(inputs, Options(inputs, inputs.weak[0], inputs.human[0]))


def test_the_last_doubling_of_each_source_is_read_off_the_largest_mixes() -> None:
    seen = {(100, 10): 0.60, (200, 10): 0.64, (200, 20): 0.71, (100, 20): 0.68, (50, 10): 0.1, (200, 5): 0.2}
    assert _gains(seen) == pytest.approx([0.71 - 0.68, 0.71 - 0.64])


def test_several_doublings_at_once_are_shared_out() -> None:
    assert _gains({(100, 20): 0.6, (400, 20): 0.7, (400, 5): 0.5}) == pytest.approx([0.05, 0.1])


def test_seeds_of_a_mix_are_averaged() -> None:
    inputs = _inputs({(100, 10): 0.6, (200, 10): 0.7})
    lucky = ObservedPoint("m", 200, 10, 1, 0.9, 0)
    assert doubling_gains(replace(inputs, observations=(*inputs.observations, lucky)))[0] == pytest.approx(0.2)


@pytest.mark.parametrize(
    "seen",
    [
        {},
        {(200, 20): 0.7},
        # Less than a doubling, and a doubling of both at once.
        {(200, 20): 0.7, (150, 20): 0.6, (200, 15): 0.6, (100, 10): 0.5},
        # Labels that there were none of were not doubled.
        {(200, 20): 0.7, (0, 20): 0.6, (200, 0): 0.5},
    ],
)
def test_no_pair_shows_nothing(seen: dict[Mix, float]) -> None:
    assert _gains(seen) == [None, None]
    assert _choose(seen) is None


def test_one_source_alone_is_no_race() -> None:
    seen = {(100, 20): 0.6, (200, 20): 0.7}
    assert _gains(seen)[0] == pytest.approx(0.1)
    assert _gains(seen)[1] is None
    assert _choose(seen) is None


def test_the_source_that_brought_more_is_bought() -> None:
    # The money doubles either about once.
    weak_wins = _choose({(100, 20): 0.60, (200, 20): 0.70, (200, 10): 0.70}, 3_000)
    human_wins = _choose({(100, 20): 0.70, (200, 20): 0.70, (200, 10): 0.60}, 3_000)
    assert weak_wins is not None
    assert (weak_wins.option.n_weak > 0, weak_wins.option.n_human) == (True, 0)
    assert human_wins is not None
    assert (human_wins.option.n_weak, human_wins.option.n_human > 0) == (0, True)
    assert "weak labels brought +0.100" in weak_wins.reason
    assert "one of the human labels +0.000" in weak_wins.reason


def test_a_loss_is_not_held_against_the_other_source() -> None:
    raced = _choose({(100, 20): 0.60, (200, 20): 0.70, (200, 10): 0.95})
    assert raced is not None
    assert raced.option.n_weak > 0


def test_both_are_bought_where_both_brought_something() -> None:
    raced = _choose({(100, 20): 0.60, (200, 20): 0.70, (200, 10): 0.60})
    assert raced is not None
    assert raced.option.n_weak > 0
    assert raced.option.n_human > 0


def test_it_extrapolates_no_further_than_it_saw() -> None:
    # All options double the weak labels many times: of equally good ones the cheapest is taken.
    seen = {(2, 2): 0.60, (4, 2): 0.70, (4, 1): 0.70}
    inputs = _inputs(seen, 100_000)
    options = Options(inputs, inputs.weak[0], inputs.human[0])
    raced = choose(inputs, options)
    assert raced is not None
    assert raced.option.cost_micros == min(one.cost_micros for one in options.first if one.n_weak)


def test_nothing_is_chosen_where_no_doubling_brought_anything() -> None:
    assert _choose({(100, 20): 0.70, (200, 20): 0.70, (200, 10): 0.75}) is None
