"""Settings of the trainer service."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["TrainerSettings"]


class TrainerSettings(BaseSettings):
    """Read from the environment with the prefix `ISOCOST_TRAINER_`, for example `ISOCOST_TRAINER_STATE_DIR`."""

    model_config = SettingsConfigDict(env_prefix="ISOCOST_TRAINER_", use_attribute_docstrings=True)

    address: str = "127.0.0.1:7603"
    """Host and port that the service listens on; port 0 picks a free one."""
    state_dir: Path = Path("isocost-trainer")
    """Folder of examples, features, stages and runs; made at start. One trainer at a time works in it."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where models run; auto takes CUDA (in bf16) where there is one, else the CPU (in float32)."""
    n_threads: int = Field(default=0, ge=0, le=1024)
    """CPU threads of one tensor operation; 0 leaves torch's default. Results on the CPU are the same bit for bit only
    with the same number."""
    predict_batch_tokens: int = Field(default=0, ge=0)
    """Tokens, padding counted, in one forward pass without gradients. 0 takes 2,048 on the CPU, where a batch that fits
    into its cache is up to twice as fast, and 32,768 on CUDA."""
    progress_interval_seconds: float = Field(default=0.1, ge=0)
    """Least time between two progress reports of a run."""
    cancel_wait_seconds: float = Field(default=10.0, ge=0)
    """How long CancelRun waits for a running run to end before it answers; training stops between two steps."""
    n_examples_max: int = Field(default=1_000_000, ge=1)
    """Longest list of examples accepted."""
