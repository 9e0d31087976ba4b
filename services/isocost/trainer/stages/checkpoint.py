"""A stage's state between two steps, on disk, so that a killed run goes on as if nothing had happened."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from isocost.trainer.storage import write_file

__all__ = ["Checkpoint", "StageCheckpoint"]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """All that decides how a stage goes on.

    Attributes:
        step: Steps done.
        weights: The trainable weights after them.
        best_weights: Those that early stopping would keep; None where no evaluation was made yet.
        optimizer, scheduler: Their states.
        random_states: Of torch's generators: the CPU's, then each CUDA device's.
        stopping: State of `EarlyStopping`.
        n_examples, n_tokens: Trained on so far, counted with repetition.
        seconds: Wall-clock seconds of training so far.
    """

    step: int
    weights: dict[str, torch.Tensor]
    best_weights: dict[str, torch.Tensor] | None
    optimizer: dict[str, Any]
    scheduler: dict[str, Any]
    random_states: list[torch.Tensor]
    stopping: dict[str, Any]
    n_examples: int
    n_tokens: int
    seconds: float


class StageCheckpoint:
    """The one checkpoint of one stage; each replaces the one before.

    Args:
        path: The file.
        interval_seconds: Least time between two checkpoints; 0 makes none but on being asked to stop.
    """

    def __init__(self, path: Path, interval_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._interval_seconds = interval_seconds
        self._clock = clock
        self._last = clock()

    @property
    def is_due(self) -> bool:
        """Whether it is time for the next."""
        return 0 < self._interval_seconds <= self._clock() - self._last

    def load(self) -> Checkpoint | None:
        """The checkpoint, or None where there is none that can be read."""
        try:
            state = torch.load(self._path, map_location="cpu", weights_only=True)
            return Checkpoint(**state)
        except (OSError, RuntimeError, EOFError, TypeError, pickle.UnpicklingError):
            # A damaged one is worth no more than none: the stage begins anew.
            return None

    def save(self, checkpoint: Checkpoint) -> None:
        """Replaces the checkpoint; readers see the old or the new one, whatever kills the process."""
        buffer = BytesIO()
        torch.save({name: getattr(checkpoint, name) for name in Checkpoint.__slots__}, buffer)
        write_file(self._path, buffer.getvalue())
        self._last = self._clock()

    def remove(self) -> None:
        """Forgets it: the stage is done."""
        self._path.unlink(missing_ok=True)
