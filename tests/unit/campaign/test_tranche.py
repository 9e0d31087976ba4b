"""What the loop makes of a plan, and how the buyer places an order whose items are chosen."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from isocost.campaign.config import CampaignConfig
from isocost.campaign.item_choice import ChosenItems
from isocost.campaign.loop import CampaignLoop, Services
from isocost.campaign.pricing import price_sources
from isocost.campaign.purchase import Buyer
from isocost.core.money import Money
from isocost.core.progress import SilentProgress
from isocost.resources.campaign import Order, OrderState, Sampling
from isocost.resources.label import Label, Purpose, one_hot
from isocost.resources.plan import Decision, Purchase
from isocost.resources.task import Item


def _config(**fields: Any) -> CampaignConfig:
    return CampaignConfig.model_validate(
        {
            "campaign": "c",
            "budget": 100,
            "task": {"name": "t", "template": "{text}", "choices": ["a", "b"]},
            "data": {"path": "x.csv"},
            "sources": [
                {"kind": "model", "unit_price": 0.1, "model": "m"},
                {"kind": "human", "name": "expert", "unit_price": 1, "channel": {"kind": "simulated"}},
                {"kind": "human", "name": "crowd", "unit_price": 0.3, "channel": {"kind": "simulated"}},
            ],
            "strong_model": "s",
            "evaluation": {"n_labels": 10},
            "pilot": {"n_weak": 4, "n_human": 10},
            **fields,
        }
    )


class FakePlanner:
    """Plans that a test gives, and what was asked and bought."""

    def __init__(self, *tranches: Sequence[tuple[str, int]]) -> None:
        self._tranches = list(tranches)
        self.asked: list[tuple[Any, dict[str, Any]]] = []
        self.bought: list[tuple[str, str, Purpose, int, bool]] = []

    async def plan(self, request_id: str, campaign_id: str, tranche: Money, **asked: Any) -> Any:
        self.asked.append((tranche, asked))
        bought = self._tranches.pop(0) if self._tranches else ()
        purchases = tuple(Purchase(source_id, n_labels, Money(1), 0.0) for source_id, n_labels in bought)
        decision = Decision.BUY if purchases else Decision.STOP
        return SimpleNamespace(reason="", decision=decision, purchases=purchases)

    async def buy_weak(self, name: str, purpose: Purpose, n_labels: int, weak: Any) -> None:
        self.bought.append((name, weak.source_id, purpose, n_labels, False))

    async def buy_human(
        self, name: str, source_id: str, purpose: Purpose, n_labels: int, *, chooser: Any = None
    ) -> None:
        self.bought.append((name, source_id, purpose, n_labels, chooser is not None))

    async def n_labels(self) -> tuple[int, int]:
        return 4, 10

    async def observe(self, name: str, mixes: Sequence[tuple[int, int]]) -> None:
        pass


async def _buy(planner: Any, config: CampaignConfig) -> None:
    loop = CampaignLoop(config, Services(planner, planner, planner), SilentProgress(), out=Path())
    labeller: Any = SimpleNamespace(source_id="weak")
    await loop._buy_by_plan(planner, planner, labeller, price_sources(config, {}))


async def test_a_tranche_of_several_purchases_is_bought_whole() -> None:
    planner = FakePlanner([("weak", 30), ("crowd", 20), ("expert", 5)], [("expert", 7)])
    await _buy(planner, _config())
    assert planner.bought == [
        ("plan-0-weak", "weak", Purpose.TRAINING, 30, False),
        ("plan-0-crowd", "crowd", Purpose.TRAINING, 20, False),
        ("plan-0-expert", "expert", Purpose.TRAINING, 5, False),
        ("plan-1-expert", "expert", Purpose.TRAINING, 7, False),
    ]
    assert len(planner.asked) == 3


@pytest.mark.parametrize(("target", "gain"), [(None, None), (0.9, 0.01)])
async def test_what_is_to_be_reached_is_asked_of_each_plan(target: float | None, gain: float | None) -> None:
    planner = FakePlanner([("weak", 1)])
    config = _config(target_accuracy=target, gain_min=gain)
    await _buy(planner, config)
    tranche = price_sources(config, {}).tranche
    asked = {"weak_source_id": "weak", "human_source_id": "", "target_accuracy": target, "gain_min": gain}
    assert planner.asked == [(tranche, asked)] * 2


async def test_with_one_grade_it_is_named_and_items_are_chosen_for_people_only() -> None:
    config = _config(human_sampling="uncertainty")
    alone = config.model_copy(update={"sources": config.sources[:2]})
    planner = FakePlanner([("weak", 30), ("expert", 5)])
    await _buy(planner, alone)
    assert planner.asked[0][1]["human_source_id"] == "expert"
    assert [chosen for *_, chosen in planner.bought] == [False, True]


class FakeOrders:
    """Keeps orders, and answers a repeat only where it is the same, as the budget service does."""

    def __init__(self) -> None:
        self.placed: dict[str, tuple[tuple[Any, ...], Order]] = {}
        self.settled: list[str] = []

    async def orders(self, campaign_id: str) -> AsyncIterator[Order]:
        for _, order in self.placed.values():
            yield order

    async def create_order(
        self,
        request_id: str,
        campaign_id: str,
        source_id: str,
        purpose: Purpose,
        n_labels: int,
        item_ids: Sequence[str],
        *,
        sampling: Sampling | None,
        sharing: Any,
        items_of_order_id: str,
    ) -> Order:
        body = (source_id, purpose, n_labels, tuple(item_ids), sampling, sharing, items_of_order_id)
        order = Order(
            f"o{len(self.placed)}", "c", source_id, purpose, n_labels, 0, 0, Money(1), OrderState.OPEN, request_id
        )
        assert self.placed.setdefault(request_id, (body, order))[0] == body
        return self.placed[request_id][1]

    async def get_order(self, order_id: str) -> Order:
        return next(order for _, order in self.placed.values() if order.order_id == order_id)

    async def order_items(self, order_id: str, *, pending_only: bool = False) -> AsyncIterator[Item]:
        ((_, _, _, item_ids, *_),) = [body for body, order in self.placed.values() if order.order_id == order_id]
        for item_id in item_ids:
            yield Item(item_id, {"text": item_id})

    async def submit_labels(self, request_id: str, order_id: str, labels: Sequence[Label]) -> Any:
        self.settled += [label.item_id for label in labels]
        order = await self.get_order(order_id)
        return SimpleNamespace(
            order=Order("o0", "c", order.source_id, order.purpose, 2, 2, 0, Money(1), OrderState.SETTLED, "")
        )


class FakeChooser:
    """Chooses other items each time, as the free ones are others."""

    def __init__(self) -> None:
        self.n_asked = 0

    async def choose(self, name: str, n_labels: int) -> ChosenItems:
        self.n_asked += 1
        return ChosenItems(Sampling.GIVEN, tuple(f"i{self.n_asked}{n}" for n in range(n_labels)))


class Everyone:
    def answers(self, items: Sequence[Item]) -> list[Label]:
        return [Label(item.item_id, one_hot(0, 2)) for item in items]

    def ask(self, items: Sequence[Item]) -> str:
        raise AssertionError("all have answered")


async def test_an_order_that_is_placed_keeps_its_items_after_a_restart() -> None:
    orders: Any = FakeOrders()
    chooser: Any = FakeChooser()
    for _ in range(2):
        buyer = Buyer(orders, orders, {"crowd": Everyone()}, SilentProgress(), campaign_id="c")
        await buyer.buy_human("plan-0-crowd", "crowd", Purpose.TRAINING, 2, chooser=chooser)
    assert chooser.n_asked == 1
    assert orders.settled == ["i10", "i11"] * 2
    assert list(orders.placed) == ["c:order:plan-0-crowd"]
    # Another purchase is chosen for by itself.
    await buyer.buy_human("plan-1-crowd", "crowd", Purpose.TRAINING, 2, chooser=chooser)
    assert chooser.n_asked == 2
