"""Policies by name."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol, runtime_checkable

from isocost.economics.policy.adaptive import AdaptivePolicy
from isocost.economics.policy.baselines import FixedSharePolicy, PaperAdvicePolicy
from isocost.economics.policy.decision import Policy
from isocost.economics.policy.inputs import PolicyInputs
from isocost.economics.policy.loc import LocPolicy
from isocost.economics.policy.power_law import PowerLawPolicy

__all__ = ["POLICY_NAMES", "EvaluationChooser", "make_policy"]

_FIXED = "fixed:"
_MAKERS: dict[str, Callable[[], Policy]] = {
    "all-weak": lambda: FixedSharePolicy("all-weak", 1.0),
    "all-human": lambda: FixedSharePolicy("all-human", 0.0),
    "paper-advice": PaperAdvicePolicy,
    "paper-advice:purchased": lambda: PaperAdvicePolicy("paper-advice:purchased", ships_purchased=True),
    "loc": LocPolicy,
    "power-law": PowerLawPolicy,
}
#: The names that `make_policy` takes; of "fixed:X", X is the weak share of the spending, 0 to 1.
POLICY_NAMES = ("adaptive", *_MAKERS, f"{_FIXED}X")


@runtime_checkable
class EvaluationChooser(Protocol):
    """A policy that can say how many evaluation labels to buy before anything else."""

    def choose_n_eval(self, inputs: PolicyInputs, /) -> int | None:
        """Labels to measure accuracy with, each at the price of the first human source; None or 0 for none.

        The inputs hold the whole budget as available, no label bought and no observation, and `n_eval` None.
        """
        ...


def make_policy(name: str, *, held_out_datasets: Collection[str] = ()) -> Policy:
    """A policy by name.

    Args:
        name: One of `POLICY_NAMES`.
        held_out_datasets: Datasets of which a policy with a library of surfaces may know nothing.

    Raises:
        ValueError: where there is no such policy.
    """
    if name == "adaptive":
        return AdaptivePolicy(held_out_datasets=tuple(held_out_datasets))
    if name in _MAKERS:
        return _MAKERS[name]()
    if name.startswith(_FIXED):
        try:
            weak_share = float(name.removeprefix(_FIXED))
        except ValueError:
            weak_share = -1.0
        if 0.0 <= weak_share <= 1.0:
            return FixedSharePolicy(name, weak_share)
        raise ValueError(
            f"{name!r}: X of fixed:X is the weak share of the spending, a number from 0 to 1, as in fixed:0.5"
        )
    raise ValueError(f"{name!r} is no policy; give one of {', '.join(POLICY_NAMES)}")
