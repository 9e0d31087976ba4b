"""A decision in words, with the numbers behind it."""

from __future__ import annotations

from isocost.economics.policy.decision import Explanation
from isocost.economics.policy.forecast import Forecast
from isocost.economics.policy.inputs import PolicyInputs
from isocost.economics.policy.options import Option
from isocost.economics.policy.race import Raced
from isocost.economics.policy.target import Path
from isocost.economics.regime import Regime

__all__ = ["not_worth_it", "nothing_to_buy", "raced", "reached", "towards", "worth_it"]

_REGIMES = {
    Regime.QUANTITY_DOMINANT: "weak labels alone are best at this budget",
    Regime.MIXED: "a mix of both kinds is best at this budget",
    Regime.QUALITY_DOMINANT: "human labels alone are best at this budget",
}
#: A source whose tranche brings less has stopped helping.
_HELPS_MIN = 0.002


def nothing_to_buy(inputs: PolicyInputs) -> str:
    """Neither money nor items, nor anything on the menu."""
    if inputs.n_items_free == 0:
        return "stop: the pool has no free item left"
    if inputs.menu is not None:
        return "stop: the money left buys nothing more"
    cheapest = min(source.price_micros for source in (*inputs.weak, *inputs.human))
    if min(inputs.available_micros, inputs.tranche_micros) < cheapest:
        return "stop: the money left buys no label"
    return "stop: the money left buys too few labels to matter beside those at hand"


def _amount(forecast: Forecast, option: Option) -> str:
    parts = [
        f"{n_labels:,} {kind} labels{_named(source_id, kind)}"
        for n_labels, kind, source_id in (
            (option.n_weak, "weak", forecast.options.weak.source_id),
            (option.n_human, "human", forecast.options.human.source_id),
        )
        if n_labels
    ]
    return " and ".join(parts)


def _named(source_id: str, kind: str) -> str:
    return "" if source_id == kind else f" of {source_id}"


def _values(explanation: Explanation) -> str:
    parts = [
        f"{value.n_labels:,} of {value.source_id} alone {value.gain:+.3f} at once, {value.final_gain:+.3f} by the end"
        for value in explanation.tranches
        if value.n_labels
    ]
    return "; ".join(parts)


def _stopped(forecast: Forecast, explanation: Explanation) -> str:
    ended = [
        f"{kind} labels have stopped helping: "
        for source, kind in ((forecast.options.weak, "weak"), (forecast.options.human, "human"))
        for value in explanation.tranches
        if value.source_id == source.source_id and value.n_labels and source.n_bought and value.gain < _HELPS_MIN
    ]
    return ended[0] if len(ended) == 1 else ""


def _regime(explanation: Explanation) -> str:
    if explanation.regime is Regime.UNSPECIFIED:
        return ""
    # Nothing that was drawn so many times is certain.
    probability = min(explanation.regime_probability, 0.99)
    return f"; {_REGIMES[explanation.regime]} with probability {probability:.0%}"


def worth_it(forecast: Forecast, option: Option, gain: float, explanation: Explanation) -> str:
    """Why an option is bought."""
    seen = (
        f"the best model so far has an expected accuracy of {explanation.accuracy_now:.3f}"
        if len(forecast.seen)
        else "nothing was measured yet, so other tasks are the guide"
    )
    return (
        f"buy {_amount(forecast, option)}: {_stopped(forecast, explanation)}{seen}; spent as planned, what is "
        f"available is expected to bring {gain:+.3f} ({_values(explanation)}){_regime(explanation)}"
    )


def raced(forecast: Forecast, winner: Raced) -> str:
    """Why an option is bought that a race chose."""
    return f"buy {_amount(forecast, winner.option)}: {winner.reason}"


def not_worth_it(gain: float, inputs: PolicyInputs, explanation: Explanation) -> str:
    """Why nothing more is bought."""
    return (
        f"stop: no purchase is worth its price any more: the best of them is expected to bring {gain:+.3f}, and less "
        f"than {inputs.gain_min:.3f} is not bought ({_values(explanation)}); the best model has an expected accuracy "
        f"of {explanation.accuracy_now:.3f}{_regime(explanation)}"
    )


def reached(target_accuracy: float, explanation: Explanation) -> str:
    """Why nothing more is bought with a target."""
    return (
        f"stop: the target of {target_accuracy:.3f} is reached: the best model has an expected accuracy of "
        f"{explanation.accuracy_now:.3f}"
    )


def towards(forecast: Forecast, path: Path, target_accuracy: float, explanation: Explanation) -> str:
    """Why an option is bought with a target."""
    return (
        f"buy {_amount(forecast, path.option)}: they reach the target of {target_accuracy:.3f} with probability "
        f"{path.probability:.0%}, and reaching it typically costs {path.cost_micros / 1e6:,.2f} more; the best "
        f"model so far has an expected accuracy of {explanation.accuracy_now:.3f}"
    )
