"""YAML in the documentation is what it is said to be."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from isocost.campaign.config_file import load_config
from isocost.sweep.config_file import load_config as load_sweep_config
from isocost.tasks.library.spec import load_spec
from tests.docs.accounts import blocks_of
from tests.docs.page import ROOT

_EXAMPLES = ROOT / "docs" / "examples"


def _merged(example: str, text: str) -> str:
    """An example with some of its keys as the page has them."""
    whole: dict[str, Any] = copy.deepcopy(yaml.safe_load((_EXAMPLES / example).read_text(encoding="utf-8")))
    return yaml.safe_dump({**whole, **yaml.safe_load(text)})


def test_parts_of_campaign_files(tmp_path: Path) -> None:
    blocks = [block for block in blocks_of("test_parts_of_campaign_files") if block.language == "yaml"]
    assert blocks
    for block in blocks:
        text = block.text
        if len(yaml.safe_load(text)["sources"]) == 1:
            # One kind of source alone makes no campaign.
            text += "  - {kind: model, name: weak, model: microworld:weak, unit_price: 0.10}\n"
        path = tmp_path / "campaign.yaml"
        path.write_text(_merged("two_weak_sources.yaml", text), encoding="utf-8")
        assert len(load_config(path).sources) >= 2, str(block)


def test_parts_of_sweep_specs(tmp_path: Path) -> None:
    blocks = blocks_of("test_parts_of_sweep_specs")
    assert len(blocks) == 2
    for block in blocks:
        path = tmp_path / "sweep.yaml"
        path.write_text(_merged("microworld_sweep.yaml", block.text), encoding="utf-8")
        load_sweep_config(path)


def test_task_files(tmp_path: Path) -> None:
    blocks = blocks_of("test_task_files")
    assert len(blocks) == 2
    for block in blocks:
        path = tmp_path / "task.yaml"
        path.write_text(block.text, encoding="utf-8")
        assert load_spec(path).name in block.text


def test_the_tutorial_shows_its_campaign_file() -> None:
    (block,) = blocks_of("test_the_tutorial_shows_its_campaign_file")
    assert block.text == (_EXAMPLES / "facts.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sorted(_EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_examples_are_campaigns_or_sweeps(path: Path) -> None:
    if path.name.endswith("_sweep.yaml"):
        load_sweep_config(path)
    else:
        load_config(path)
