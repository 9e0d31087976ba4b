from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from isocost.core.errors import InvalidArgumentError
from isocost.sweep.config import SweepConfig
from isocost.sweep.preflight import check_models


def _config(**changes: Any) -> SweepConfig:
    raw = {
        "sweep": "s",
        "weak_prices": [0.1],
        "budgets": [16],
        "seeds": [0],
        "tasks": ["microworld"],
        "weak_labellers": [{"name": "weak", "model": "microworld:weak"}, {"name": "column", "column": "said"}],
        "strong_models": ["microworld:strong", "org/model", "openai:gpt-4o-mini"],
        "methods": ["human_sft"],
    }
    return SweepConfig.model_validate(raw | changes)


def test_models_that_may_be_there_pass() -> None:
    check_models(_config(), trains_here=True, labels_here=True)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"strong_models": ["microworld:strong", "nowhere"]}, "strong_models.1"),
        ({"strong_models": ["microworld:stong"]}, "strong_models.0"),
        ({"weak_labellers": [{"name": "weak", "model": "./nowhere"}]}, "weak_labellers.0.model"),
        ({"weak_labellers": [{"name": "weak", "model": "openai:gpt-4o-mini"}]}, "weak_labellers.0.model"),
    ],
)
def test_a_model_that_is_not_there_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        check_models(_config(**changes), trains_here=True, labels_here=True)
    assert caught.value.field == field
    # Services elsewhere have folders of their own.
    check_models(_config(**changes), trains_here=False, labels_here=False)


def test_an_adapter_labels(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    labellers = [{"name": "weak", "model": str(tmp_path)}]
    check_models(_config(weak_labellers=labellers), trains_here=True, labels_here=True)
