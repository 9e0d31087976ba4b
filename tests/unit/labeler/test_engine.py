"""Scores, settings and runners."""

import inspect
import math

import pytest
from pydantic import ValidationError

from isocost.labeler.engine import ChoiceScores, Runner
from isocost.labeler.settings import LabelerSettings
from isocost.v1 import labeler_service_pb2 as pb


def test_probabilities_are_normalised_and_mass_is_not() -> None:
    scores = ChoiceScores((math.log(0.1), math.log(0.3)))
    assert scores.choices_mass == pytest.approx(0.4)
    assert scores.probabilities == pytest.approx((0.25, 0.75))


def test_tiny_log_probabilities_do_not_underflow() -> None:
    scores = ChoiceScores((-9999.0, -9998.0))
    assert scores.choices_mass == 0.0
    assert scores.probabilities == pytest.approx((1 / (1 + math.e), math.e / (1 + math.e)))


@pytest.mark.parametrize("bad", [math.nan, -math.inf])
def test_unusable_log_probability_is_an_error(bad: float) -> None:
    with pytest.raises(ValueError, match="not all finite"):
        _ = ChoiceScores((bad, 0.0)).probabilities


def test_runner_unset_on_the_wire_generates() -> None:
    assert Runner.from_proto(pb.RUNNER_UNSPECIFIED) is Runner.GENERATE
    assert Runner.from_proto(pb.RUNNER_CLASSIFY) is Runner.CLASSIFY


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOCOST_LABELER_VLLM_URL", "http://gpu-7:8000")
    monkeypatch.setenv("ISOCOST_LABELER_VLLM_API_KEY", "secret-key")
    settings = LabelerSettings()
    assert settings.vllm_url == "http://gpu-7:8000"
    assert "secret-key" not in repr(settings)


def test_unknown_setting_is_refused() -> None:
    with pytest.raises(ValidationError, match="prompts_per_reqest"):
        LabelerSettings.model_validate({"prompts_per_reqest": 3})


def test_every_setting_is_explained() -> None:
    source = inspect.getsource(LabelerSettings)
    for name in LabelerSettings.model_fields:
        declared = source.index(f"    {name}:")
        assert source[declared:].split("\n")[1].strip().startswith('"""'), name
