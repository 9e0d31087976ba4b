"""Policy `loc`: Learn-Optimize-Collect (Mahmood et al., "Optimizing Data Collection for Machine Learning", NeurIPS 2022
and JMLR 2025), for two sources.

Learn: the additive law v = c + a1 q1^b1 + a2 q2^b2 is fitted to bootstrap resamples of what runs showed. Optimize:
towards a target V*, the plan q_1 <= ... <= q_T that minimises the expected cost

    sum_t cost(q_t - q_{t-1}) (1 - F(q_{t-1})) + penalty (1 - F(q_T)),    F(q) = P(v(q) >= V*) over the fits,

by dynamic programming over the mixes that can be bought. Collect: buy q_1, run, and learn again. The original has no
form for a budget without a target; there the mix of the greatest mean prediction is aimed at, in as many rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.optimize
import scipy.special

from isocost.economics.frontier import ObservedPoint
from isocost.economics.policy.baselines import before_a_fit
from isocost.economics.policy.decision import PolicyDecision
from isocost.economics.policy.inputs import PolicyInputs
from isocost.economics.policy.reach import PILOT_FRACTION, Mix, Reach

__all__ = ["N_ROUNDS", "LocPolicy", "predict_additive"]

#: Shape suffixes: B bootstrap fits, R runs, M mixes.
Floats = npt.NDArray[np.float64]

#: Rounds after the pilot.
N_ROUNDS = 3
_N_BOOTSTRAP = 20
_SEED = 0
_FIT_CALLS_MAX = 60
#: Missing the target costs as much as this many times all the money.
_PENALTY_BUDGETS = 10.0
#: Least bandwidth of the kernel density of predicted accuracies: a few fits may agree by chance.
_BANDWIDTH_MIN = 0.005
#: c, then a and b of either source. a is the gain that the largest count seen brings.
_START = (0.5, 0.2, 0.1, 0.2, 0.1)
_BOUNDS = ((0.0, 0.0, -1.0, 0.0, -1.0), (1.0, 1.0, 1.0, 1.0, 1.0))
#: Below it the limit is taken; far below the step of a numerical derivative at 0.
_EXPONENT_MIN = 1e-12


def _growth(counts: Floats, exponent: float) -> Floats:
    """((1 + q)^b - 1) / b: the law's power of a count that may be 0, in one piece over exponents of either sign."""
    if abs(exponent) < _EXPONENT_MIN:
        return np.log1p(counts)
    return np.asarray(np.expm1(exponent * np.log1p(counts)) / exponent)


def _law(parameters: Floats, counts: Floats, largest: Floats) -> Floats:
    accuracy = np.full(len(counts), parameters[0])
    for source in range(2):
        amplitude, exponent = parameters[1 + 2 * source], parameters[2 + 2 * source]
        if largest[source]:
            at_largest = _growth(largest[source : source + 1], exponent)
            accuracy = accuracy + amplitude * _growth(counts[:, source], exponent) / at_largest
    return accuracy


def predict_additive(
    observations: Sequence[ObservedPoint], mixes: Sequence[Mix], *, n_bootstrap: int = _N_BOOTSTRAP
) -> Floats:
    """Predictions [B, M] of the additive law for mixes, each row by the fit to one resample of the runs.

    A source of which no run was seen is taken to teach nothing. Deterministic.

    Raises:
        ValueError: where there is no run.
    """
    if not observations:
        raise ValueError("the additive law needs a run to be fitted to")
    runs_r = np.array([(run.n_weak, run.n_human) for run in observations], dtype=np.float64)
    accuracy_r = np.array([run.accuracy for run in observations])
    mixes_m = np.array(mixes, dtype=np.float64).reshape(-1, 2)
    largest = runs_r.max(axis=0)
    rng = np.random.default_rng(_SEED)
    rows = []
    for _ in range(n_bootstrap):
        chosen = rng.integers(len(runs_r), size=len(runs_r))
        counts, seen = runs_r[chosen], accuracy_r[chosen]
        fit = scipy.optimize.least_squares(
            lambda parameters, counts=counts, seen=seen: _law(parameters, counts, largest) - seen,
            _START,
            bounds=_BOUNDS,
            max_nfev=_FIT_CALLS_MAX,
        )
        rows.append(np.clip(_law(fit.x, mixes_m, largest), 0.0, 1.0))
    return np.array(rows)


