"""Results of stages, each under its content address: whole or not there."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from isocost.trainer.stages.stage import StageOutcome
from isocost.trainer.storage import new_folder

__all__ = ["StageStore"]

_WEIGHTS = "weights.safetensors"
_OUTCOME = "outcome.json"


class StageStore:
    """One folder a stage: its trainable weights after it, and what it did."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, stage_id: str) -> StageOutcome | None:
        """What a stage did, or None where it was not trained yet."""
        path = self._folder / stage_id / _OUTCOME
        if not path.is_file():
            return None
        # Says when it was used last; see `isocost.trainer.disk`.
        os.utime(path.parent)
        return StageOutcome(**json.loads(path.read_text()))

    def weights(self, stage_id: str) -> dict[str, torch.Tensor]:
        """The weights after a stage that `find` found."""
        return load_file(self._folder / stage_id / _WEIGHTS)

    def put(self, stage_id: str, outcome: StageOutcome, weights: dict[str, torch.Tensor]) -> None:
        """Stores a stage."""
        with new_folder(self._folder / stage_id) as folder:
            save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / _WEIGHTS)
            (folder / _OUTCOME).write_text(json.dumps(asdict(outcome)))
