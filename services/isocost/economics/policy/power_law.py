"""Policy `power-law`: a pilot, one fit of a power law for each source, and all the money at its best mix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.optimize

from isocost.economics.frontier import ObservedPoint
from isocost.economics.policy.baselines import before_a_fit
from isocost.economics.policy.decision import PolicyDecision
from isocost.economics.policy.inputs import PolicyInputs
from isocost.economics.policy.reach import Mix, Reach

__all__ = ["PowerLaw", "PowerLawPolicy", "fit_power_law"]

Floats = npt.NDArray[np.float64]

_START = (0.5, 0.3, 0.05)
_BOUNDS = ((0.0, 0.01, 0.0), (2.0, 1.5, 1.0))
_FIT_CALLS_MAX = 200


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """The error of a source's labels alone: amplitude * n ** -exponent + floor."""

    amplitude: float
    exponent: float
    floor: float

    def error(self, n_labels: int) -> float:
        """Share of wrong answers after training on that many labels, at least one."""
        return float(self.amplitude * n_labels**-self.exponent + self.floor)


def fit_power_law(n_labels: Sequence[int], errors: Sequence[float]) -> PowerLaw | None:
    """Least squares within bounds; of few points, a law near to a usual one. None without points."""
    if not n_labels:
        return None
    counts, seen = np.asarray(n_labels, dtype=np.float64), np.asarray(errors, dtype=np.float64)

    def residuals(parameters: Floats) -> Floats:
        amplitude, exponent, floor = parameters
        return np.asarray(amplitude * counts**-exponent + floor - seen)

    fit = scipy.optimize.least_squares(residuals, _START, bounds=_BOUNDS, max_nfev=_FIT_CALLS_MAX)
    return PowerLaw(*(float(value) for value in fit.x))


@dataclass(frozen=True, slots=True)
class PowerLawPolicy:
    """One-shot extrapolation.

    A tenth of the budget buys a pilot of both kinds. A power law is fitted to the runs on weak labels alone, another to
    those on human labels alone; a mix is predicted to gain over guessing what its two parts gain, added up. The rest of
    the money buys the mix that is predicted best. A source of which no run alone was seen is taken to teach nothing.
    """

    name: str = "power-law"

    def decide(self, inputs: PolicyInputs) -> PolicyDecision:
        """See `Policy`."""
        reach = Reach(inputs)
        opening = before_a_fit(reach, "a power law for each")
        if opening is not None:
            return opening
        candidates = reach.mixes(reach.money_micros)
        accuracy = predicted_accuracies(inputs.observations, inputs.n_choices, candidates)
        if inputs.target_accuracy is not None:
            return self._towards_target(reach, candidates, accuracy, inputs.target_accuracy)
        pilot = reach.from_nothing().pilot_mix()
        if inputs.menu is not None and pilot is not None and reach.spent_micros > reach.cost_micros(pilot):
            return reach.stop("the one purchase after the pilot has been made")
        best = max(zip(accuracy, candidates, strict=True), key=lambda pair: (pair[0], reach.cost_micros(pair[1])))
        return reach.decision(best[1], f"the power laws predict {best[0]:.3f} for this mix, the most within the money")

    @staticmethod
    def _towards_target(
        reach: Reach, candidates: Sequence[Mix], accuracy: Sequence[float], target: float
    ) -> PolicyDecision:
        """The cheapest mix predicted to reach it; where none is, as much again as is spent at the best mix."""
        more = [pair for pair in zip(accuracy, candidates, strict=True) if pair[1] != reach.mix]
        if not more:
            return reach.stop("the money left buys no mix")
        enough = [mix for predicted, mix in more if predicted >= target]
        if enough:
            return reach.decision(enough[0], f"the cheapest mix that the power laws predict to reach {target:.3f}")
        within = [pair for pair in more if reach.step_micros(pair[1]) <= reach.spent_micros] or more[:1]
        best = max(within, key=lambda pair: (pair[0], reach.cost_micros(pair[1])))
        return reach.decision(best[1], "no mix is predicted to reach the target; as much again as is spent is bought")

    def choose_n_eval(self, inputs: PolicyInputs) -> int:
        """A tenth of the money, at most 256 labels."""
        return Reach(inputs).tenth_in_eval_labels()


def predicted_accuracies(observations: Sequence[ObservedPoint], n_choices: int, mixes: Sequence[Mix]) -> list[float]:
    """What the two laws predict for mixes: guessing, and the gains of both parts over it, at most 1."""
    weak = [run for run in observations if run.n_human == 0]
    human = [run for run in observations if run.n_weak == 0]
    weak_law = fit_power_law([run.n_weak for run in weak], [1 - run.accuracy for run in weak])
    human_law = fit_power_law([run.n_human for run in human], [1 - run.accuracy for run in human])
    guess = 1 / n_choices

    def gain(law: PowerLaw | None, n_labels: int) -> float:
        return max(0.0, 1 - guess - law.error(n_labels)) if law is not None and n_labels else 0.0

    return [min(1.0, guess + gain(weak_law, n_weak) + gain(human_law, n_human)) for n_weak, n_human in mixes]
