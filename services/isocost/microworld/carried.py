"""The pretrained models that the package carries."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping

__all__ = ["MODEL_NAMES", "Manifest", "manifest", "model_dir", "sha256_of"]

MODEL_NAMES = ("strong", "weak")
"""The carried models."""

_WEIGHTS = "model.safetensors"


@dataclasses.dataclass(frozen=True, slots=True)
class Manifest:
    """What a carried model is and how it was made."""

    name: str
    """One of `MODEL_NAMES`."""
    sha256: Mapping[str, str]
    """File name -> its SHA-256, in hexadecimal."""
    command: str
    """The command that made it."""
    seed: int
    """Seed of its initial weights and of the order of its texts."""
    world_seed: int
    """Seed of the world it was pretrained on."""
    num_steps: int
    """Optimizer steps taken."""
    num_tokens: int
    """Training tokens, counted with repetition."""
    torch_version: str
    """The torch it was made with; another version or processor may give other last bits."""
    torch_threads: int
    """CPU threads it was made with."""
    seconds: float
    """Wall-clock time of the training in seconds."""
    gauge: Mapping[str, float]
    """What `gauge.measure` showed at the end, between 0 and 1."""


def model_dir(name: str) -> pathlib.Path:
    """The folder of a carried model, ready for `from_pretrained` or `vllm serve`.

    >>> (model_dir("weak") / "config.json").exists()
    True
    """
    if name not in MODEL_NAMES:
        raise ValueError(f"no carried model is named {name!r}; there are {', '.join(MODEL_NAMES)}")
    return pathlib.Path(__file__).parent / "models" / name


def manifest(name: str) -> Manifest:
    """Read a carried model's manifest."""
    return Manifest(**json.loads((model_dir(name) / "manifest.json").read_text()))


def sha256_of(name: str) -> str:
    """Compute the SHA-256 of a carried model's weights, to compare with the manifest's."""
    return hashlib.sha256((model_dir(name) / _WEIGHTS).read_bytes()).hexdigest()
