"""Settings of the labeler service, from arguments or `ISOCOST_LABELER_*` environment variables."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["LabelerSettings"]


class LabelerSettings(BaseSettings):
    """Where the labeler listens, which engine it uses and how hard it drives it."""

    model_config = SettingsConfigDict(env_prefix="ISOCOST_LABELER_", extra="forbid", frozen=True)

    address: str = "127.0.0.1:7602"
    """`host:port` to listen on; port 0 picks a free one."""

    state_dir: Path = Path(".isocost/labeler")
    """Folder of the label store and of vLLM's logs; made where it is missing."""

    engine: Literal["auto", "vllm", "transformers"] = "auto"
    """`auto` is vLLM where it is installed or `vllm_url` is given, else transformers in this process."""

    vllm_url: str = ""
    """Base URL of a running vLLM server, such as `http://gpu-7:8000`; empty starts one on this machine when needed."""

    vllm_api_key: SecretStr = SecretStr("")
    """Key sent to the server at `vllm_url`; empty sends none."""

    prompts_per_request: int = Field(0, ge=0, le=1024)
    """Prompts in one forward batch or HTTP request; 0 measures the server and chooses (32 to 128 on CPU)."""

    requests_in_flight: int = Field(0, ge=0, le=256)
    """Requests that an engine works on at a time; 0 measures the server and chooses (about 4 on CPU)."""

    engines_max: int = Field(1, ge=1, le=16)
    """Models kept loaded at a time; one more replaces the least recently used idle one."""

    vllm_start_timeout_seconds: float = Field(300.0, gt=0)
    """How long a vLLM server may take until it is ready."""

    request_timeout_seconds: float = Field(120.0, gt=0)
    """How long one request to vLLM may take."""

    attempts_max: int = Field(4, ge=1, le=20)
    """Times a request is tried before the server counts as away."""

    restarts_max: int = Field(3, ge=0, le=100)
    """Times that a vLLM server of our own which dies is started again with no answer in between."""

    kv_cache_bytes: int = Field(0, ge=0)
    """vLLM's key-value cache; 0 is 1 GiB on CPU and what `gpu_memory_fraction` leaves on a GPU."""

    gpu_memory_fraction: float = Field(0.4, gt=0, le=1)
    """Share of a GPU's memory that vLLM takes for weights and cache; the trainer uses the same GPU on one machine."""

    max_model_len: int = Field(0, ge=0)
    """Longest sequence in tokens; 0 is the model's own limit. Lower it where the cache cannot hold one sequence."""

    block_size: int = Field(32, ge=1)
    """Tokens of one block of vLLM's prefix cache, on CPU; its default of 128 computes more of a prefix anew."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format of the weights; `auto` is float32 on CPU, and on a GPU what suits the model."""
