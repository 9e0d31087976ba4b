"""The static rules: a share of the money for weak labels, fixed before anything is seen.

They look at no accuracy, except to stop where a target is reached. So they buy no evaluation labels unless told to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from isocost.economics.policy.decision import PolicyDecision
from isocost.economics.policy.inputs import PolicyInputs
from isocost.economics.policy.reach import Mix, Reach

__all__ = ["ADVICE_MIXED_WEAK_SHARE", "FixedSharePolicy", "PaperAdvicePolicy", "before_a_fit", "doubled"]

#: The advice of Mallen & Belrose 2024, in human labels' prices: up to the first all weak, from the second all human.
_ADVICE_WEAK_UNITS = 64
_ADVICE_HUMAN_UNITS = 1024
ADVICE_MIXED_WEAK_SHARE = 0.4
#: Towards a target there is no budget to take a pilot's share of: half and half, doubling, until so many runs are seen.
_N_RUNS_MIN = 5


@dataclass(frozen=True, slots=True)
class FixedSharePolicy:
    """Spends a fixed share of the money on weak labels, all at once.

    With a target: in doublings of what is spent, until a run has reached it.

    Attributes:
        name: As it is written on a command line.
        weak_share: Of the cost, 0 to 1.
    """

    name: str
    weak_share: float

    def decide(self, inputs: PolicyInputs) -> PolicyDecision:
        """See `Policy`."""
        reach = Reach(inputs)
        reason = f"{self.weak_share:.0%} of the money goes to weak labels, whatever runs show"
        if inputs.target_accuracy is None:
            return reach.decision(reach.nearest_mix(self.weak_share, reach.money_micros), reason)
        return doubled(reach, lambda _: self.weak_share, reason)

    def choose_n_eval(self, _inputs: PolicyInputs) -> int:
        """No evaluation labels: the rule has no use for them."""
        return 0


@dataclass(frozen=True, slots=True)
class PaperAdvicePolicy:
    """The advice of Mallen & Belrose 2024: the share of weak labels depends on the budget.

    Up to 64 human labels' worth all weak, from 1,024 all human, between them 60 % human by cost.

    Attributes:
        name: As it is written on a command line.
        ships_purchased: Ship the model of all labels bought, instead of leaving the choice to the caller.
    """

    name: str = "paper-advice"
    ships_purchased: bool = False

    def decide(self, inputs: PolicyInputs) -> PolicyDecision:
        """See `Policy`."""
        reach = Reach(inputs)
        shipped: Mix | None = reach.mix if self.ships_purchased and any(reach.mix) else None
        if inputs.target_accuracy is not None:
            return doubled(
                reach, lambda total_micros: self._share(reach, total_micros), "the paper's advice", shipped=shipped
            )
        share = self._share(reach, reach.total_micros)
        reason = f"the paper's advice for this budget is {share:.0%} of the cost on weak labels"
        return reach.decision(reach.nearest_mix(share, reach.money_micros), reason, shipped=shipped)

    @staticmethod
    def _share(reach: Reach, total_micros: int) -> float:
        if total_micros <= _ADVICE_WEAK_UNITS * reach.human_price_micros:
            return 1.0
        if total_micros >= _ADVICE_HUMAN_UNITS * reach.human_price_micros:
            return 0.0
        return ADVICE_MIXED_WEAK_SHARE

    def choose_n_eval(self, _inputs: PolicyInputs) -> int:
        """No evaluation labels: the rule has no use for them."""
        return 0


def doubled(reach: Reach, share: Callable[[int], float], reason: str, *, shipped: Mix | None = None) -> PolicyDecision:
    """A static rule towards a target: what is spent doubles from purchase to purchase until a run has reached it.

    Where a doubling buys nothing by the rule, it doubles again.

    Args:
        reach: What can be bought.
        share: The rule: weak share of the cost of a budget in micros.
        reason: In words.
        shipped: The mix whose model to ship.
    """
    if reach.target_seen:
        return reach.stop("a run has reached the target", shipped=shipped)
    money_micros = max(reach.spent_micros, reach.smallest_step_micros())
    while True:
        money_micros = min(money_micros, reach.money_micros)
        mix = reach.nearest_mix(share(reach.spent_micros + money_micros), money_micros)
        if mix not in {None, reach.mix} or money_micros >= reach.money_micros:
            return reach.decision(mix, f"{reason}; what is spent doubles until the target is seen", shipped=shipped)
        money_micros *= 2


def before_a_fit(reach: Reach, purpose: str) -> PolicyDecision | None:
    """What a policy that fits a law buys while there is nothing to fit it to; None once there is.

    A pilot of a tenth of the budget. Towards a target, half and half, doubling.

    Args:
        reach: What can be bought.
        purpose: What is fitted, in words.
    """
    inputs = reach.inputs
    if inputs.target_accuracy is not None and (reach.target_seen or len(inputs.observations) < _N_RUNS_MIN):
        return doubled(reach, lambda _: 0.5, "a pilot of both kinds")
    if not any(reach.mix):
        return reach.decision(reach.pilot_mix(), f"a pilot of both kinds, to fit {purpose}")
    if not inputs.observations:
        mix = reach.nearest_mix(0.5, reach.money_micros)
        return reach.decision(mix, "half of the money to either kind: no run was seen that a law could be fitted to")
    return None
