from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from isocost.core.money import Money
from isocost.economics.calibration import CalibrationMethod
from isocost.report.weak_source import WeakSources, gather_weak_sources
from isocost.resources.campaign import Campaign, Order, OrderState
from isocost.resources.label import Label, LabelledItem, Purpose, one_hot
from isocost.resources.task import Item, Source, SourceKind, Task

GOOD = Source("good", SourceKind.MODEL, Money(100_000), "m")
METERED = Source("metered", SourceKind.MODEL, Money(20_000), "m", price_per_million_tokens=Money(100_000_000))
HUMAN = Source("human", SourceKind.HUMAN, Money(1_000_000))


class StoredLabels:
    """What `gather_weak_sources` reads of a budget service."""

    def __init__(self, labels: Sequence[Label], orders: Sequence[Order] = ()) -> None:
        self._labels = labels
        self._orders = orders

    async def labels(
        self, campaign_id: str, *, source_id: str, purposes: Sequence[Purpose]
    ) -> AsyncIterator[LabelledItem]:
        for label in self._labels:
            if label.source_id == source_id and label.purpose in purposes:
                yield LabelledItem(label, Item(label.item_id, {"text": label.item_id}))

    async def list_orders(self, campaign_id: str) -> list[Order]:
        return list(self._orders)


def _campaign(**calibration: str) -> Campaign:
    sections = [{"kind": "human", "name": "human"}] + [
        {"kind": "model", "name": name, "calibration": method} for name, method in calibration.items()
    ]
    config = json.dumps({"sources": sections}) if calibration else ""
    return Campaign("c", Task("t", "{text}", ("a", "b")), Money(10**9), "m", config)


def _labels() -> list[Label]:
    labels = []
    for index in range(40):
        item_id, choice = f"i{index}", index % 2
        labels.append(Label(item_id, one_hot(choice, 2), source_id="human", purpose=Purpose.PILOT))
        good = (0.55, 0.45) if (choice == 0) == (index >= 4) else (0.45, 0.55)
        labels.append(
            Label(item_id, good, source_id="good", purpose=Purpose.EVALUATION, choices_mass=0.5, prompt_tokens=9)
        )
        labels.append(
            Label(item_id, (0.9, 0.1), source_id="metered", purpose=Purpose.EVALUATION, prompt_tokens=100 + index)
        )
    # None of these measures a source: no human has answered, or only for the evaluation, or the label is trained on.
    labels.append(Label("alone", (0.1, 0.9), source_id="good", purpose=Purpose.EVALUATION))
    labels.append(Label("eval", one_hot(0, 2), source_id="human", purpose=Purpose.EVALUATION))
    labels.append(Label("eval", (0.1, 0.9), source_id="good", purpose=Purpose.EVALUATION))
    labels.append(Label("i0", (0.1, 0.9), source_id="good", purpose=Purpose.PILOT))
    return labels


async def _gather(
    labels: Sequence[Label], campaign: Campaign, orders: Sequence[Order] = (), sources: Sequence[Source] = ()
) -> WeakSources:
    budget: Any = StoredLabels(labels, orders)
    return await gather_weak_sources(budget, campaign, sources or (GOOD, HUMAN, METERED))


async def test_sources_are_measured_on_what_humans_answered_for_the_pilot() -> None:
    weak = await _gather(_labels(), _campaign())
    good, metered = weak.sources
    assert (good.quality.n_measured, good.quality.n_right) == (40, 36)
    assert (good.quality.choices_mass, good.quality.price_micros) == (0.5, 100_000)
    assert (metered.quality.n_measured, metered.quality.n_right) == (40, 20)
    # 100 micros a token, 119.5 tokens on average: what was paid, not the most it might have been.
    assert metered.quality.price_micros == pytest.approx(11_950)
    assert weak.chosen == "good"
    assert weak.reason.startswith("good: .90")
    assert weak.calibration.method is CalibrationMethod.NONE


async def test_each_source_is_calibrated_as_the_campaign_file_says() -> None:
    weak = await _gather(_labels(), _campaign(good="temperature", metered="none"))
    good, metered = weak.sources
    assert good.calibration is not None
    assert good.calibration.method is CalibrationMethod.TEMPERATURE
    assert good.calibration.used
    assert weak.calibration is good.calibration.calibration
    # Right nine times out of ten, but only .55 sure.
    assert weak.calibration.temperature < 0.5
    assert metered.calibration is None


async def test_what_is_not_measured_is_not_calibrated() -> None:
    weak = await _gather([], _campaign(good="isotonic", metered="isotonic"))
    assert [source.calibration for source in weak.sources] == [None, None]
    assert weak.calibration.method is CalibrationMethod.NONE


async def test_a_source_that_was_bought_from_stays_chosen() -> None:
    def order(source_id: str, purpose: Purpose) -> Order:
        return Order("o", "c", source_id, purpose, 4, 4, 0, Money(1), OrderState.SETTLED, "r")

    orders = [order("human", Purpose.PILOT), order("good", Purpose.EVALUATION), order("metered", Purpose.PILOT)]
    assert (await _gather(_labels(), _campaign(), orders)).chosen == "metered"
    assert (await _gather(_labels(), _campaign(), orders[:2])).chosen == "good"


async def test_the_same_labels_give_the_same_answer() -> None:
    campaign = _campaign(good="isotonic", metered="temperature")
    assert await _gather(_labels(), campaign) == await _gather(_labels(), campaign)
