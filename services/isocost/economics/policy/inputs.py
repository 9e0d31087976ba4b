"""What a policy is given."""

from __future__ import annotations

from dataclasses import dataclass

from isocost.economics.frontier import ObservedPoint

__all__ = ["PolicyInputs", "SourceState"]


@dataclass(frozen=True, slots=True)
class SourceState:
    """A source as a policy sees it.

    Attributes:
        source_id: Names it in the decision.
        price_micros: What one more label is expected to cost; greater than zero.
        n_bought: Labels bought from it to train on.
        accuracy: Share of its labels that are right, 0 to 1, as measured; None where nobody measured it.
        n_measured: Labels that this was measured on; 0 with an accuracy means that it is exact.
    """

    source_id: str
    price_micros: int
    n_bought: int = 0
    accuracy: float | None = None
    n_measured: int = 0


@dataclass(frozen=True, slots=True)
class PolicyInputs:
    """Everything a policy sees.

    Attributes:
        weak, human: The sources of either kind, at least one of each. Of several human sources the first is the
            reference: its labels are the ones that accuracy is measured with.
        available_micros: Free to spend.
        tranche_micros: What the next purchase may cost at most.
        n_items_free: Items that no order has taken: labels of all kinds that can still be bought.
        observations: What runs showed; `n_eval` 0 means that the accuracy is exact.
        menu: The totals (n_weak, n_human) that can be bought, where only these can (replay); None for any.
        n_choices: Of the task; 1 / n_choices is the accuracy of guessing.
        target_accuracy: Buy the cheapest labels that reach it, within what is available; None to reach as much as what
            is available can buy.
        gain_min: Accuracy that the labels still to be bought must be expected to bring, or nothing more is bought.
        n_eval: Labels that what runs show is measured on; 0: exactly; None: nothing is measured, and no observation
            will come.
    """

    weak: tuple[SourceState, ...]
    human: tuple[SourceState, ...]
    available_micros: int
    tranche_micros: int
    n_items_free: int
    observations: tuple[ObservedPoint, ...] = ()
    menu: tuple[tuple[int, int], ...] | None = None
    n_choices: int = 2
    target_accuracy: float | None = None
    gain_min: float = 0.005
    n_eval: int | None = 0

    @property
    def n_weak(self) -> int:
        """Weak labels bought to train on, of all sources."""
        return sum(source.n_bought for source in self.weak)

    @property
    def n_human(self) -> int:
        """Human labels bought to train on, of all sources."""
        return sum(source.n_bought for source in self.human)
