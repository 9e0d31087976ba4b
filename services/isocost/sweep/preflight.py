"""What is checked of a spec's models before anything is labelled or trained: the cheap part."""

from __future__ import annotations

from pathlib import Path

from isocost.core.errors import InvalidArgumentError
from isocost.sweep.config import SweepConfig
from isocost.tasks.model_path import REMOTE_PREFIX, is_adapter, resolve_model

__all__ = ["check_models"]


def check_models(config: SweepConfig, *, trains_here: bool, labels_here: bool) -> None:
    """Checks that folders of models are there; a hub name is taken at its word.

    Args:
        config: The spec.
        trains_here, labels_here: Whether the services run in this process: others see folders of their own.

    Raises:
        InvalidArgumentError: names the key and the model.
    """
    if trains_here:
        for index, strong in enumerate(config.strong_models):
            if not strong.model.startswith(REMOTE_PREFIX):
                resolve_model(strong.model, field=f"strong_models.{index}")
    if labels_here:
        for index, labeller in enumerate(config.weak_labellers):
            field = f"weak_labellers.{index}.model"
            if labeller.model.startswith(REMOTE_PREFIX):
                raise InvalidArgumentError(field, f"{labeller.model!r} cannot label; name a model of your own")
            if labeller.model and not is_adapter(Path(labeller.model).expanduser()):
                resolve_model(labeller.model, field=field)
