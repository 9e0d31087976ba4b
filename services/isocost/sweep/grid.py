"""The grid of a sweep: budgets x weak fractions x weak prices, as mixes of labels on isocost lines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

__all__ = ["GridPoint", "LabelLimits", "Mix", "grid_points", "label_need", "mix_on_line"]


@dataclass(frozen=True, slots=True, order=True)
class Mix:
    """A number of labels of each kind."""

    n_weak: int
    n_human: int


@dataclass(frozen=True, slots=True)
class LabelLimits:
    """Most labels of each kind that a task's items allow."""

    n_weak: int
    n_human: int


@dataclass(frozen=True, slots=True)
class GridPoint:
    """One point asked for: the mix that a share of a budget buys at a price, as far as there are items.

    Attributes:
        weak_price, budget: In units of the currency.
        weak_fraction: Share of the budget for weak labels.
        mix: The labels.
        is_capped: Whether the money would buy more labels than there are items.
    """

    weak_price: Decimal
    budget: Decimal
    weak_fraction: Decimal
    mix: Mix
    is_capped: bool


def mix_on_line(budget: Decimal, weak_fraction: Decimal, weak_price: Decimal, human_price: Decimal, n_min: int) -> Mix:
    """The mix that a budget buys; never costs more, and leaves less than one label of either kind unbought.

    Human labels are rounded down, and what is left buys weak ones. Where a kind would have fewer than `n_min` labels,
    all money goes to the other kind.
    """
    money = Fraction(budget)
    only_human = Mix(0, int(money // Fraction(human_price)))
    only_weak = Mix(int(money // Fraction(weak_price)), 0)
    if weak_fraction == 0:
        return only_human
    if weak_fraction == 1:
        return only_weak
    n_human = int(money * (1 - Fraction(weak_fraction)) // Fraction(human_price))
    if n_human < n_min and only_weak.n_weak >= n_min:
        return only_weak
    n_weak = int((money - n_human * Fraction(human_price)) // Fraction(weak_price))
    return Mix(n_weak, n_human) if min(n_weak, n_human) >= n_min else only_human


def grid_points(
    *,
    budgets: Sequence[Decimal],
    weak_fractions: Sequence[Decimal],
    weak_prices: Sequence[Decimal],
    human_price: Decimal,
    n_min: int,
    limits: LabelLimits,
) -> list[GridPoint]:
    """Every point of the grid, in the order of the arguments' values: price, then budget, then fraction.

    Args:
        budgets, weak_fractions, weak_prices, human_price: Of the spec.
        n_min: See `mix_on_line`.
        limits: Labels beyond these are cut off; their money is not spent.
    """
    points = []
    for weak_price in weak_prices:
        for budget in budgets:
            for weak_fraction in weak_fractions:
                wanted = mix_on_line(budget, weak_fraction, weak_price, human_price, n_min)
                mix = Mix(min(wanted.n_weak, limits.n_weak), min(wanted.n_human, limits.n_human))
                points.append(GridPoint(weak_price, budget, weak_fraction, mix, mix != wanted))
    return points


def label_need(points: Iterable[GridPoint]) -> LabelLimits:
    """The most labels of each kind that any point asks for."""
    mixes = [point.mix for point in points]
    return LabelLimits(max((mix.n_weak for mix in mixes), default=0), max((mix.n_human for mix in mixes), default=0))
