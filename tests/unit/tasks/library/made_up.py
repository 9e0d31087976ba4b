"""Made-up tasks and rows for the tests of the library."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest
import yaml

__all__ = ["QUIZ", "SENTIMENT", "FakeHub", "quiz_row", "write_rows", "write_task"]

#: Multiple choice.
QUIZ: dict[str, Any] = {
    "name": "quiz",
    "template": "{question}\nProposed: {answer}\nRight? Answer:",
    "answers": {"field": "answer", "columns": "options", "right": {"column": "right", "form": "index"}},
    "contexts": "question",
}
#: Plain classification.
SENTIMENT: dict[str, Any] = {
    "name": "sentiment",
    "template": "{text}\nMood? Answer:",
    "choices": ["bad", "fair", "good"],
    "label": {"column": "stars", "values": {1: "bad", 2: "fair", 3: "good"}},
}


def quiz_row(question: str, options: Sequence[str], right: int) -> dict[str, Any]:
    return {"question": question, "options": list(options), "right": right}


def write_task(folder: Path, task: Mapping[str, Any], **changes: Any) -> Path:
    path = folder / "task.yaml"
    kept = {key: value for key, value in {**task, **changes}.items() if value is not None}
    path.write_text(yaml.safe_dump(kept), encoding="utf-8")
    return path


def write_rows(folder: Path, split: str, rows: Sequence[Mapping[str, Any]]) -> Path:
    path = folder / f"{split}.parquet"
    pl.DataFrame(list(rows)).write_parquet(path)
    return path


class FakeHub:
    """Stands in for the package `datasets`: answers by split, remembers what it was asked."""

    def __init__(self, splits: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        self._splits = splits
        self.calls: list[tuple[str, str | None, str, str | None]] = []

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        module = ModuleType("datasets")
        module.load_dataset = self._load  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "datasets", module)

    def _load(self, name: str, config: str | None, *, split: str, revision: str | None = None) -> _FakeDataset:
        self.calls.append((name, config, split, revision))
        if split not in self._splits:
            raise ValueError(f"Unknown split {split!r}.\nMore lines.")
        return _FakeDataset(pl.DataFrame(list(self._splits[split])))


class _FakeDataset:
    def __init__(self, frame: pl.DataFrame) -> None:
        self._frame = frame

    def with_format(self, name: str) -> _FakeDataset:
        assert name == "arrow"
        return self

    def __getitem__(self, rows: slice) -> Any:
        return self._frame.to_arrow()
