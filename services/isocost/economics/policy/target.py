"""The cheapest way to a target accuracy, under the posterior."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from isocost.economics.policy.forecast import Forecast
from isocost.economics.policy.inputs import PolicyInputs
from isocost.economics.policy.options import Option

__all__ = ["Path", "cheapest"]

#: What a draw of the surface costs that reaches the target nowhere, in terms of all the money.
_FAILURE_COST = 2.0


@dataclass(frozen=True, slots=True)
class Path:
    """A next purchase.

    Attributes:
        option: The purchase.
        cost_micros: What reaching the target through it typically (geometric mean) costs from now on.
        probability: That it reaches the target by itself.
    """

    option: Option
    cost_micros: int
    probability: float


def cheapest(inputs: PolicyInputs, forecast: Forecast, target_accuracy: float) -> Path:
    """The next purchase that makes reaching a target cheapest: of the lowest expected logarithm of the cost in all.

    In each draw of the surface a purchase costs its price where it reaches the target, and otherwise that of the
    cheapest larger one which does; where none does, twice the money. The cheapest larger one is known only to an
    oracle, so small purchases are favoured, which may be followed by others at no loss. The logarithm weighs twice the
    cost alike for tasks that are cheap and dear; the mean cost would be that of the few draws which hardly reach it.
    """
    options = forecast.options
    target = forecast.binary(target_accuracy)
    draws = forecast.lookahead.truth_sp
    spent = sum(source.n_bought * source.price_micros for source in (*inputs.weak, *inputs.human))
    every = list(dict.fromkeys([*options.first, *options.last, *(one for then in options.then for one in then)]))
    best_seen = draws[:, forecast.seen].max(axis=1) if len(forecast.seen) else np.full(len(draws), -np.inf)
    reached = {one: np.maximum(draws[:, one.sees].max(axis=1, initial=-np.inf), best_seen) >= target for one in every}
    chosen: tuple[float, Option] | None = None
    for option in options.first:
        later = np.full(len(draws), _FAILURE_COST * inputs.available_micros)
        for larger in every:
            if larger.total[0] >= option.total[0] and larger.total[1] >= option.total[1]:
                later = np.where(reached[larger], np.minimum(later, larger.cost_micros), later)
        cost = float(np.log(spent + np.where(reached[option], option.cost_micros, later)).mean())
        if chosen is None or (cost, option.cost_micros) < (chosen[0], chosen[1].cost_micros):
            chosen = (cost, option)
    assert chosen is not None
    return Path(chosen[1], round(float(np.exp(chosen[0]))) - spent, float(reached[chosen[1]].mean()))
