import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocost.economics.frontier import ObservedPoint
from isocost.economics.policy import GAIN_PRIOR, GAIN_PRIOR_SD, SEED_SD, PolicyInputs, decide
from isocost.economics.regime import Regime


def _inputs(
    accuracies: dict[tuple[int, int], float], *, n_weak: int = 160, n_human: int = 32, available: int = 100_000_000
) -> PolicyInputs:
    return PolicyInputs(
        weak_price_micros=100_000,
        human_price_micros=1_000_000,
        available_micros=available,
        tranche_micros=40_000_000,
        n_weak=n_weak,
        n_human=n_human,
        n_items_free=10_000,
        observations=tuple(ObservedPoint("m", w, h, 0, a, 200) for (w, h), a in accuracies.items()),
    )


def test_buys_human_labels_where_weak_labels_have_stopped_helping() -> None:
    decision = decide(_inputs({(160, 32): 0.74, (80, 32): 0.95, (160, 16): 0.65, (160, 0): 0.7, (0, 32): 0.6}))
    assert (decision.n_weak, decision.n_human) == (0, 40)
    assert "weak labels have stopped helping" in decision.reason


def test_the_expected_gain_is_the_rules() -> None:
    """By hand: observed +.09 with its variance, the prior, log2((32 + 40) / 32) doublings."""
    decision = decide(_inputs({(160, 32): 0.74, (160, 16): 0.65}))
    assert "the last doubling brought +0.090" in decision.reason

    def variance(accuracy: float) -> float:
        adjusted = (accuracy * 200 + 2) / 204
        return adjusted * (1 - adjusted) / 200 + SEED_SD**2

    precision, prior = 1 / (variance(0.74) + variance(0.65)), 1 / GAIN_PRIOR_SD**2
    expected = (0.09 * precision + GAIN_PRIOR * prior) / (precision + prior)
    assert decision.human_gain == pytest.approx(expected * 1.169925, abs=1e-6)


def test_seeds_make_an_observed_doubling_weigh_more() -> None:
    once = _inputs({(160, 32): 0.85, (160, 16): 0.65})
    thrice = dataclasses.replace(
        once, observations=tuple(dataclasses.replace(o, seed=seed) for o in once.observations for seed in range(3))
    )
    assert decide(thrice).human_gain > decide(once).human_gain


def test_one_unlucky_run_does_not_stop_a_campaign() -> None:
    decision = decide(_inputs({(160, 32): 0.74, (80, 32): 0.76, (160, 16): 0.76}))
    assert not decision.stop


def test_buys_weak_labels_where_only_they_help() -> None:
    decision = decide(_inputs({(160, 32): 0.74, (80, 32): 0.68, (160, 16): 0.80, (160, 0): 0.73, (0, 32): 0.55}))
    assert (decision.n_weak, decision.n_human) == (400, 0)


def test_stops_where_no_doubling_helps() -> None:
    decision = decide(_inputs({(160, 32): 0.74, (80, 32): 0.90, (160, 16): 0.90}))
    assert decision.stop
    assert "no tranche is worth its price" in decision.reason


def test_stops_where_the_money_is_spent() -> None:
    decision = decide(_inputs({(160, 32): 0.74, (80, 32): 0.6, (160, 16): 0.6}, available=99_999))
    assert decision.stop
    assert "money" in decision.reason


def test_stops_where_the_pool_is_empty() -> None:
    inputs = dataclasses.replace(_inputs({(160, 32): 0.74}), n_items_free=0)
    assert decide(inputs).stop


def test_spends_the_rest_on_the_source_that_it_still_buys() -> None:
    decision = decide(_inputs({(160, 32): 0.74, (80, 32): 0.2, (160, 16): 0.74}, available=900_000))
    assert (decision.n_weak, decision.n_human) == (9, 0)


@pytest.mark.parametrize(
    ("weak", "human", "mixed", "regime"),
    [
        (0.7, 0.6, 0.75, Regime.MIXED),
        (0.7, 0.6, 0.65, Regime.QUANTITY_DOMINANT),
        (0.6, 0.9, 0.8, Regime.QUALITY_DOMINANT),
    ],
)
def test_names_the_regime(weak: float, human: float, mixed: float, regime: Regime) -> None:
    assert decide(_inputs({(160, 0): weak, (0, 32): human, (160, 32): mixed})).regime is regime


def test_the_regime_is_unknown_until_all_three_were_seen() -> None:
    assert decide(_inputs({(160, 0): 0.9, (0, 32): 0.8})).regime is Regime.UNSPECIFIED


@given(
    st.integers(1, 10**7),
    st.integers(1, 10**7),
    st.integers(0, 10**9),
    st.integers(0, 10**9),
    st.integers(0, 5000),
    st.integers(0, 5000),
    st.integers(0, 5000),
    st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 5000), st.floats(0, 1)), max_size=8),
)
def test_never_spends_more_than_the_tranche_the_money_and_the_pool(
    weak_price: int,
    human_price: int,
    available: int,
    tranche: int,
    n_weak: int,
    n_human: int,
    n_free: int,
    observed: list[tuple[int, int, float]],
) -> None:
    inputs = PolicyInputs(
        weak_price,
        human_price,
        available,
        tranche,
        n_weak,
        n_human,
        n_free,
        tuple(ObservedPoint("m", w, h, 0, a, 100) for w, h, a in observed),
    )
    decision = decide(inputs)
    assert decision == decide(inputs)
    assert decision.n_weak * weak_price + decision.n_human * human_price <= min(available, tranche)
    assert decision.n_weak + decision.n_human <= n_free
    assert decision.reason
