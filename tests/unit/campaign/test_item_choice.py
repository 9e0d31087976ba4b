from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from isocost.campaign.config import CampaignConfig
from isocost.campaign.item_choice import ChosenItems, ItemChooser, candidates
from isocost.resources.campaign import Sampling
from isocost.resources.label import Label, LabelledItem, one_hot
from isocost.resources.pool import ItemState, PoolItem
from isocost.resources.run import Example, Prediction
from isocost.resources.task import Item

FREE = [Item(f"i{n}", {"text": f"text {n}"}) for n in range(60)]
ANSWERED = [Item(f"a{n}", {"text": f"text a{n}"}) for n in range(30)]


def _config(rule: str) -> CampaignConfig:
    return CampaignConfig.model_validate(
        {
            "campaign": "c",
            "budget": 100,
            "task": {"name": "t", "template": "{text}", "choices": ["a", "b"]},
            "data": {"path": "x.csv"},
            "sources": [
                {"kind": "model", "unit_price": 0.1, "model": "m"},
                {"kind": "human", "unit_price": 1, "channel": {"kind": "simulated"}},
            ],
            "strong_model": "s",
            "evaluation": {"n_labels": 10},
            "pilot": {"n_weak": 4, "n_human": 10},
            "human_sampling": rule,
        }
    )


class FakeCampaign:
    """A budget service with free items, and a model that says "b" to every other item and is wrong there."""

    def __init__(self) -> None:
        self.scores: dict[str, dict[str, float]] = {}
        self.looked_at: list[tuple[list[str], list[str]]] = []

    async def items(self, campaign_id: str, *, state: ItemState) -> AsyncIterator[PoolItem]:
        assert state is ItemState.FREE
        for item in FREE:
            yield PoolItem(item, state)

    async def score_items(self, request_id: str, campaign_id: str, scores: Sequence[tuple[str, float]]) -> None:
        self.scores[request_id] = dict(scores)

    async def human_labels(self) -> list[LabelledItem]:
        return [LabelledItem(Label(item.item_id, one_hot(0, 2)), item) for item in ANSWERED]

    async def weak_only_predictions(
        self, name: str, free: Sequence[Example], answered: Sequence[Example]
    ) -> tuple[list[Prediction], list[Prediction]]:
        self.looked_at.append(([one.item_id for one in free], [one.item_id for one in answered]))
        assert all(example.probabilities == (0.5, 0.5) for example in free)
        return _predictions(free), _predictions(answered)


def _says_b(item_id: str) -> bool:
    return int(item_id[1:]) % 2 == 1


def _predictions(examples: Sequence[Example]) -> list[Prediction]:
    predictions = []
    for example in examples:
        doubt = 0.01 + int(example.item_id[1:]) / 1000
        sure_of_b = (doubt, 1 - doubt)
        unsure_of_a = (0.7 - doubt, 0.3 + doubt)
        predictions.append(
            Prediction(example.item_id, sure_of_b if _says_b(example.item_id) else unsure_of_a, example.choice)
        )
    return predictions


async def _choose(rule: str, fake: Any, n_labels: int = 20) -> ChosenItems:
    return await ItemChooser(_config(rule), fake, fake).choose("plan-0-human", n_labels)


async def test_at_random_no_model_is_asked() -> None:
    fake = FakeCampaign()
    assert await _choose("random", fake) == ChosenItems(Sampling.RANDOM)
    assert not fake.looked_at


async def test_uncertainty_scores_the_free_items_by_entropy() -> None:
    fake = FakeCampaign()
    assert await _choose("uncertainty", fake) == ChosenItems(Sampling.UNCERTAINTY)
    (scores,) = fake.scores.values()
    assert set(scores) == {item.item_id for item in FREE}
    p = 0.01 + 1 / 1000
    assert scores["i1"] == pytest.approx(-p * math.log(p) - (1 - p) * math.log(1 - p))
    assert min(scores["i0"], scores["i58"]) > max(scores["i1"], scores["i59"])
    # Once more, it is the same request; of other scores, another.
    before = list(fake.scores)
    await _choose("uncertainty", fake)
    assert list(fake.scores) == before


async def test_cost_aware_goes_where_people_found_the_model_wrong() -> None:
    fake = FakeCampaign()
    chosen = await _choose("cost_aware", fake)
    assert chosen.sampling is Sampling.GIVEN
    assert len(set(chosen.item_ids)) == 20
    assert fake.looked_at[0][1] == [item.item_id for item in ANSWERED]
    n_b = sum(_says_b(item_id) for item_id in chosen.item_ids)
    assert 13 <= n_b <= 16
    assert not fake.scores
    assert await _choose("cost_aware", fake) == chosen


@pytest.mark.parametrize("rule", ["uncertainty", "cost_aware"])
async def test_where_all_free_items_are_bought_there_is_nothing_to_choose(rule: str) -> None:
    fake = FakeCampaign()
    assert await _choose(rule, fake, n_labels=60) == ChosenItems(Sampling.RANDOM)
    assert not fake.looked_at


def test_of_a_large_pool_a_part_is_looked_at_that_is_the_same_whatever_the_order() -> None:
    items = [Item(f"i{n}", {"text": ""}) for n in range(5_000)]
    assert len(candidates(items, 10)) == 2_000
    assert len(candidates(items, 300)) == 3_000
    assert candidates(items[::-1], 10) == candidates(items, 10)
    assert sum(int(item.item_id[1:]) < 2_500 for item in candidates(items, 10)) == pytest.approx(1_000, abs=120)
