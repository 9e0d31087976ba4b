"""Settings of the trainer service."""

from __future__ import annotations

import os
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
    with the same number. With several workers 0 is their share of the machine's cores, on Ray `cpus_per_run`; at least
    1."""
    executor: Literal["local", "ray"] = "local"
    """Where runs are executed; ray needs `isocost[ray]`, and `state_dir` at the same path on every node."""
    n_workers: int = Field(default=1, ge=1, le=1024)
    """Runs executed side by side. Locally, one runs in the service's process; several have a process each."""
    ray_address: str = "local"
    """Of a running cluster, or auto to find one, or local for one on this machine that ends with the service."""
    cpus_per_run: float = Field(default=1.0, gt=0)
    """CPU cores that Ray sets aside for each worker; a fraction is allowed below 1."""
    gpus_per_run: float = Field(default=0.0, ge=0)
    """GPUs that Ray sets aside for each worker; 0.25 lets four share one. With 0 workers on Ray see none."""
    predict_batch_tokens: int = Field(default=0, ge=0)
    """Tokens, padding counted, in one forward pass without gradients. 0 takes 2,048 on the CPU, where a batch that fits
    into its cache is up to twice as fast, and 32,768 on CUDA."""
    checkpoint_interval_seconds: float = Field(default=60.0, ge=0)
    """Least time between two checkpoints of a stage, from which a killed run goes on; each replaces the one before. 0
    makes none, except where a run is cancelled."""
    cache_gib_max: float = Field(default=200.0, gt=0)
    """Most disk that stages, checkpoints and features take; beyond it those used longest ago go, and are made again
    where they are asked for. What waiting or running runs need stays, and so do runs' outputs and predictions."""
    progress_interval_seconds: float = Field(default=0.1, ge=0)
    """Least time between two progress reports of a run."""
    cancel_wait_seconds: float = Field(default=10.0, ge=0)
    """How long CancelRun waits for a running run to end before it answers; training stops between two steps."""
    n_examples_max: int = Field(default=1_000_000, ge=1)
    """Longest list of examples accepted."""

    @property
    def cache_bytes_max(self) -> int:
        """The bound in bytes."""
        return int(self.cache_gib_max * 2**30)

    @property
    def worker_threads(self) -> int:
        """CPU threads of one tensor operation in each worker; 0 leaves torch's default, for a worker that is alone."""
        if self.n_threads:
            return self.n_threads
        if self.executor == "ray":
            return max(1, int(self.cpus_per_run))
        return max(1, _n_cores() // self.n_workers) if self.n_workers > 1 else 0


def _n_cores() -> int:
    """Cores that this process may use, where the system tells; else all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
