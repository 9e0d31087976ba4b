"""Settings of runs on closed models."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["FineTuningSettings"]


class FineTuningSettings(BaseSettings):
    """Read from the environment with the prefix `ISOCOST_FINE_TUNING_`, for example `ISOCOST_FINE_TUNING_API_KEY`."""

    model_config = SettingsConfigDict(
        env_prefix="ISOCOST_FINE_TUNING_", frozen=True, hide_input_in_errors=True, use_attribute_docstrings=True
    )

    base_url: str = "https://api.openai.com/v1"
    """Where the API is, with its version; any server that speaks it."""
    api_key: SecretStr = SecretStr("")
    """Sent as a bearer token; empty sends none. Never written to a file or a log."""
    n_epochs: Literal["auto"] | Annotated[int, Field(ge=1, le=50)] = "auto"
    """Passes of a job over its examples; auto leaves them to the server. Part of a stage's identity."""
    batch_size: Literal["auto", "recipe"] | Annotated[int, Field(ge=1, le=256)] = "auto"
    """Examples a step; auto leaves them to the server, recipe takes the stage's own. Part of a stage's identity."""
    learning_rate_multiplier: Literal["auto"] | Annotated[float, Field(gt=0, le=100)] = "auto"
    """Of the server's own learning rate, which it does not tell: a recipe's rate cannot be mapped to it. Part of a
    stage's identity."""
    holds_out: bool = True
    """Whether the labels that a recipe holds out go to the server as validation data (it reports on them and no more);
    otherwise they are trained on. Part of a stage's identity."""
    n_examples_min: int = Field(default=10, ge=1, le=1000)
    """Fewest examples in a training file that the server takes; fewer labels are repeated. Part of a stage's
    identity."""
    poll_interval_seconds: float = Field(default=10.0, gt=0, le=3600)
    """Time between two looks at a job."""
    request_timeout_seconds: float = Field(default=60.0, gt=0)
    """How long one request may take."""
    upload_timeout_seconds: float = Field(default=600.0, gt=0)
    """How long sending one file may take."""
    attempts_max: int = Field(default=8, ge=1, le=100)
    """Times a request is tried before the server counts as away."""
    retry_after_seconds_max: float = Field(default=900.0, ge=0)
    """Longest wait that a server may ask for; it counts as away where it asks for more."""
    predictions_in_flight: int = Field(default=16, ge=1, le=1024)
    """Predictions asked for at a time."""

    @field_validator("base_url")
    @classmethod
    def _check_base_url(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError("give a URL with http:// or https://, such as https://api.openai.com/v1")
        return value.rstrip("/")
