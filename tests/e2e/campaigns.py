"""A small campaign on the carried models, and the command that runs it as a user does."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "microworld.yaml"


def small_campaign() -> dict[str, Any]:
    raw: dict[str, Any] = copy.deepcopy(yaml.safe_load(EXAMPLE.read_text()))
    raw["budget"] = 70
    raw["evaluation"]["n_labels"] = 30
    raw["pilot"] = {"n_weak": 60, "n_human": 12}
    raw["n_tranches"] = 2
    raw["data"]["n_items_max"] = 600
    raw["test"]["n_items_max"] = 100
    for recipe in ("weak_recipe", "human_recipe"):
        raw["method"][recipe] = {"learning_rate": 2e-3, "max_examples": 640, "eval_every_steps": 5}
    return raw


def write_campaign(folder: Path, raw: dict[str, Any]) -> Path:
    path = folder / "campaign.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-c", "from isocost.cli.app import main; main()", *map(str, arguments)]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "COLUMNS": "200"}


def isocost(*arguments: str | Path, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, env=environment(), timeout=timeout, check=False
    )


def read_result(out: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((out / "result.json").read_text())
    return result
