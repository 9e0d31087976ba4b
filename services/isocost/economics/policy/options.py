"""What can be bought next and last, from one weak and one human source, and at which mixes models are trained then.

Where only the totals of a menu can be bought, these are the menu's affordable totals; a purchase shows all that it
dominates. Anywhere else, the next purchase spends the tranche in one of five shares, the last one the rest of the money
in one of seven, and models are trained at the mixes of `isocost.economics.mixes.round_mixes`.

Labels of other sources count as far as they are worth: n labels count as r^2 n, where r is their accuracy above
guessing as a share of that of the weak source at hand, or of the reference's for human labels: the discount (1 - 2
eta)^2 of noisy labels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from isocost.economics.frontier import ObservedPoint
from isocost.economics.mixes import round_mixes
from isocost.economics.policy.inputs import PolicyInputs, SourceState
from isocost.economics.policy.kernel import Points
from isocost.economics.policy.lookahead import Index

__all__ = ["Option", "Options", "skill"]

_FIRST_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
#: Parts of the tranche among which the next purchase is chosen where a target may be reached with less than all of it.
_TARGET_PARTS = (0.25, 0.5, 1.0)
_LAST_SHARES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
#: Labels hardly better than guessing would make prices per useful label endless.
_SKILL_MIN = 0.05
#: Labels measured that the prior of a source's accuracy is worth.
_MEASURED_PRIOR = 5.0
_ACCURACY_PRIOR = {"weak": 0.75, "human": 0.95}
#: However poor the source at hand, a label of another one counts at most as so many of its.
_WORTH_MAX = 4.0

#: Options of a menu beyond which only some that differ are weighed.
_FIRST_MAX = 60
#: A purchase below this share of what the labels at hand cost teaches nothing: its runs would differ by luck only.
_PURCHASE_SHARE_MIN = 0.02

_Mix = tuple[int, float, float]


def skill(source: SourceState, n_choices: int, kind: str) -> float:
    """How far above guessing a source's labels are, 0 to 1; few measured labels are shrunk to a usual accuracy."""
    usual = _ACCURACY_PRIOR[kind]
    if source.accuracy is None:
        accuracy = usual
    elif source.n_measured:
        weight = source.n_measured / (source.n_measured + _MEASURED_PRIOR)
        accuracy = weight * source.accuracy + (1 - weight) * usual
    else:
        accuracy = source.accuracy
    return max(_SKILL_MIN, min(1.0, (accuracy - 1 / n_choices) / (1 - 1 / n_choices)))


@dataclass(frozen=True, slots=True, eq=False)
class Option:
    """A purchase.

    Attributes:
        n_weak, n_human: Labels to buy.
        cost_micros: Their price.
        total: The mix at hand then, in labels of the weak source and of the human reference.
        sees: Points that are seen then.
    """

    n_weak: int
    n_human: int
    cost_micros: int
    total: tuple[float, float]
    sees: Index


