"""How well a trained model answers an evaluation set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from isocost.economics.measurement import measure
from isocost.resources.observation import Evaluation
from isocost.resources.run import Example
from isocost.trainer.storage import write_file

__all__ = ["evaluate", "write_predictions"]


def evaluate(name: str, examples: Sequence[Example], probabilities_nc: npt.NDArray[np.float64]) -> Evaluation:
    """What predictions [N, C] for N labelled examples are worth; see `isocost.economics.measurement`.

    The right answer is the label's most probable choice, the prediction the model's.
    """
    choices_n = np.array([example.choice for example in examples], dtype=np.int64)
    return Evaluation(name=name, n_eval=len(examples), **asdict(measure(choices_n, probabilities_nc)))


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
