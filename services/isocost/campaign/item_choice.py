"""Which items a tranche of human labels takes, as `human_sampling` of the campaign file says.

The rules themselves are in `isocost.economics.item_choice`. Evaluation labels and the pilot are always random: accuracy
and sources are measured on them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isocost.campaign.config import CampaignConfig
from isocost.campaign.training import Training
from isocost.client.budget import BudgetClient
from isocost.core.ids import content_digest
from isocost.economics.item_choice import cost_aware_items, predictive_entropy
from isocost.resources.campaign import Sampling
from isocost.resources.label import LabelledItem
from isocost.resources.pool import ItemState
from isocost.resources.run import Example, Prediction
from isocost.resources.task import Item

__all__ = ["ChosenItems", "ItemChooser"]

#: Free items that are looked at: so many, or so many times the labels that are bought. Chosen evenly, by a hash.
_CANDIDATES_MIN = 2_000
_CANDIDATES_PER_LABEL = 10


@dataclass(frozen=True, slots=True)
class ChosenItems:
    """How an order takes its items.

    Attributes:
        sampling: Of the order.
        item_ids: The items, for GIVEN sampling, in the sequence in which they are bought; else empty.
    """

    sampling: Sampling = Sampling.RANDOM
    item_ids: tuple[str, ...] = ()


class ItemChooser:
    """Chooses items for human labels. The same state of the campaign gives the same items.

    Args:
        config: The campaign file.
        budget: Has the free items, and takes their scores.
        training: Trains the model on weak labels only, which is asked what it makes of them.
    """

    def __init__(self, config: CampaignConfig, budget: BudgetClient, training: Training) -> None:
        self._config = config
        self._budget = budget
        self._training = training

    async def choose(self, name: str, n_labels: int) -> ChosenItems:
        """The items of one purchase.

        Args:
            name: Names the purchase among those of the campaign.
            n_labels: How many.
        """
        rule = self._config.human_sampling
        if rule == "random":
            return ChosenItems()
        stream = self._budget.items(self._config.campaign, state=ItemState.FREE)
        free = candidates([entry.item async for entry in stream], n_labels)
        if len(free) <= n_labels:
            return ChosenItems()
        answered = await self._training.human_labels() if rule == "cost_aware" else []
        of_free, of_answered = await self._training.weak_only_predictions(
            name, self._unlabelled(free), [_example(labelled) for labelled in answered]
        )
        if rule == "uncertainty":
            await self._score(name, of_free)
            return ChosenItems(Sampling.UNCERTAINTY)
        taken = cost_aware_items(
            [prediction.item_id for prediction in of_free],
            _rows(of_free),
            n_labels,
            answered_probabilities=_rows(of_answered),
            answered_choices=[labelled.label.choice for labelled in answered],
        )
        return ChosenItems(Sampling.GIVEN, tuple(taken))

    async def _score(self, name: str, predictions: Sequence[Prediction]) -> None:
        entropies = predictive_entropy(_rows(predictions)).tolist()
        scores = [(one.item_id, entropy) for one, entropy in zip(predictions, entropies, strict=True)]
        # Other scores, should the free items be others after a restart, are another request.
        request_id = f"{self._config.campaign}:scores:{name}:{content_digest(scores)}"
        await self._budget.score_items(request_id, self._config.campaign, scores)

    def _unlabelled(self, items: Sequence[Item]) -> list[Example]:
        n_choices = len(self._config.task.choices)
        return [Example(item.item_id, item.fields, (1 / n_choices,) * n_choices) for item in items]


def candidates(items: Sequence[Item], n_labels: int) -> list[Item]:
    """The free items that are looked at, drawn evenly: a model need not predict a pool of millions to choose a few."""
    hashed = sorted(items, key=lambda item: hashlib.sha256(item.item_id.encode()).digest())
    return hashed[: max(_CANDIDATES_MIN, _CANDIDATES_PER_LABEL * n_labels)]


def _example(labelled: LabelledItem) -> Example:
    return Example(labelled.item.item_id, labelled.item.fields, labelled.label.probabilities)


def _rows(predictions: Sequence[Prediction]) -> NDArray[np.float64]:
    return np.array([prediction.probabilities for prediction in predictions], dtype=np.float64)