@dataclass(frozen=True, slots=True)
class LocPolicy:
    """Learn-Optimize-Collect: a pilot of a tenth of the budget, then three rounds."""

    name: str = "loc"

    def decide(self, inputs: PolicyInputs) -> PolicyDecision:
        """See `Policy`."""
        reach = Reach(inputs)
        opening = before_a_fit(reach, "the additive law to")
        if opening is not None:
            return opening
        if inputs.target_accuracy is not None:
            return self._towards_target(reach, inputs.target_accuracy)
        mixes = reach.mixes(inputs.available_micros)
        if not mixes:
            return reach.stop("the money left buys no mix")
        mean_m = predict_additive(inputs.observations, mixes).mean(axis=0)
        # Of equal predictions the dearest, which is the last: more labels seldom hurt.
        best = len(mixes) - 1 - int(np.argmax(mean_m[::-1]))
        mix = _round_mix(reach, mixes[best])
        return reach.decision(
            mix, f"a round towards {mixes[best]}, for which the additive law predicts {mean_m[best]:.3f}"
        )

    @staticmethod
    def _towards_target(reach: Reach, target: float) -> PolicyDecision:
        mixes = [reach.mix, *(mix for mix in reach.mixes(reach.money_micros) if mix != reach.mix)]
        if len(mixes) == 1:
            return reach.stop("the money left buys no mix")
        predicted_bm = predict_additive(reach.inputs.observations, mixes)
        reached_m = _probability_reached(predicted_bm, target)
        # It is known that the labels at hand have not reached it.
        reached_m[0] = 0.0
        cost_m = np.array([reach.cost_micros(mix) for mix in mixes], dtype=np.float64)
        counts_m = np.array(mixes)
        rises_mm = np.all(counts_m[None, :, :] >= counts_m[:, None, :], axis=2)
        first = _first_purchase(cost_m, reached_m, rises_mm, _PENALTY_BUDGETS * reach.total_micros)
        if first:
            return reach.decision(
                mixes[first],
                f"the plan of least expected cost; this mix reaches {target:.3f} at {reached_m[first]:.0%}",
            )
        within = [row for row in range(1, len(mixes)) if reach.step_micros(mixes[row]) <= reach.spent_micros] or [1]
        mean_m = predicted_bm.mean(axis=0)
        return reach.decision(
            mixes[max(within, key=lambda row: (mean_m[row], cost_m[row]))],
            "no fit reaches the target within the money; as much again as is spent is bought",
        )

    def choose_n_eval(self, inputs: PolicyInputs) -> int:
        """A tenth of the money, at most 256 labels."""
        return Reach(inputs).tenth_in_eval_labels()


def _round_mix(reach: Reach, aim: Mix) -> Mix:
    """The mix to buy in this round on the way to the one aimed at; rounds are of equal money."""
    if aim == reach.mix:
        return aim
    for round_number in range(1, N_ROUNDS + 1):
        fraction = PILOT_FRACTION + (1 - PILOT_FRACTION) * round_number / N_ROUNDS
        money_micros = min(round(fraction * reach.total_micros) - reach.spent_micros, reach.money_micros)
        if money_micros <= 0:
            continue
        if reach.inputs.menu is None:
            part = min(1.0, money_micros / reach.step_micros(aim))
            mix = (
                reach.mix[0] + int(part * (aim[0] - reach.mix[0])),
                reach.mix[1] + int(part * (aim[1] - reach.mix[1])),
            )
        else:
            way = [mix for mix in reach.mixes(money_micros) if mix[0] <= aim[0] and mix[1] <= aim[1]]
            mix = way[-1] if way else reach.mix
        if mix != reach.mix:
            return mix
    return reach.mix


def _probability_reached(predicted_bm: Floats, target: float) -> Floats:
    """F of every mix [M]: a Gaussian kernel density of its predictions (Silverman's bandwidth), above the target."""
    n_fits = len(predicted_bm)
    bandwidth_m = np.maximum(_BANDWIDTH_MIN, 1.06 * predicted_bm.std(axis=0) * n_fits**-0.2)
    return np.asarray(scipy.special.ndtr((predicted_bm - target) / bandwidth_m).mean(axis=0))


def _first_purchase(cost_m: Floats, reached_m: Floats, rises_mm: npt.NDArray[np.bool_], penalty: float) -> int:
    """The first mix of the plan of least expected cost from mix 0, by its number; 0 where buying nothing is cheapest.

    `rises_mm[i, j]` says that mix j holds all labels of mix i.
    """
    to_go_m = penalty * (1 - reached_m)
    step_mm = np.where(rises_mm, (cost_m[None, :] - cost_m[:, None]) * (1 - reached_m[:, None]), np.inf)
    choices = []
    for _ in range(N_ROUNDS):
        total_mm = step_mm + to_go_m[None, :]
        choices.append(total_mm.argmin(axis=1))
        to_go_m = total_mm.min(axis=1)
    # The plan may rest at the labels at hand for some rounds, which costs nothing: its first true purchase counts.
    for choice_m in reversed(choices):
        if choice_m[0] != 0:
            return int(choice_m[0])
    return 0
