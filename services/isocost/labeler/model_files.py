"""The files that decide what a model, or an adapter, answers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from isocost.tasks.model_path import ADAPTER_CONFIG

__all__ = ["ADAPTER_FILES", "ADAPTER_WEIGHTS", "MODEL_FILES", "folder_digest", "folder_signature"]

#: Patterns; other files (cards, manifests, logs) may change freely.
MODEL_FILES = (
    "config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "*.bin",
    "*.bin.index.json",
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "*.model",
)
ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_FILES = (ADAPTER_CONFIG, ADAPTER_WEIGHTS)
_READ_BYTES = 1 << 20


def folder_digest(folder: Path, patterns: Sequence[str] = MODEL_FILES) -> str:
    """SHA-256, in hexadecimal, over the names and contents of a folder's deciding files; by default a model's."""
    digest = hashlib.sha256()
    for path in _deciding_files(folder, patterns):
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while block := file.read(_READ_BYTES):
                digest.update(block)
    return digest.hexdigest()


def folder_signature(folder: Path, patterns: Sequence[str] = MODEL_FILES) -> tuple[tuple[str, int, int], ...]:
    """Name, size and time of change of each deciding file: where it is the same, so is the content."""
    stats = [(path.name, path.stat()) for path in _deciding_files(folder, patterns)]
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def _deciding_files(folder: Path, patterns: Sequence[str]) -> list[Path]:
    return sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
