"""A pool of claims, and the command on it as a user gives it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from isocost.microworld.claims import TASK_CHOICES, TASK_TEMPLATE, pool_frame


@dataclass(frozen=True)
class Folder:
    """A folder of input files, in which commands run."""

    path: Path

    def command(self, *arguments: str | Path) -> list[str]:
        return [sys.executable, "-c", "from isocost.cli.app import main; main()", *map(str, arguments)]

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "ISOCOST_LABELER_ENGINE": "transformers",
        }

    def start(self, *arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.path,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def isocost(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            cwd=self.path,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )


def write_inputs(path: Path) -> Folder:
    pool_frame(2_400, 0).drop("label").write_csv(path / "claims.csv")
    choices = ", ".join(f'"{choice}"' for choice in TASK_CHOICES)
    (path / "claims.yaml").write_text(f'name: claims\ntemplate: "{TASK_TEMPLATE}"\nchoices: [{choices}]\n')
    return Folder(path)


def read_labels(path: Path) -> pl.DataFrame:
    frame = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_ndjson(path, infer_schema_length=None)
    return frame.drop("stored")


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """2,400 different claims as `claims.csv`, and the question about them as `claims.yaml`."""
    return write_inputs(tmp_path)


@pytest.fixture
def read() -> Callable[[Path], pl.DataFrame]:
    """Reads an output, without the column that tells how it came about."""
    return read_labels


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    """What an undisturbed job makes of `claims.csv`."""
    folder = write_inputs(tmp_path_factory.mktemp("whole"))
    arguments = ("--input", "claims.csv", "--model", "microworld:weak", "--task", "claims.yaml")
    done = folder.isocost("label", *arguments, "--output", "out.parquet")
    assert done.returncode == 0, done.stderr
    return read_labels(folder.path / "out.parquet")
