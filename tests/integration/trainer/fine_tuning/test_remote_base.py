"""Base models behind the API: their identity, and the methods they are refused for before anything is paid."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from isocost.core.errors import InvalidArgumentError
from isocost.resources.campaign import Sampling
from isocost.resources.method import Head, Method, Quantization, Recipe, Stage, Tuning
from isocost.resources.task import LabelKind
from isocost.trainer.fine_tuning.settings import FineTuningSettings
from isocost.trainer.models.base_model import BaseModel, BaseModelFinder

METHOD = Method("human_sft", (Stage(LabelKind.HUMAN),))


def _find(name: str = "openai:gpt-4o-mini", **changes: Any) -> BaseModel:
    return BaseModelFinder(FineTuningSettings.model_validate(changes)).find(name)


def test_a_remote_base_is_its_name_its_server_and_what_decides_its_jobs() -> None:
    base = _find()
    assert base.is_remote
    assert base.remote_name == "gpt-4o-mini"
    assert _find("openai:ft:gpt-4o-mini:org::abc").remote_name == "ft:gpt-4o-mini:org::abc"
    assert _find(base_url="https://api.openai.com/v1/").digest == base.digest
    # What it costs to ask, or how often, decides nothing.
    assert _find(api_key="sk-1", poll_interval_seconds=1, predictions_in_flight=2).digest == base.digest
    others = [
        _find("openai:gpt-4o"),
        _find(base_url="http://localhost/v1"),
        _find(n_epochs=3),
        _find(batch_size="recipe"),
        _find(learning_rate_multiplier=2),
        _find(holds_out=False),
        _find(n_examples_min=1),
    ]
    assert len({base.digest, *(other.digest for other in others)}) == 8


def test_a_model_on_disk_is_not_remote() -> None:
    assert not BaseModelFinder().find("microworld:weak").is_remote


@pytest.mark.parametrize("name", ["openai:", "openai: gpt", "openai:a\nb", "openai:" + "x" * 300])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"spec\.base_model: .* such as openai:gpt-4o-mini"):
        _find(name)


def test_the_environment_says_where_the_api_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOCOST_FINE_TUNING_BASE_URL", "http://127.0.0.1:1/v1")
    assert BaseModelFinder().find("openai:m").digest == _find("openai:m", base_url="http://127.0.0.1:1/v1").digest
    monkeypatch.setenv("ISOCOST_FINE_TUNING_BASE_URL", "api.openai.com")
    with pytest.raises(InvalidArgumentError, match="ISOCOST_FINE_TUNING_BASE_URL: give a URL with http"):
        BaseModelFinder().find("openai:m")


def test_settings_do_not_say_the_key() -> None:
    settings = FineTuningSettings.model_validate({"api_key": "sk-secret"})
    assert "sk-secret" not in f"{settings!r} {settings.model_dump_json()}"
    with pytest.raises(ValidationError) as caught:
        FineTuningSettings.model_validate({"api_key": ["sk-secret"]})
    assert "sk-secret" not in str(caught.value)


def _with_stage(**changes: Any) -> Method:
    return replace(METHOD, stages=(replace(Stage(LabelKind.WEAK), **changes), METHOD.stages[0]))


@pytest.mark.parametrize(
    ("method", "field"),
    [
        (replace(METHOD, head=Head.CLASSIFICATION), "head"),
        (replace(METHOD, head=Head.CLASSIFICATION, tuning=Tuning.HEAD_ONLY), "head"),
        (replace(METHOD, tuning=Tuning.FULL), "tuning"),
        (replace(METHOD, n_layers=4), "n_layers"),
        (replace(METHOD, quantization=Quantization.NF4), "quantization"),
        (_with_stage(recipe=Recipe(log_confidence_weight=0.5)), "stages.recipe.log_confidence_weight"),
        (_with_stage(sampling=Sampling.UNCERTAINTY), "stages.sampling"),
    ],
)
def test_what_the_api_cannot_do_is_refused_by_the_field(method: Method, field: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        _find().check(method)
    assert caught.value.field == f"spec.method.{field}"


def test_what_the_api_can_do_is_not_refused() -> None:
    for method in (METHOD, _with_stage(), Method("prompting", ()), _with_stage(mixed_with=(LabelKind.HUMAN,))):
        _find().check(method)
