"""What a classifier reads: prompts as token ids, or cached features; cut into batches.

Legend of the shape suffixes: n examples, b examples of a batch, t tokens of a batch's longest prompt,
p tokens of the shared beginning, d width of the features.
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

__all__ = ["Batch", "FeatureInputs", "Inputs", "Prompts", "SelectedInputs", "TokenInputs", "by_prefix"]

Batch = dict[str, torch.Tensor]


class Inputs(Protocol):
    """N examples of which batches can be made."""

    @property
    def lengths_n(self) -> npt.NDArray[np.int64]:
        """What each example costs to compute, in tokens; 1 where there are no tokens."""

    @property
    def prompt_lengths_n(self) -> npt.NDArray[np.int64]:
        """Tokens of each prompt, a shared beginning counted; 1 where there are no tokens."""

    @property
    def prefix_ids(self) -> torch.Tensor | None:
        """The shared beginning [1, P] on the CPU; None where there is none."""

    def shares_prefix(self, row: int) -> bool:
        """Whether an example's prompt begins with the shared beginning."""

    def batch(self, rows: Sequence[int]) -> Batch:
        """The tensors of some examples, on the CPU, without the shared beginning; all share it or none does."""


class TokenInputs:
    """Prompts as token ids, padded to the longest of the batch.

    Args:
        tokens: One list of token ids for each example.
        pad_id: Fills the gaps.
        pad_left: Whether the gaps are in front: then the last column is the last token of every prompt.
        prefix: Tokens that the prompts begin with, to be computed once for a whole batch; a prompt that does not begin
            with them is computed as it is.
    """

    def __init__(
        self, tokens: Sequence[Sequence[int]], pad_id: int, *, pad_left: bool, prefix: Sequence[int] = ()
    ) -> None:
        self._pad_id = pad_id
        self._pad_left = pad_left
        self._prefix = tuple(prefix)
        self._shares = [
            bool(prefix) and len(ids) > len(prefix) and tuple(ids[: len(prefix)]) == self._prefix for ids in tokens
        ]
        self._tokens = [
            np.asarray(ids[len(prefix) :] if shares else ids, dtype=np.int64)
            for ids, shares in zip(tokens, self._shares, strict=True)
        ]
        self._lengths = np.array([len(ids) for ids in self._tokens], dtype=np.int64)

    @property
    def lengths_n(self) -> npt.NDArray[np.int64]:
        """Tokens of each prompt behind the shared beginning."""
        return self._lengths

    @property
    def prompt_lengths_n(self) -> npt.NDArray[np.int64]:
        """Tokens of each whole prompt."""
        prompt_lengths_n: npt.NDArray[np.int64] = self._lengths + len(self._prefix) * np.array(self._shares, dtype=int)
        return prompt_lengths_n

    @property
    def prefix_ids(self) -> torch.Tensor | None:
        """The shared beginning [1, P]."""
        return torch.tensor([self._prefix]) if self._prefix else None

    def shares_prefix(self, row: int) -> bool:
        """Whether the prompt begins with it."""
        return self._shares[row]

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


class SelectedInputs:
    """Some rows of other inputs, in an order of their own."""

    def __init__(self, inputs: Inputs, rows: Sequence[int]) -> None:
        self._inputs = inputs
        self._rows = np.asarray(rows, dtype=np.int64)

    @property
    def lengths_n(self) -> npt.NDArray[np.int64]:
        """Of the rows."""
        lengths_n: npt.NDArray[np.int64] = self._inputs.lengths_n[self._rows]
        return lengths_n

    @property
    def prompt_lengths_n(self) -> npt.NDArray[np.int64]:
        """Of the rows."""
        prompt_lengths_n: npt.NDArray[np.int64] = self._inputs.prompt_lengths_n[self._rows]
        return prompt_lengths_n

    @property
    def prefix_ids(self) -> torch.Tensor | None:
        """Of the other inputs."""
        return self._inputs.prefix_ids

    def shares_prefix(self, row: int) -> bool:
        """Whether the row's prompt begins with it."""
        return self._inputs.shares_prefix(int(self._rows[row]))

    def batch(self, rows: Sequence[int]) -> Batch:
        """Tensors of some of the rows."""
        return self._inputs.batch(self._rows[list(rows)].tolist())


def by_prefix(inputs: Inputs, rows: Sequence[int]) -> list[list[int]]:
    """Rows that share the beginning, then those that do not, each where there are any."""
    if inputs.prefix_ids is None:
        return [list(rows)]
    sharing = [row for row in rows if inputs.shares_prefix(row)]
    apart = [row for row in rows if not inputs.shares_prefix(row)]
    return [part for part in (sharing, apart) if part]


class FeatureInputs:
    """Features [N, D] in float32, computed before."""

    def __init__(self, features_nd: npt.NDArray[np.float32]) -> None:
        self._features_nd = torch.from_numpy(features_nd)

    @property
    def lengths_n(self) -> npt.NDArray[np.int64]:
        """All 1."""
        return np.ones(len(self._features_nd), dtype=np.int64)

    @property
    def prompt_lengths_n(self) -> npt.NDArray[np.int64]:
        """All 1."""
        return self.lengths_n

    @property
    def prefix_ids(self) -> torch.Tensor | None:
        """None: features know no prompt."""
        return None

    def shares_prefix(self, row: int) -> bool:  # noqa: ARG002 - the protocol's
        """Never."""
        return False

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

    @property
    def prefix(self) -> tuple[int, ...]:
        """Token ids that the prompts of all items outside of the few-shot block begin with."""
        return self._encoder("").prefix

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
