"""Predictions in batches. Legend of the shape suffixes: n examples, c choices."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from isocost.trainer.models.classifier import Classifier
from isocost.trainer.models.inputs import Batch, Inputs, by_prefix
from isocost.trainer.models.memory import halves, is_out_of_memory
from isocost.trainer.models.shared_prefix import PrefixStates

__all__ = ["Cancelled", "batches_by_length", "on_device", "predict"]


class Cancelled(Exception):  # noqa: N818 - not an error: somebody asked for it
    """The run is to stop."""


def on_device(batch: Batch, device: torch.device) -> Batch:
    """Moves a batch."""
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


def batches_by_length(lengths_n: npt.NDArray[np.int64], batch_tokens: int) -> list[list[int]]:
    """Cuts N examples into batches of like length, each of at most `batch_tokens` tokens with padding (but at least
    one example)."""
    batches: list[list[int]] = []
    for row in np.argsort(-lengths_n, kind="stable"):
        # Sorted from the longest: the first of a batch sets the width of all.
        if batches and (len(batches[-1]) + 1) * lengths_n[batches[-1][0]] <= batch_tokens:
            batches[-1].append(int(row))
        else:
            batches.append([int(row)])
    return batches


@torch.inference_mode()
def predict(
    classifier: Classifier,
    inputs: Inputs,
    *,
    device: torch.device,
    batch_tokens: int,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> npt.NDArray[np.float64]:
    """Probabilities [N, C] of each choice, in the order of the inputs; rows sum to 1.

    Where the device runs out of memory, batches are halved.

    Raises:
        Cancelled: where `is_cancelled` turns true between two batches.
        FailedPreconditionError: where the memory does not hold a single example.
    """
    was_training = classifier.training
    classifier.eval()
    autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")
    rows: list[int] = []
    parts = []
    for part in by_prefix(inputs, range(len(inputs.lengths_n))):
        prefix = None
        if inputs.prefix_ids is not None and inputs.shares_prefix(part[0]):
            with autocast:
                prefix = classifier.prefix_states(inputs.prefix_ids.to(device))
            assert prefix is not None, "inputs with a shared beginning for a classifier that cannot share it"
        # The states of the beginning are copied for each example: they count as half its tokens.
        extra = prefix.n_tokens // 2 if prefix else 0
        batches = [
            [part[index] for index in batch]
            for batch in batches_by_length(inputs.lengths_n[part] + extra, batch_tokens)
        ]
        while batches:
            if is_cancelled():
                raise Cancelled
            batch = batches.pop(0)
            probabilities_bc = _probabilities(classifier, on_device(inputs.batch(batch), device), prefix, autocast)
            if probabilities_bc is None:
                batches[:0] = halves(batch)
                continue
            parts.append(probabilities_bc)
            rows += batch
    classifier.train(was_training)
    probabilities_nc = np.concatenate(parts)
    ordered_nc = np.empty(probabilities_nc.shape, dtype=np.float64)
    ordered_nc[rows] = probabilities_nc
    return ordered_nc


def _probabilities(
    classifier: Classifier, batch: Batch, prefix: PrefixStates | None, autocast: contextlib.AbstractContextManager[Any]
) -> npt.NDArray[np.float64] | None:
    """Probabilities [B, C], or None where the memory does not hold the batch."""
    try:
        with autocast:
            logits_bc = classifier(batch, prefix)
        return np.asarray(torch.softmax(logits_bc.double(), dim=-1).cpu())
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    return None
