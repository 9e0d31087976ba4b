"""Each mistake gives one clear message that names it, a non-zero exit, and spends nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.e2e.campaigns import isocost, small_campaign, write_campaign

pytestmark = pytest.mark.e2e

Change = Callable[[dict[str, Any], Path], None]


def _long_item(raw: dict[str, Any], folder: Path) -> None:
    frame = pl.DataFrame(
        {
            "id": [f"i{row}" for row in range(200)],
            "entity": ["batin " * 2000 if row == 7 else "batin" for row in range(200)],
            "relation": ["colour"] * 200,
            "value": ["red"] * 200,
            "label": ["yes"] * 200,
        }
    )
    frame.write_csv(folder / "items.csv")
    raw["data"] = {"path": "items.csv", "id_column": "id", "gold_column": "label"}


def _empty(raw: dict[str, Any], folder: Path) -> None:
    (folder / "items.csv").write_text("id,entity,relation,value,label\n")
    raw["data"]["path"] = "items.csv"


def _colliding(raw: dict[str, Any], _folder: Path) -> None:
    raw["task"]["choices"] = ["yes no", "yes yes"]
    raw["data"]["gold_values"] = {"no": "yes no", "yes": "yes yes"}
    raw["test"]["gold_values"] = raw["data"]["gold_values"]


def _set(*path: str | int, value: object) -> Change:
    def change(raw: dict[str, Any], _folder: Path) -> None:
        place: Any = raw
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value

    return change


MISTAKES: dict[str, tuple[Change, str]] = {
    "unknown field": (_set("budgett", value=1), "budgett: unknown field; did you mean 'budget'?"),
    "wrong type": (_set("pilot", "n_weak", value="some"), "pilot.n_weak: "),
    "column": (_set("data", "gold_column", value="gold"), "data.gold_column: the dataset has no column 'gold'"),
    "empty pool": (_empty, "data: the dataset has no rows"),
    "one choice": (_set("task", "choices", value=["yes"]), "task.choices: 1 given; a task needs at least two"),
    "colliding choices": (_colliding, "'yes no' and 'yes yes' begin with the same token"),
    "price": (_set("sources", 0, "unit_price", value=0), "sources.0.unit_price: "),
    "pilot": (_set("budget", value=40), "budget: $40.00 does not pay for the pilot"),
    "source's template": (
        _set("sources", 0, "template", value="is {colour} ?"),
        "sources.weak.template: shows {colour}, which items do not have",
    ),
    "small pool": (_set("data", "n_items_max", value=50), "data: the pool has 50 items"),
    "weak model": (_set("sources", 0, "model", value="./nowhere"), "sources.weak.model: './nowhere' is not a folder"),
    "strong model": (_set("strong_model", value="/no/where"), "strong_model: '/no/where' is not a folder"),
    "long prompt": (_long_item, "item i7: the prompt has 2009 tokens"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake(tmp_path: Path, name: str) -> None:
    change, message = MISTAKES[name]
    raw = small_campaign()
    change(raw, tmp_path)
    done = isocost("run", write_campaign(tmp_path, raw), "--out", tmp_path / "out", "--engine", "transformers")
    assert done.returncode == 2, done.stdout + done.stderr
    errors = done.stderr.strip().splitlines()
    assert len(errors) == 1, done.stderr
    assert errors[0].startswith("error: ")
    assert message in errors[0]
    assert not (tmp_path / "out" / "ledger.parquet").exists()
    assert "human labels: " not in done.stdout
