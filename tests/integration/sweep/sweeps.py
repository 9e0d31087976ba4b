"""Small sweeps on the carried models, in this process or by the command."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from isocost.core.progress import SilentProgress
from isocost.embedded.launcher import EmbeddedServices
from isocost.labeler.settings import LabelerSettings
from isocost.sweep.config import SweepConfig
from isocost.sweep.plan import make_plan
from isocost.sweep.runner import SweepOutcome, run_sweep
from isocost.trainer.settings import TrainerSettings

SPEC: dict[str, Any] = {
    "sweep": "small",
    "weak_prices": [0.1],
    "budgets": [8],
    "weak_fractions": [0, 0.5, 1],
    "seeds": [1],
    "pool": {"n_test": 20},
    "tasks": ["microworld"],
    "weak_labellers": [{"name": "weak", "model": "microworld:weak"}],
    "strong_models": ["microworld:strong"],
    "recipe": {"learning_rate": 2.0e-3, "max_examples": 64},
    "methods": ["few_shot_prompting", "sequential_sft", "joint_sft"],
}


class Said(SilentProgress):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def sweep(out: Path, *, said: Said | None = None, **changes: Any) -> SweepOutcome:
    """Runs a sweep with its own services, whose state lies in `out`."""
    state = out / "state"

    async def run() -> SweepOutcome:
        plan = make_plan(SweepConfig.model_validate({**SPEC, **changes}))
        async with EmbeddedServices(
            state,
            labeler_settings=LabelerSettings(state_dir=state / "labeler", engine="transformers"),
            trainer_settings=TrainerSettings(state_dir=state / "trainer", n_threads=1, device="cpu"),
        ) as services:
            return await run_sweep(plan, out, services.labeler, services.trainer, said or Said())

    return asyncio.run(run())


def results(out: Path) -> pl.DataFrame:
    """The results without what differs between two times that the same thing is done."""
    return pl.read_parquet(out / "results.parquet").drop("seconds").sort("run_id")


def trained(out: Path) -> dict[str, int]:
    """When each stage and each run's predictions were written."""
    folder = out / "state" / "trainer"
    files = [*(folder / "stages").rglob("*.safetensors"), *(folder / "runs").rglob("*.parquet")]
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in files}


def write_spec(folder: Path, **changes: Any) -> Path:
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump({**SPEC, **changes}), encoding="utf-8")
    return path


def start(spec: Path, out: Path, *arguments: str) -> subprocess.Popen[str]:
    """The command, as a user gives it."""
    return subprocess.Popen(
        [
            *(sys.executable, "-c", "from isocost.cli.app import main; main()"),
            *("sweep", str(spec), "--out", str(out), "--engine", "transformers", *arguments),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "ISOCOST_TRAINER_DEVICE": "cpu",
            "COLUMNS": "200",
        },
    )
