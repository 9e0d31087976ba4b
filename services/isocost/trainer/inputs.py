"""What a classifier reads: prompts as token ids, or cached features; cut into batches.

Legend of the shape suffixes: n examples, b examples of a batch, t tokens of a batch's longest prompt,
d width of the features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from isocost.core.errors import InvalidArgumentError
from isocost.resources.run import Example
from isocost.resources.task import Task
from isocost.tasks.prompt import FewShotExample, PromptEncoder

__all__ = ["Batch", "FeatureInputs", "Inputs", "Prompts", "TokenInputs"]

Batch = dict[str, torch.Tensor]


class Inputs(Protocol):
    """N examples of which batches can be made."""

    @property
    def lengths_n(self) -> npt.NDArray[np.int64]:
        """Length of each example in tokens; 1 where there are no tokens."""

    def batch(self, rows: Sequence[int]) -> Batch:
        """The tensors of some examples, on the CPU."""


class TokenInputs:
    """Prompts as token ids, padded to the longest of the batch.

    Args:
        tokens: One list of token ids for each example.
        pad_id: Fills the gaps.
        pad_left: Whether the gaps are in front: then the last column is the last token of every prompt.
    """

    def __init__(self, tokens: Sequence[Sequence[int]], pad_id: int, *, pad_left: bool) -> None:
        self._tokens = [np.asarray(ids, dtype=np.int64) for ids in tokens]
        self._pad_id = pad_id
        self._pad_left = pad_left
        self._lengths = np.array([len(ids) for ids in tokens], dtype=np.int64)

    @property
    def lengths_n(self) -> npt.NDArray[np.int64]:
        """Tokens of each prompt."""
        return self._lengths

    def batch(self, rows: Sequence[int]) -> Batch:
        """`input_ids` and `attention_mask`, both [B, T]; no mask where nothing is padded, which is faster."""
        lengths = self._lengths[list(rows)]
        longest = int(lengths.max())
        ids_bt = np.full((len(rows), longest), self._pad_id, dtype=np.int64)
        mask_bt = np.zeros((len(rows), longest), dtype=np.int64)
        for index, row in enumerate(rows):
            start = longest - int(lengths[index]) if self._pad_left else 0
            ids_bt[index, start : start + lengths[index]] = self._tokens[row]
            mask_bt[index, start : start + lengths[index]] = 1
        batch = {"input_ids": torch.from_numpy(ids_bt)}
        if int(lengths.min()) < longest:
            batch["attention_mask"] = torch.from_numpy(mask_bt)
        return batch


class FeatureInputs:
    """Features [N, D] in float32, computed before."""

    def __init__(self, features_nd: npt.NDArray[np.float32]) -> None:
        self._features_nd = torch.from_numpy(features_nd)

    @property
    def lengths_n(self) -> npt.NDArray[np.int64]:
        """All 1."""
        return np.ones(len(self._features_nd), dtype=np.int64)

    def batch(self, rows: Sequence[int]) -> Batch:
        """`features` [B, D]."""
        return {"features": self._features_nd[torch.as_tensor(rows, dtype=torch.long)]}


class Prompts:
    """Makes the prompts of one run, so that no item is ever asked with its own answer in view.

    An item that is itself part of the few-shot block is asked with the rest of the block: all labels that were paid for
    are trained on, and none gives itself away.

    Args:
        tokenizer: A Hugging Face tokenizer.
        task: The question.
        few_shot: The block before every question; may be empty.
        max_tokens: Longest prompt accepted.
        lead: Token ids that end every prompt: `ChoiceTree.lead`, where the answer is read from a language model.
    """

    def __init__(
        self, tokenizer: Any, task: Task, few_shot: Sequence[Example], *, max_tokens: int, lead: Sequence[int] = ()
    ) -> None:
        self._tokenizer = tokenizer
        self._task = task
        self._few_shot = tuple(few_shot)
        self._max_tokens = max_tokens
        self._lead = tuple(lead)
        self._encoders: dict[str, PromptEncoder] = {}

    def encode(self, examples: Sequence[Example]) -> list[list[int]]:
        """Token ids of each example's prompt.

        Raises:
            InvalidArgumentError: names the item whose prompt is longer than the model's context.
        """
        shown: Mapping[str, Example] = {example.item_id: example for example in self._few_shot}
        prompts = []
        for example in examples:
            encoder = self._encoder(example.item_id if example.item_id in shown else "")
            try:
                prompts.append(encoder.encode(example.fields))
            except InvalidArgumentError as error:
                raise InvalidArgumentError(f"item {example.item_id!r}", error.message) from None
        return prompts

    def _encoder(self, left_out: str) -> PromptEncoder:
        if left_out not in self._encoders:
            block = [
                FewShotExample(example.fields, example.choice)
                for example in self._few_shot
                if example.item_id != left_out
            ]
            self._encoders[left_out] = PromptEncoder(
                self._tokenizer, self._task, block, max_tokens=self._max_tokens, lead=self._lead
            )
        return self._encoders[left_out]
