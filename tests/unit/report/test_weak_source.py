from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator, Collection, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from isocost.core.money import Money
from isocost.economics.calibration import CalibrationMethod
from isocost.economics.policy.inputs import PolicyInputs, SourceState
from isocost.economics.policy.source_choice import RankedPair
from isocost.report import weak_source
from isocost.report.weak_source import WeakSources, gather_weak_sources
from isocost.resources.campaign import Campaign, Order, OrderState
from isocost.resources.label import Label, LabelledItem, Purpose, one_hot
from isocost.resources.task import Item, Source, SourceKind, Task

GOOD = Source("good", SourceKind.MODEL, Money(100_000), "m")
METERED = Source("metered", SourceKind.MODEL, Money(20_000), "m", price_per_million_tokens=Money(100_000_000))
HUMAN = Source("human", SourceKind.HUMAN, Money(1_000_000))
CROWD = Source("crowd", SourceKind.HUMAN, Money(300_000))
ALL = (GOOD, HUMAN, METERED, CROWD)
N_ITEMS = 1_000


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

    async def get_campaign(self, campaign_id: str) -> Any:
        return SimpleNamespace(n_items=N_ITEMS)


class Ranking:
    """Ranks pairs as a test wishes, and keeps what it was given."""

    def __init__(self, *pairs: tuple[str, str, float]) -> None:
        self._pairs = tuple(RankedPair(*pair) for pair in pairs)
        self.given: list[PolicyInputs] = []
        self.held_out: set[str] = set()

    def __call__(self, inputs: PolicyInputs, held_out_datasets: Collection[str] = ()) -> tuple[RankedPair, ...]:
        self.given.append(inputs)
        self.held_out |= set(held_out_datasets)
        return self._pairs


@pytest.fixture
def ranking(monkeypatch: pytest.MonkeyPatch) -> Ranking:
    ranking = Ranking(
        ("good", "crowd", 0.9), ("good", "human", 0.875), ("metered", "human", 0.85), ("metered", "crowd", 0.8)
    )
    monkeypatch.setattr(weak_source, "rank_sources", ranking)
    return ranking


def _campaign(**calibration: str) -> Campaign:
    sections = [{"kind": "human", "name": "human"}] + [
        {"kind": "model", "name": name, "calibration": method} for name, method in calibration.items()
    ]
    config = json.dumps({"sources": sections, "n_tranches": 3}) if calibration else ""
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
        crowd = one_hot(choice if index >= 2 else 1 - choice, 2)
        labels.append(Label(item_id, crowd, source_id="crowd", purpose=Purpose.EVALUATION))
    # None of these measures a source: no human has answered, or only for the evaluation, or the label is trained on.
    labels.append(Label("alone", (0.1, 0.9), source_id="good", purpose=Purpose.EVALUATION))
    labels.append(Label("eval", one_hot(0, 2), source_id="human", purpose=Purpose.EVALUATION))
    labels.append(Label("eval", (0.1, 0.9), source_id="good", purpose=Purpose.EVALUATION))
    labels.append(Label("i0", (0.1, 0.9), source_id="good", purpose=Purpose.PILOT))
    return labels


def _order(source_id: str, purpose: Purpose, n_labels: int = 4, items_of: str = "") -> Order:
    order = Order("o", "c", source_id, purpose, n_labels, n_labels, 0, Money(1), OrderState.SETTLED, "r")
    return dataclasses.replace(order, items_of_order_id=items_of)


#: As the campaign loop places them.
ORDERS = (
    _order("human", Purpose.EVALUATION, 100),
    _order("human", Purpose.PILOT, 50),
    _order("good", Purpose.EVALUATION, 40, "o"),
    _order("metered", Purpose.EVALUATION, 40, "o"),
    _order("crowd", Purpose.EVALUATION, 40, "o"),
)


async def _gather(
    labels: Sequence[Label], campaign: Campaign, orders: Sequence[Order] = (), sources: Sequence[Source] = ()
) -> WeakSources:
    budget: Any = StoredLabels(labels, orders)
    return await gather_weak_sources(budget, campaign, sources or (GOOD, HUMAN, METERED))


async def test_sources_are_measured_on_what_humans_answered_for_the_pilot() -> None:
    sources = await _gather(_labels(), _campaign(), ORDERS, ALL)
    good, metered = sources.sources
    assert (good.quality.n_measured, good.quality.n_right) == (40, 36)
    assert (good.quality.choices_mass, good.quality.price_micros) == (0.5, 100_000)
    assert (metered.quality.n_measured, metered.quality.n_right) == (40, 20)
    # 100 micros a token, 119.5 tokens on average: what was paid, not the most it might have been.
    assert metered.quality.price_micros == pytest.approx(11_950)
    assert sources.calibration.method is CalibrationMethod.NONE
    reference, crowd = sources.grades
    assert (reference.source, reference.quality) == (HUMAN, None)
    assert crowd.quality is not None
    assert (crowd.quality.n_measured, crowd.quality.n_right) == (40, 38)
    # A guesser that costs an eighth brings less than a source that is right nine times out of ten.
    assert sources.chosen == "good"


