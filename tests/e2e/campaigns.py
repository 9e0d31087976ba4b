"""A small campaign on the carried models, and the command that runs it as a user does."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
EXAMPLE = EXAMPLES / "microworld.yaml"
TWO_WEAK_SOURCES = EXAMPLES / "two_weak_sources.yaml"


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


def isocost(*arguments: str | Path, timeout: float = 600, engine: str = "") -> subprocess.CompletedProcess[str]:
    settings = environment() | ({"ISOCOST_LABELER_ENGINE": engine} if engine else {})
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, env=settings, timeout=timeout, check=False
    )


def read_result(out: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((out / "result.json").read_text())
    return result


def start(path: Path, out: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command("run", path, "--out", out, "--engine", "transformers"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        bufsize=1,
        env={**environment(), "PYTHONUNBUFFERED": "1"},
    )


def lines_until(process: subprocess.Popen[str], words: str) -> Iterator[str]:
    assert process.stdout is not None
    for line in process.stdout:
        yield line
        if words in line:
            return
    pytest.fail(f"the campaign ended before it said {words!r}")


def signal_at(path: Path, out: Path, words: str, number: signal.Signals) -> tuple[int, str]:
    process = start(path, out)
    try:
        said = list(lines_until(process, words))
        process.send_signal(number)
        rest, _ = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    return process.returncode, "".join(said) + rest


def bought(out: Path) -> tuple[dict[str, int], list[tuple[object, ...]], list[tuple[object, ...]]]:
    ledger = pl.read_parquet(out / "ledger.parquet").filter(kind="settle")
    observations = pl.read_parquet(out / "observations.parquet")
    runs = observations.select("run_id", "n_weak", "n_human", "seed", "accuracy").sort("run_id").rows()
    return read_result(out)["labels_bought"], ledger.group_by("source_id").len().sort("source_id").rows(), runs
