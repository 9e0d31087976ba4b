"""Policy `adaptive`: buy in tranches, each where the posterior expects the best model at the end.

1. Every pair of a weak and a human source is forecast (`forecast`): a posterior over the accuracy surface, made of the
   library's surfaces and of everything that runs showed, and the value of every purchase, looking two of them ahead.
2. Of the best pair, the next purchase of the highest value is made.
3. Where the runs contradict the posterior (its probability of anything so odd is below `SURPRISE_MIN`), a race decides
   instead: what the last doublings on nested subsets brought, without any model (`race`).
4. Nothing more is bought where the best purchase is expected to bring less than `gain_min`.

With a target accuracy, purchases are chosen by the expected cost of reaching it (`target`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from isocost.economics.policy import race, reason, target
from isocost.economics.policy.decision import Explanation, PolicyDecision, SourcePurchase, TrancheValue
from isocost.economics.policy.forecast import Forecast, forecast_pairs, regime_of
from isocost.economics.policy.inputs import PolicyInputs
from isocost.economics.policy.options import Option
from isocost.economics.policy.prior import SurfacePrior, surface_prior

__all__ = ["SURPRISE_MIN", "AdaptivePolicy"]

#: Below this probability the runs contradict the posterior.
SURPRISE_MIN = 1e-4
#: What measuring brings, as a share of what the forecast promises. The posterior knows no monotony, so it sees more to
#: be won by choosing among models than there is: on the paper's surfaces, each dataset held out, exact and free
#: measurements were promised to bring .031 and brought .002 +- .002 (`make bench-policy`).
_MEASURING_WORTH = 0.1
#: Shares of the budget for evaluation labels among which the policy chooses.
_EVAL_SHARES = (0.0, 0.02, 0.05, 0.1, 0.2)
_N_EVAL_MIN = 10


@dataclass(frozen=True)
class AdaptivePolicy:
    """See the module.

    Attributes:
        held_out_datasets: Datasets whose surfaces the library must not show; those of the task itself, wherever a
            result is to say something about other tasks.
    """

    held_out_datasets: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """As written on a command line."""
        return "adaptive"

    @property
    def _prior(self) -> SurfacePrior:
        return surface_prior(self.held_out_datasets)

    def decide(self, inputs: PolicyInputs) -> PolicyDecision:
        """See `Policy`."""
        forecasts = forecast_pairs(inputs, self._prior)
        best = max(forecasts, key=lambda forecast: forecast.final)
        explanation = _explain(best, forecasts)
        shipped = _shipped(best, inputs)
        if not best.options.first:
            return PolicyDecision((), reason.nothing_to_buy(inputs), shipped, explanation)
        if inputs.target_accuracy is not None:
            return self._towards_target(inputs, best, explanation, shipped, inputs.target_accuracy)
        index = best.best_first()
        option, gain = best.options.first[index], best.gain(float(best.first_values[index]))
        if best.posterior.surprise < SURPRISE_MIN:
            winner = race.choose(inputs, best.options)
            if winner is not None:
                return self._buy(best, winner.option, reason.raced(best, winner), explanation, shipped)
        if gain < inputs.gain_min and (inputs.n_weak or inputs.n_human):
            return PolicyDecision((), reason.not_worth_it(gain, inputs, explanation), shipped, explanation)
        return self._buy(best, option, reason.worth_it(best, option, gain, explanation), explanation, shipped)

    def _towards_target(
        self,
        inputs: PolicyInputs,
        best: Forecast,
        explanation: Explanation,
        shipped: tuple[int, int] | None,
        target_accuracy: float,
    ) -> PolicyDecision:
        if explanation.accuracy_now >= target_accuracy and len(best.seen):
            return PolicyDecision((), reason.reached(target_accuracy, explanation), shipped, explanation)
        path = target.cheapest(inputs, best, target_accuracy)
        words = reason.towards(best, path, target_accuracy, explanation)
        return self._buy(best, path.option, words, explanation, shipped)

    def _buy(
        self, best: Forecast, option: Option, words: str, explanation: Explanation, shipped: tuple[int, int] | None
    ) -> PolicyDecision:
        gain = best.gain(best.at_once(option))
        purchases = [
            SourcePurchase(source.source_id, n_labels, gain)
            for source, n_labels in ((best.options.weak, option.n_weak), (best.options.human, option.n_human))
            if n_labels
        ]
        return PolicyDecision(tuple(purchases), words, shipped, explanation)

    def choose_n_eval(self, inputs: PolicyInputs) -> int | None:
        """How many evaluation labels to buy before anything else, at the price of the first human source.

        The forecast of the model that is shipped in the end is made for several shares of the money; None where it is
        best without any: the budget is too small for labels that only measure.
        """
        price = inputs.human[0].price_micros
        counts = {int(share * inputs.available_micros) // price for share in _EVAL_SHARES}
        values = {
            count: self._value_with(inputs, count) for count in sorted(counts) if count == 0 or count >= _N_EVAL_MIN
        }
        return max(values, key=lambda count: (values[count], -count)) or None

    def _value_with(self, inputs: PolicyInputs, n_eval: int) -> float:
        """Expected accuracy at the end, among two choices, where so many labels measure."""
        available = inputs.available_micros - n_eval * inputs.human[0].price_micros
        given = replace(inputs, available_micros=available, tranche_micros=min(inputs.tranche_micros, available))
        unmeasured = self._final(replace(given, n_eval=None))
        if not n_eval:
            return unmeasured
        return unmeasured + _MEASURING_WORTH * (self._final(replace(given, n_eval=n_eval)) - unmeasured)

    def _final(self, inputs: PolicyInputs) -> float:
        return max(forecast.final for forecast in forecast_pairs(inputs, self._prior))


def _shipped(best: Forecast, inputs: PolicyInputs) -> tuple[int, int] | None:
    """The mix at hand with the best posterior mean; left to the caller without a menu, or with exact accuracies."""
    if inputs.menu is None or inputs.n_eval == 0:
        return None
    at_hand = [mix for mix in inputs.menu if mix[0] <= inputs.n_weak and mix[1] <= inputs.n_human]
    return max(at_hand, key=lambda mix: float(best.posterior.mean[best.options.row(mix)]), default=None)


def _explain(best: Forecast, forecasts: list[Forecast]) -> Explanation:
    line = best.line()
    regime, probability = regime_of(line)
    values: dict[str, TrancheValue] = {}
    for forecast in sorted(forecasts, key=lambda forecast: forecast is not best):
        for value in _tranche_values(forecast):
            values.setdefault(value.source_id, value)
    return Explanation(
        line=line,
        regime=regime,
        regime_probability=probability,
        tranches=tuple(values.values()),
        accuracy_now=best.shown(best.now),
        accuracy_final=best.shown(best.final),
    )


def _tranche_values(forecast: Forecast) -> list[TrancheValue]:
    """The value of the largest next purchase from one source alone, for both sources."""
    options = forecast.options
    values = []
    for source, alone in (
        (options.weak, [index for index, one in enumerate(options.first) if not one.n_human]),
        (options.human, [index for index, one in enumerate(options.first) if not one.n_weak]),
    ):
        if not alone:
            values.append(TrancheValue(source.source_id, 0, 0, 0.0, 0.0))
            continue
        index = max(alone, key=lambda index: options.first[index].cost_micros)
        option = options.first[index]
        values.append(
            TrancheValue(
                source.source_id,
                option.n_weak + option.n_human,
                option.cost_micros,
                forecast.gain(forecast.at_once(option)),
                forecast.gain(float(forecast.first_values[index])),
            )
        )
    return values