class Options:
    """The options of one pair of sources.

    Attributes:
        weak, human: The pair.
        bought: The labels at hand (n_weak, n_human), in labels of the weak source and of the human reference.
        mixes: All points that matter: number of the weak source, n_weak, n_human.
        observed: Row of each observation.
        first: What can be bought with the next tranche.
        then: For each of them, what can be bought last.
        last: What can be bought with all the money at once.
        line: Mixes (n_weak, n_human) that cost as much as the labels at hand and all the money, all human first,
            whether or not they can still be reached from the labels at hand; and the row of each.
    """

    def __init__(self, inputs: PolicyInputs, weak: SourceState, human: SourceState) -> None:
        self._inputs = inputs
        self.weak, self.human = weak, human
        self._row: dict[_Mix, int] = {}
        self.mixes: list[_Mix] = []
        own = skill(weak, inputs.n_choices, "weak")
        self._worth_weak = {
            source.source_id: 1.0
            if source is weak or source.accuracy is None or weak.accuracy is None
            else min(_WORTH_MAX, (skill(source, inputs.n_choices, "weak") / own) ** 2)
            for source in inputs.weak
        }
        self._worth_human = {
            source.source_id: 1.0 if source.accuracy is None else skill(source, inputs.n_choices, "human") ** 2
            for source in inputs.human
        }
        self._grade = self._worth_human[human.source_id]
        self.bought = (
            sum(source.n_bought * self._worth_weak[source.source_id] for source in inputs.weak),
            sum(source.n_bought * self._worth_human[source.source_id] for source in inputs.human),
        )
        self._surface = inputs.weak.index(weak)
        self._surfaces = {source.source_id: number for number, source in enumerate(inputs.weak)}
        self.observed = [self._add(*self._mix_of(point)) for point in inputs.observations]
        self.first: list[Option] = []
        self.then: list[list[Option]] = []
        self.last: list[Option] = []
        self.line: list[tuple[int, int, int]] = []
        if inputs.menu is None:
            self._share_out()
        else:
            self._rows(inputs.menu)
            self._read_menu(inputs.menu)

    def _mix_of(self, point: ObservedPoint) -> _Mix:
        n_human = point.n_human * self._worth_human.get(point.human_source_id, 1.0)
        # Without weak labels a run belongs to the surfaces of all weak sources.
        surface = self._surfaces.get(point.weak_source_id, self._surface) if point.n_weak else self._surface
        return surface, float(point.n_weak), n_human

    def _add(self, surface: int, n_weak: float, n_human: float) -> int:
        mix = (surface, n_weak, n_human)
        if mix not in self._row:
            self._row[mix] = len(self.mixes)
            self.mixes.append(mix)
        return self._row[mix]

    def _rows(self, mixes: Sequence[tuple[float, float]]) -> Index:
        rows = [self._add(self._surface, float(n_weak), float(n_human)) for n_weak, n_human in mixes]
        return np.array(rows, dtype=np.int64)

    def row(self, mix: tuple[int, int]) -> int:
        """Row of a mix on the menu."""
        return self._row[self._surface, float(mix[0]), float(mix[1])]

    def points(self) -> Points:
        """The points as the prior sees them."""
        n_points = len(self.mixes)
        surface = np.array([mix[0] for mix in self.mixes], dtype=np.int64)
        accuracies = np.array([self._binary_accuracy(source) for source in self._inputs.weak])
        return Points(
            n_weak=np.array([mix[1] for mix in self.mixes]),
            n_human=np.array([mix[2] for mix in self.mixes]),
            # Numbers that no group or surface of the library has.
            group=np.full(n_points, -1, dtype=np.int64),
            surface=-1 - surface,
            weak_accuracy=accuracies[surface],
        )

    def _binary_accuracy(self, source: SourceState) -> float:
        """The accuracy as it would be among two choices, as the library's are; NaN where it was not measured."""
        return np.nan if source.accuracy is None else 0.5 + 0.5 * skill(source, self._inputs.n_choices, "weak")

    # Any totals ------------------------------------------------------------------------------------------------------

    def _share_out(self) -> None:
        inputs = self._inputs
        tranche = min(inputs.tranche_micros, inputs.available_micros)
        self.last = self._spend((0, 0), inputs.available_micros, inputs.n_items_free, _LAST_SHARES)
        for part in (1.0,) if inputs.target_accuracy is None else _TARGET_PARTS:
            self.first += self._spend((0, 0), int(part * tranche), inputs.n_items_free, _FIRST_SHARES)
        least = _PURCHASE_SHARE_MIN * (self._total_micros - inputs.available_micros)
        self.first = [option for option in self.first if option.cost_micros >= least]
        for option in self.first:
            left = inputs.available_micros - option.cost_micros
            n_items = inputs.n_items_free - option.n_weak - option.n_human
            self.then.append(self._spend((option.n_weak, option.n_human), left, n_items, _LAST_SHARES, after=option))

        money = self._total_micros
        n_items = round(sum(self.bought)) + inputs.n_items_free
        for share in _LAST_SHARES:
            n_human = min(int((1 - share) * money) // self.human.price_micros, n_items)
            n_weak = 0 if share == 0.0 else (money - n_human * self.human.price_micros) // self.weak.price_micros
            n_weak = min(n_weak, n_items - n_human)
            self._add_to_line(n_weak, n_human)

    @property
    def _total_micros(self) -> int:
        bought = self.bought[0] * self.weak.price_micros + self.bought[1] / self._grade * self.human.price_micros
        return round(bought) + self._inputs.available_micros

    def _add_to_line(self, n_weak: int, n_human: int) -> None:
        point = (n_weak, n_human, self._add(self._surface, float(n_weak), n_human * self._grade))
        if (n_weak or n_human) and point not in self.line:
            self.line.append(point)

    def _spend(
        self,
        start: tuple[int, int],
        money_micros: int,
        n_items: int,
        weak_shares: Sequence[float],
        *,
        after: Option | None = None,
    ) -> list[Option]:
        options: dict[tuple[int, int], Option] = {}
        for share in weak_shares:
            n_human = min(int((1 - share) * money_micros) // self.human.price_micros, n_items)
            n_weak = min(
                (money_micros - n_human * self.human.price_micros) // self.weak.price_micros, n_items - n_human
            )
            if share == 0.0:
                n_weak = 0
            if not n_weak and not n_human:
                continue
            bought = (start[0] + n_weak, start[1] + n_human)
            total = (self.bought[0] + bought[0], self.bought[1] + bought[1] * self._grade)
            nested = round_mixes(round(total[0]), round(total[1]))
            sees = self._rows(nested)
            if after is not None:
                sees = np.union1d(sees, after.sees)
            cost = bought[0] * self.weak.price_micros + bought[1] * self.human.price_micros
            options.setdefault(bought, Option(*bought, cost, total, sees))
        return list(options.values())

    # Totals of a menu ------------------------------------------------------------------------------------------------

    def _read_menu(self, menu: Sequence[tuple[int, int]]) -> None:
        inputs = self._inputs
        bought = (inputs.n_weak, inputs.n_human)
        options = []
        for total in dict.fromkeys(menu):
            n_weak, n_human = total[0] - bought[0], total[1] - bought[1]
            cost = n_weak * self.weak.price_micros + n_human * self.human.price_micros
            if n_weak < 0 or n_human < 0 or not (n_weak or n_human):
                continue
            if cost > inputs.available_micros or n_weak + n_human > inputs.n_items_free:
                continue
            sees = self._rows([(w, h) for w, h in menu if w <= total[0] and h <= total[1]])
            options.append(Option(n_weak, n_human, cost, (float(total[0]), float(total[1])), sees))
        # More labels are never worse here, as every nested mix is seen: only the largest totals can be last.
        self.last = [one for one in options if not any(_contains(other, one) for other in options)]
        self.first = _spread([one for one in options if one.cost_micros <= inputs.tranche_micros])
        for option in self.first:
            self.then.append([one for one in self.last if one is option or _contains(one, option)])
        money = self._total_micros
        prices = (self.weak.price_micros, self.human.price_micros)
        within = [mix for mix in dict.fromkeys(menu) if mix[0] * prices[0] + mix[1] * prices[1] <= money]
        for mix in sorted(within, key=lambda mix: mix[0] / (mix[0] + mix[1])):
            if not any(other != mix and other[0] >= mix[0] and other[1] >= mix[1] for other in within):
                self._add_to_line(*mix)


def _spread(options: list[Option]) -> list[Option]:
    """Of many options some that differ: the dearest of each octave of cost and each fifth of the share of labels."""
    if len(options) <= _FIRST_MAX:
        return options
    kept: dict[tuple[int, int], Option] = {}
    for option in sorted(options, key=lambda one: (one.cost_micros, one.total)):
        fifth = int(4.999 * option.total[0] / sum(option.total))
        kept[int(math.log2(option.cost_micros)), fifth] = option
    return list(kept.values())


def _contains(large: Option, small: Option) -> bool:
    return large.total != small.total and large.total[0] >= small.total[0] and large.total[1] >= small.total[1]
