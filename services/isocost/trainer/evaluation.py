"""How well a trained model answers an evaluation set."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from isocost.economics.interval import wilson_interval
from isocost.resources.observation import Evaluation
from isocost.resources.run import Example
from isocost.trainer.auroc import auroc
from isocost.trainer.storage import write_file

__all__ = ["evaluate", "write_predictions"]


def evaluate(name: str, examples: Sequence[Example], probabilities_nc: npt.NDArray[np.float64]) -> Evaluation:
    """Accuracy with its interval, and AUROC, of predictions [N, C] for N labelled examples.

    The right answer is the label's most probable choice, the prediction the model's.
    """
    choices_n = np.array([example.choice for example in examples], dtype=np.int64)
    accuracy = float((probabilities_nc.argmax(axis=-1) == choices_n).mean())
    low, high = wilson_interval(accuracy, len(examples))
    area = auroc(choices_n, probabilities_nc)
    return Evaluation(name, len(examples), accuracy, low, high, 0.5 if area is None else area)


def write_predictions(path: Path, examples: Sequence[Example], probabilities_nc: npt.NDArray[np.float64]) -> None:
    """Writes a Parquet file with columns item_id, probabilities and choice (the label's, from 0)."""
    frame = pl.DataFrame(
        {
            "item_id": [example.item_id for example in examples],
            "probabilities": probabilities_nc.tolist(),
            "choice": [example.choice for example in examples],
        }
    )
    buffer = BytesIO()
    frame.write_parquet(buffer)
    write_file(path, buffer.getvalue())
