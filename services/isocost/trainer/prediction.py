"""Predictions in batches. Legend of the shape suffixes: n examples, c choices."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from isocost.trainer.classifier import Classifier
from isocost.trainer.inputs import Batch, Inputs

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

    Raises:
        Cancelled: where `is_cancelled` turns true between two batches.
    """
    was_training = classifier.training
    classifier.eval()
    batches = batches_by_length(inputs.lengths_n, batch_tokens)
    rows: list[int] = []
    parts = []
    for batch in batches:
        if is_cancelled():
            raise Cancelled
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            logits_bc = classifier(on_device(inputs.batch(batch), device))
        parts.append(torch.softmax(logits_bc.double(), dim=-1).cpu().numpy())
        rows += batch
    classifier.train(was_training)
    probabilities_nc = np.concatenate(parts)
    ordered_nc = np.empty(probabilities_nc.shape, dtype=np.float64)
    ordered_nc[rows] = probabilities_nc
    return ordered_nc
