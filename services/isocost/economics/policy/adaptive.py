"""Policy `adaptive`. (Being written: a stand-in that buys human labels with the whole tranche.)"""

from __future__ import annotations

from dataclasses import dataclass

from isocost.economics.policy.decision import Explanation, LineForecast, PolicyDecision, SourcePurchase, TrancheValue
from isocost.economics.policy.inputs import PolicyInputs
from isocost.economics.regime import Regime

__all__ = ["AdaptivePolicy"]


@dataclass(frozen=True, slots=True)
class AdaptivePolicy:
    """A stand-in."""

    name: str = "adaptive"
    held_out_datasets: tuple[str, ...] = ()

    def decide(self, inputs: PolicyInputs) -> PolicyDecision:
        """See `Policy`."""
        price = inputs.human[0].price_micros
        n_labels = min(inputs.tranche_micros, inputs.available_micros) // price
        n_labels = min(n_labels, inputs.n_items_free)
        if inputs.menu is not None:
            totals = [h for w, h in inputs.menu if w == inputs.n_weak and h - inputs.n_human <= n_labels]
            n_labels = max(totals, default=inputs.n_human) - inputs.n_human
        line = (LineForecast(0.0, inputs.n_weak, inputs.n_human + n_labels, 0.8, 0.7, 0.9, 1.0),)
        values = (TrancheValue(inputs.human[0].source_id, n_labels, n_labels * price, 0.02, 0.03),)
        explanation = Explanation(line, Regime.QUALITY_DOMINANT, 0.8, values, 0.7, 0.8)
        if n_labels <= 0:
            return PolicyDecision((), "stop: the money left buys no label", None, explanation)
        purchases = (SourcePurchase(inputs.human[0].source_id, n_labels, 0.02),)
        return PolicyDecision(purchases, "buy human labels", None, explanation)
