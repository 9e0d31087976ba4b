"""Results of stages on closed models, each under its content address: whole or not there."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from isocost.trainer.storage import new_folder

__all__ = ["FineTunedModel", "FineTunedModelStore"]

_MODEL = "fine_tuned_model.json"
_OUTCOME = "outcome.json"


@dataclass(frozen=True, slots=True)
class FineTunedModel:
    """What a stage's job has made.

    Attributes:
        name: What the server calls it.
        job_id: The job that made it.
        base: What the job started from.
        n_train, n_holdout: Labels in the training and in the validation file.
        n_steps: Optimizer's steps; 0 where the server does not say.
        n_examples: Examples trained on, counted with repetition; 0 where the server does not say.
        n_tokens: Tokens trained on, as the server bills them; 0 where it does not say.
        seconds: From the job's creation to its end, by the server's clock; 0 where it does not say.
    """

    name: str
    job_id: str
    base: str
    n_train: int
    n_holdout: int
    n_steps: int
    n_examples: int
    n_tokens: int
    seconds: float


class FineTunedModelStore:
    """One folder a stage, beside those of stages on models on disk: the model's name, and what the job did."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, stage_id: str) -> FineTunedModel | None:
        """What a stage made, or None where it was not trained yet."""
        folder = self._folder / stage_id
        if not (folder / _MODEL).is_file():
            return None
        return FineTunedModel(
            **json.loads((folder / _MODEL).read_text(encoding="utf-8")),
            **json.loads((folder / _OUTCOME).read_text(encoding="utf-8")),
        )

    def put(self, stage_id: str, model: FineTunedModel) -> None:
        """Stores a stage."""
        outcome = asdict(model)
        named = {key: outcome.pop(key) for key in ("name", "job_id", "base")}
        with new_folder(self._folder / stage_id) as folder:
            (folder / _MODEL).write_text(json.dumps(named, indent=2) + "\n", encoding="utf-8")
            (folder / _OUTCOME).write_text(json.dumps(outcome, indent=2) + "\n", encoding="utf-8")
