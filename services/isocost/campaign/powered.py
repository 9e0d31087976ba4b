"""Accuracy measured on bought labels and on predictions for items nobody labelled; see `isocost.economics.ppi`."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import replace

from isocost.economics.ppi import powered_mean
from isocost.resources.observation import Evaluation
from isocost.resources.run import Example, Prediction
from isocost.resources.task import Item

__all__ = ["UNLABELLED_SET", "powered_evaluation", "unlabelled_examples"]

UNLABELLED_SET = "unlabelled"


def unlabelled_examples(
    items: Sequence[Item], labelled_ids: Collection[str], n_items: int, n_choices: int
) -> list[Example]:
    """At most n items that no label was bought for, drawn as the bought ones were: evenly.

    The draw is by a hash of the id, so that it stays the same when some of them are bought later. Their probabilities
    are even: nobody has said anything.
    """
    free = [item for item in items if item.item_id not in labelled_ids]
    free.sort(key=lambda item: hashlib.sha256(item.item_id.encode()).digest())
    even = (1 / n_choices,) * n_choices
    return [Example(item.item_id, item.fields, even) for item in free[:n_items]]


def powered_evaluation(
    evaluation: Evaluation, answered: Sequence[Prediction], others: Sequence[Prediction]
) -> Evaluation:
    """An evaluation whose accuracy and interval use predictions for unlabelled items as well.

    The proxy of a right answer is the model's own probability of its prediction. Where that says nothing, the result is
    that of the labels alone.
    """
    right = [float(prediction.choice == _most_probable(prediction)) for prediction in answered]
    mean = powered_mean(
        right,
        [max(prediction.probabilities) for prediction in answered],
        [max(prediction.probabilities) for prediction in others],
    )
    return replace(
        evaluation,
        accuracy=mean.mean,
        accuracy_low=mean.low,
        accuracy_high=mean.high,
        n_unlabelled=mean.n_unlabelled,
    )


def _most_probable(prediction: Prediction) -> int:
    return max(range(len(prediction.probabilities)), key=prediction.probabilities.__getitem__)
