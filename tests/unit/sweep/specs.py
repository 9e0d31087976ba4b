"""A small spec, and changes to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from isocost.sweep.config import SweepConfig
from isocost.sweep.config_file import load_config

SPEC: dict[str, Any] = {
    "sweep": "small",
    "weak_prices": [0.1],
    "budgets": [16, 64],
    "weak_fractions": [0, 0.5, 1],
    "seeds": [1, 2],
    "pool": {"n_test": 20},
    "tasks": ["microworld"],
    "weak_labellers": [{"name": "weak", "model": "microworld:weak"}],
    "strong_models": ["microworld:strong"],
    "methods": ["sequential_sft"],
}


def config(**changes: Any) -> SweepConfig:
    return SweepConfig.model_validate({**SPEC, **changes})


def load(folder: Path, **changes: Any) -> SweepConfig:
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump({**SPEC, **changes}, sort_keys=False), encoding="utf-8")
    return load_config(path)
