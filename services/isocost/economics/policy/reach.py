"""What the money at hand can buy, in whole mixes of labels: the part that all simple policies share.

Of several sources of a kind, the simple policies buy from the first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from isocost.economics.policy.decision import PolicyDecision, SourcePurchase
from isocost.economics.policy.inputs import PolicyInputs

__all__ = ["PILOT_FRACTION", "SPENDING_SLACK", "Mix", "Reach"]

#: Labels in all: (n_weak, n_human).
Mix = tuple[int, int]
#: Of a menu's mixes, those that cost at least half of the dearest one within the money count as spending it. Menus are
#: sparse: with less slack there is often no mix near the wanted share, with 1.25 every fixed share does worse.
SPENDING_SLACK = 2.0
#: Share of the budget that the policies which fit a law spend before the first fit, half of it on either kind.
PILOT_FRACTION = 0.1
#: Where there is no menu, mixes are tried at these shares of the money spent and these weak shares of it.
_SPENT_FRACTIONS = (0.0625, 0.125, 0.25, 0.5, 1.0)
_N_SHARES = 20
_N_EVAL_MAX = 256


@dataclass(frozen=True)
class Reach:
    """The mixes that can be reached from the labels at hand.

    Attributes:
        inputs: What the policy was given.
    """

    inputs: PolicyInputs

    @property
    def mix(self) -> Mix:
        """The labels at hand."""
        return self.inputs.n_weak, self.inputs.n_human

    @property
    def weak_price_micros(self) -> int:
        """Price of a weak label."""
        return self.inputs.weak[0].price_micros

    @property
    def human_price_micros(self) -> int:
        """Price of a human label."""
        return self.inputs.human[0].price_micros

    @property
    def spent_micros(self) -> int:
        """What the labels at hand cost, at today's prices."""
        sources = (*self.inputs.weak, *self.inputs.human)
        return sum(source.n_bought * source.price_micros for source in sources)

    @property
    def total_micros(self) -> int:
        """The budget for labels to train on: what is spent and what is available."""
        return self.spent_micros + self.inputs.available_micros

    @property
    def money_micros(self) -> int:
        """What the next purchase may cost."""
        return min(self.inputs.tranche_micros, self.inputs.available_micros)

    def step_micros(self, mix: Mix) -> int:
        """What a mix costs on top of the labels at hand."""
        n_weak, n_human = self.mix
        return (mix[0] - n_weak) * self.weak_price_micros + (mix[1] - n_human) * self.human_price_micros

    def cost_micros(self, mix: Mix) -> int:
        """What a mix costs in all."""
        return self.spent_micros + self.step_micros(mix)

    def weak_share(self, mix: Mix) -> float:
        """Share of a mix's cost that is weak, 0 to 1; of several sources by the first one's price."""
        weak_micros, human_micros = mix[0] * self.weak_price_micros, mix[1] * self.human_price_micros
        return weak_micros / (weak_micros + human_micros)

    @cached_property
    def _menu(self) -> tuple[Mix, ...]:
        n_weak, n_human = self.mix
        return tuple(
            mix
            for mix in self.inputs.menu or ()
            if mix[0] >= n_weak and mix[1] >= n_human and mix[0] - n_weak + mix[1] - n_human <= self.inputs.n_items_free
        )

    def mixes(self, money_micros: int) -> list[Mix]:
        """The mixes that can be had for no more than this money, the labels at hand among them; the cheapest first.

        The whole menu, where there is one, and else a grid of shares of the money and weak shares of that.
        """
        if self.inputs.menu is not None:
            found = {mix for mix in self._menu if self.step_micros(mix) <= money_micros}
        else:
            found = {
                self.share_mix(share / _N_SHARES, int(fraction * money_micros))
                for fraction in _SPENT_FRACTIONS
                for share in range(_N_SHARES + 1)
            } | {self.mix}
        return sorted(found - {(0, 0)}, key=lambda mix: (self.cost_micros(mix), mix))

    def share_mix(self, weak_share: float, money_micros: int) -> Mix:
        """Without a menu: the mix whose cost is nearest to this weak share once the money is spent."""
        n_weak, n_human = self.mix
        total_micros = self.spent_micros + money_micros
        more_weak = max(0, int(weak_share * total_micros) // self.weak_price_micros - n_weak)
        more_weak = min(more_weak, money_micros // self.weak_price_micros)
        more_human = max(0, int((1 - weak_share) * total_micros) // self.human_price_micros - n_human)
        left_micros = money_micros - more_weak * self.weak_price_micros
        more_human = min(more_human, left_micros // self.human_price_micros)
        n_more = more_weak + more_human
        if n_more > self.inputs.n_items_free:
            more_human = more_human * self.inputs.n_items_free // n_more
            more_weak = min(more_weak, self.inputs.n_items_free - more_human)
        return n_weak + more_weak, n_human + more_human

    def nearest_mix(self, weak_share: float, money_micros: int) -> Mix | None:
        """The mix of (nearly) all of this money that is nearest to a weak share of the cost; None where there is none.

        On a menu: the nearest of those that cost at least 1 / `SPENDING_SLACK` of the dearest within the money; of
        equally near ones the dearest. A share of 0 or 1 means one kind only, however little of the money that spends,
        where the menu has such a mix for the money available.
        """
        if self.inputs.menu is None:
            return self.share_mix(weak_share, money_micros)
        mixes = self.mixes(money_micros)
        if weak_share in {0.0, 1.0}:
            other_kind = int(weak_share == 1.0)
            if any(mix[other_kind] == 0 for mix in self.mixes(self.money_micros)):
                mixes = [mix for mix in mixes if mix[other_kind] == 0][-1:]
        if not mixes:
            return None
        least_micros = self.cost_micros(mixes[-1]) / SPENDING_SLACK
        near = [mix for mix in mixes if self.cost_micros(mix) >= least_micros]
        return min(
            near, key=lambda mix: (abs(self.weak_share(mix) - weak_share), -self.cost_micros(mix), -mix[1], -mix[0])
        )

    @property
    def target_seen(self) -> bool:
        """Whether a run has reached the target accuracy."""
        target = self.inputs.target_accuracy
        return target is not None and any(run.accuracy >= target for run in self.inputs.observations)

    def smallest_step_micros(self) -> int:
        """What the cheapest purchase costs that the money can buy; all the money where it buys nothing."""
        if self.inputs.menu is None:
            return min(self.weak_price_micros, self.human_price_micros, self.money_micros)
        steps = [self.step_micros(mix) for mix in self.mixes(self.money_micros) if mix != self.mix]
        return min(steps, default=self.money_micros)

    def pilot_mix(self) -> Mix | None:
        """The first purchase of a policy that fits a law: some of both kinds, so that runs along both axes show."""
        money_micros = max(int(PILOT_FRACTION * self.total_micros) - self.spent_micros, self.smallest_step_micros())
        return self.nearest_mix(0.5, min(money_micros, self.money_micros))

    def from_nothing(self) -> Reach:
        """What could be reached before the first label was bought, the whole budget in one purchase."""
        bought = sum(self.mix)
        return Reach(
            replace(
                self.inputs,
                weak=tuple(replace(source, n_bought=0) for source in self.inputs.weak),
                human=tuple(replace(source, n_bought=0) for source in self.inputs.human),
                available_micros=self.total_micros,
                tranche_micros=self.total_micros,
                n_items_free=self.inputs.n_items_free + bought,
                observations=(),
            )
        )

    def decision(self, mix: Mix | None, reason: str, *, shipped: Mix | None = None) -> PolicyDecision:
        """Buys up to a mix; stops where that is the labels at hand, or there is none."""
        purchases = []
        if mix is not None:
            for source, n_more in zip(
                (self.inputs.weak[0], self.inputs.human[0]), (mix[0] - self.mix[0], mix[1] - self.mix[1]), strict=True
            ):
                if n_more:
                    purchases.append(SourcePurchase(source.source_id, n_more))
        if not purchases:
            return self.stop(f"{reason}; nothing more can be bought by this rule", shipped=shipped)
        return PolicyDecision(tuple(purchases), reason, shipped)

    def tenth_in_eval_labels(self) -> int:
        """Evaluation labels of a policy that fits a law: a tenth of what is available, at most 256.

        Fewer where the rest would buy nothing to train on.
        """
        left_micros = self.inputs.available_micros - self.smallest_step_micros()
        money_micros = min(self.inputs.available_micros // 10, left_micros)
        return min(_N_EVAL_MAX, money_micros // self.human_price_micros)

    def stop(self, reason: str, *, shipped: Mix | None = None) -> PolicyDecision:
        """Buys nothing more."""
        return PolicyDecision((), f"stop: {reason}", shipped)
