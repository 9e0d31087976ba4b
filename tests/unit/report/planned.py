"""A plan with all that explains it."""

from __future__ import annotations

import math

from isocost.core.money import Money
from isocost.economics.frontier import ObservedPoint
from isocost.economics.policy.decision import LineForecast
from isocost.economics.policy.inputs import PolicyInputs, SourceState
from isocost.economics.regime import Regime
from isocost.resources.plan import Decision, Plan, PlanExplanation, Purchase, TrancheValue
from isocost.resources.plan_inputs import PlanInputs

__all__ = ["explained_plan"]

_N_MIXES = 11


def _line() -> tuple[LineForecast, ...]:
    """From 200 human labels to 2,000 weak ones, the best at 40 % weak."""
    shares = [index / (_N_MIXES - 1) for index in range(_N_MIXES)]
    weights = [math.exp(-(((share - 0.4) / 0.15) ** 2)) for share in shares]
    return tuple(
        LineForecast(
            weak_share=share,
            n_weak=round(2_000 * share),
            n_human=round(200 * (1 - share)),
            accuracy=0.82 - 0.3 * (share - 0.4) ** 2,
            accuracy_low=0.77 - 0.4 * (share - 0.4) ** 2,
            accuracy_high=0.86 - 0.2 * (share - 0.4) ** 2,
            probability_best=weight / sum(weights),
        )
        for share, weight in zip(shares, weights, strict=True)
    )


def explained_plan(plan_id: str = "p1") -> Plan:
    """It buys from a human source and a weak one; of the latter two, one was measured, the other on too few items."""
    policy = PolicyInputs(
        weak=(SourceState("weak", 100_000, 800, 0.75, 40), SourceState("weak<2>", 376, 0, None, 7)),
        human=(SourceState("human", 1_000_000, 40), SourceState("crowd", 300_000, 0, 0.9, 20)),
        available_micros=160_000_000,
        tranche_micros=30_000_000,
        n_items_free=5_000,
        observations=(ObservedPoint("sequential_sft", 800, 40, 0, 0.78, 100, "weak", "human"),),
    )
    inputs = PlanInputs(
        policy, {"weak": 100_000, "weak<2>": 1_000, "human": 1_000_000, "crowd": 300_000}, "USD", "claims"
    )
    return Plan(
        plan_id,
        "c",
        Decision.BUY,
        (Purchase("human", 20, Money(20_000_000), 0.01), Purchase("weak", 1, Money(100_000), 0.001)),
        "buy human labels: weak labels have stopped helping: a < b",
        Regime.MIXED,
        "adaptive",
        inputs.to_json(),
        explanation=PlanExplanation(
            _line(),
            0.724,
            (
                TrancheValue("weak", 300, Money(30_000_000), 0.0021, 0.0312),
                TrancheValue("weak<2>", 5_000, Money(1_880_000), -0.0012, 0.0287),
                TrancheValue("human", 30, Money(30_000_000), 0.0123, 0.0405),
                TrancheValue("crowd", 0, Money(0), -0.0004, 0.0),
            ),
            0.7812,
            0.8217,
        ),
    )
