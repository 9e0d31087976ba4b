"""Plans for people and for programs: the same words and cells in the report and on the terminal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from isocost.core.money import Money
from isocost.economics.interval import wilson_interval
from isocost.resources.plan import Plan

__all__ = [
    "LineRow",
    "PlanSourceRow",
    "TrancheRow",
    "decision_words",
    "line_rows",
    "plan_result",
    "regime_words",
    "source_rows",
    "tranche_rows",
]

_UNKNOWN = "-"


@dataclass(frozen=True, slots=True)
class LineRow:
    """One mix on the isocost line, as text.

    Attributes:
        weak_share: Of the cost of its labels.
        n_weak, n_human: Labels in all.
        accuracy, interval: Posterior mean, and 5 % to 95 % quantile.
        probability_best: That no other mix of the line is better.
        is_best: Whether no other mix is expected to be more accurate.
    """

    weak_share: str
    n_weak: str
    n_human: str
    accuracy: str
    interval: str
    probability_best: str
    is_best: bool


@dataclass(frozen=True, slots=True)
class TrancheRow:
    """What the next tranche would bring if it all went to one source, as text; gains in points of accuracy.

    Attributes:
        source: Its id.
        n_labels, cost: What the tranche buys of it.
        gain: Expected once it is spent, over stopping now.
        final_gain: Expected at the end, the rest spent as well as is then known.
    """

    source: str
    n_labels: str
    cost: str
    gain: str
    final_gain: str


@dataclass(frozen=True, slots=True)
class PlanSourceRow:
    """A source as the policy saw it, as text; "-" where a cell is not known.

    Attributes:
        source, kind: Its id; "weak" or "human".
        price: What one more label is expected to cost.
        n_bought: Labels bought to train on.
        accuracy, interval: Against human labels, with its 95 % interval.
        n_measured: Items that it was measured on.
    """

    source: str
    kind: str
    price: str
    n_bought: str
    accuracy: str
    interval: str
    n_measured: str


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _share(value: float) -> str:
    return f"{100 * value:.0f} %"


def _range(low: float, high: float) -> str:
    return f"{100 * low:.1f} to {100 * high:.1f}"


def _points(value: float) -> str:
    # Rounded first, and never minus zero.
    return f"{round(100 * value, 1) + 0.0:+.1f}"


def decision_words(plan: Plan) -> str:
    """What the plan says to do: "buy 50 human labels for $50.00", or "stop"."""
    if not plan.purchases:
        return "stop"
    return "buy " + " and ".join(
        f"{purchase.n_labels:,} {purchase.source_id} label{'' if purchase.n_labels == 1 else 's'} for {purchase.cost}"
        for purchase in plan.purchases
    )


def regime_words(plan: Plan) -> str:
    """The regime, with its probability where that is known."""
    if plan.explanation is None:
        return plan.regime.value
    return f"{plan.regime.value}, probability {_share(plan.explanation.regime_probability)}"


def line_rows(plan: Plan) -> list[LineRow]:
    """The posterior along the isocost line, all human first; empty where the plan has no explanation."""
    line = plan.explanation.line if plan.explanation else ()
    best = max(line, key=lambda forecast: forecast.accuracy, default=None)
    return [
        LineRow(
            weak_share=_share(forecast.weak_share),
            n_weak=f"{forecast.n_weak:,}",
            n_human=f"{forecast.n_human:,}",
            accuracy=_percent(forecast.accuracy),
            interval=_range(forecast.accuracy_low, forecast.accuracy_high),
            probability_best=_share(forecast.probability_best),
            is_best=forecast is best,
        )
        for forecast in line
    ]


def tranche_rows(plan: Plan) -> list[TrancheRow]:
    """The value of the next tranche of each source; empty where the plan has no explanation."""
    return [
        TrancheRow(
            source=value.source_id,
            n_labels=f"{value.n_labels:,}",
            cost=str(value.cost),
            gain=_points(value.gain),
            final_gain=_points(value.final_gain),
        )
        for value in (plan.explanation.tranches if plan.explanation else ())
    ]


def source_rows(plan: Plan) -> list[PlanSourceRow]:
    """What was known of each source; empty where another policy's inputs are stored with the plan."""
    if plan.inputs is None:
        return []
    policy = plan.inputs.policy
    rows = []
    for kind, states in (("weak", policy.weak), ("human", policy.human)):
        for state in states:
            known = state.accuracy is not None
            low, high = wilson_interval(state.accuracy or 0.0, state.n_measured) if state.n_measured else (0.0, 1.0)
            rows.append(
                PlanSourceRow(
                    source=state.source_id,
                    kind=kind,
                    price=str(Money(state.price_micros, plan.inputs.currency_code)),
                    n_bought=f"{state.n_bought:,}",
                    accuracy=_percent(state.accuracy) if state.accuracy is not None else _UNKNOWN,
                    interval=_range(low, high) if known and state.n_measured else _UNKNOWN,
                    n_measured=f"{state.n_measured:,}",
                )
            )
    return rows


def plan_result(plan: Plan) -> dict[str, Any]:
    """A plan as JSON. Amounts are in units of the currency, accuracies and gains between 0 and 1."""
    return {
        "plan_id": plan.plan_id,
        "policy": plan.policy,
        "decision": plan.decision.name.lower(),
        "regime": plan.regime.value,
        "reason": plan.reason,
        "purchases": [
            {
                "source": purchase.source_id,
                "n_labels": purchase.n_labels,
                "cost": purchase.cost.units,
                "expected_gain": purchase.expected_gain,
            }
            for purchase in plan.purchases
        ],
        "explanation": _explanation_result(plan),
    }


def _explanation_result(plan: Plan) -> dict[str, Any] | None:
    explanation = plan.explanation
    if explanation is None:
        return None
    return {
        "regime_probability": explanation.regime_probability,
        "accuracy_now": explanation.accuracy_now,
        "accuracy_final": explanation.accuracy_final,
        "line": [
            {
                "weak_share": forecast.weak_share,
                "n_weak": forecast.n_weak,
                "n_human": forecast.n_human,
                "accuracy": forecast.accuracy,
                "accuracy_interval": [forecast.accuracy_low, forecast.accuracy_high],
                "probability_best": forecast.probability_best,
            }
            for forecast in explanation.line
        ],
        "tranches": [
            {
                "source": value.source_id,
                "n_labels": value.n_labels,
                "cost": value.cost.units,
                "gain": value.gain,
                "final_gain": value.final_gain,
            }
            for value in explanation.tranches
        ],
    }