async def test_the_best_pair_is_chosen_and_said_in_words(ranking: Ranking) -> None:
    sources = await _gather(_labels(), _campaign(), ORDERS, ALL)
    assert (sources.chosen, sources.grade) == ("good", "crowd")
    assert sources.reason == (
        "good: .90 (.77 to .96) at 0.1 USD, with an expected accuracy of .900 once all is spent; "
        ".850 with metered: .50 (.35 to .65) at 0.01195 USD; human labels by expected accuracy: "
        "crowd: .95 (.83 to .99) at 0.3 USD (.900), then human (the reference) at 1 USD (.875)"
    )


async def test_pairs_are_ranked_by_what_was_known_before_any_weak_label_was_bought(ranking: Ranking) -> None:
    campaign = _campaign(good="none")
    later = (*ORDERS, _order("good", Purpose.PILOT, 200), _order("crowd", Purpose.TRAINING, 77))
    before, after = [await _gather(_labels(), campaign, orders, ALL) for orders in (ORDERS, later)]
    # The report of a finished campaign says what the campaign said.
    assert before == after
    # As each plan of the campaign: what the library holds of the same task is left out.
    assert ranking.held_out == {campaign.task.name}
    given, again = ranking.given
    assert given == again
    spent = 150 * 1_000_000 + 40 * 100_000 + 40 * 300_000 + 40 * 11_950
    assert given.available_micros == 10**9 - spent
    assert given.tranche_micros == -(-given.available_micros // 3)
    assert (given.n_items_free, given.n_eval) == (N_ITEMS - 150, 100)
    assert given.weak == (SourceState("good", 100_000, 0, 0.9, 40), SourceState("metered", 11_950, 0, 0.5, 40))
    assert given.human == (SourceState("human", 1_000_000, 50), SourceState("crowd", 300_000, 0, 0.95, 40))


async def test_a_few_measured_labels_are_no_accuracy(ranking: Ranking) -> None:
    few = [label for label in _labels() if label.source_id == "human" or label.item_id < "i17"]
    sources = await _gather(few, _campaign(), ORDERS, ALL)
    assert [one.quality.n_measured for one in sources.sources] == [9, 9]
    assert {state.accuracy for state in (*ranking.given[0].weak, *ranking.given[0].human)} == {None}
    assert [state.price_micros for state in ranking.given[0].weak] == [100_000, 20_000]


async def test_one_source_of_either_kind_needs_no_ranking(ranking: Ranking) -> None:
    sources = await _gather(_labels(), _campaign(), ORDERS, (METERED, HUMAN))
    assert (sources.chosen, sources.grade, ranking.given) == ("metered", "human", [])
    assert sources.reason == "metered: .50 (.35 to .65) at 0.01195 USD, the only weak source"
    unmeasured = await _gather([], _campaign(), (), (GOOD, HUMAN))
    assert unmeasured.reason == "good (not measured) at 0.1 USD, the only weak source"


async def test_each_source_is_calibrated_as_the_campaign_file_says() -> None:
    weak = await _gather(_labels(), _campaign(good="temperature", metered="none"))
    good, metered = weak.sources
    assert good.calibration is not None
    assert good.calibration.method is CalibrationMethod.TEMPERATURE
    assert good.calibration.used
    assert weak.chosen == "good"
    assert weak.calibration is good.calibration.calibration
    # Right nine times out of ten, but only .55 sure.
    assert weak.calibration.temperature < 0.5
    assert metered.calibration is None


async def test_what_is_not_measured_is_not_calibrated() -> None:
    weak = await _gather([], _campaign(good="isotonic", metered="isotonic"))
    assert [source.calibration for source in weak.sources] == [None, None]
    assert weak.calibration.method is CalibrationMethod.NONE


async def test_a_source_that_was_bought_from_stays_chosen(ranking: Ranking) -> None:
    orders = [*ORDERS, _order("metered", Purpose.PILOT)]
    sources = await _gather(_labels(), _campaign(), orders, ALL)
    assert sources.chosen == "metered"
    # Of the grades, the one that is best with it.
    assert sources.grade == "human"
    assert sources.reason.startswith("metered: .50")


async def test_the_same_labels_give_the_same_answer() -> None:
    campaign = _campaign(good="isotonic", metered="temperature")
    assert await _gather(_labels(), campaign) == await _gather(_labels(), campaign)
