"""LoRA adapters: what is known of one, and the copies of it that servers read.

A server keeps a prompt's keys and values under the adapter's name and path, and goes on using them after the files have
changed. So an adapter is never served from the folder it was given in, but from a copy whose name and path hold the
digest of its content.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isocost.core.errors import InvalidArgumentError
from isocost.core.ids import new_id
from isocost.labeler.engine import Runner
from isocost.labeler.model_files import ADAPTER_FILES, ADAPTER_WEIGHTS, folder_digest
from isocost.tasks.model_path import ADAPTER_CONFIG, adapter_base_model

__all__ = ["Adapter", "AdapterFiles", "materialize", "place_folder", "read_adapter"]

#: The ranks that vLLM can be started for.
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter that a server can load onto its base model.

    Attributes:
        digest: SHA-256 of its content, in hexadecimal.
        folder: Where its copy lies; no other content will ever lie there.
        rank: The server's rank that it needs: its own, rounded up to one that vLLM knows.
    """

    digest: str
    folder: Path
    rank: int

    @property
    def name(self) -> str:
        """The name under which it is served; another content has another name."""
        return f"adapter-{self.digest[:16]}"

    @property
    def identity_folder(self) -> Path:
        """An adapter of the same shape that changes nothing; see `materialize`."""
        return self.folder.with_name(f"{self.folder.name}-identity")

    @property
    def identity_name(self) -> str:
        """The name under which the base model is served beside adapters of this shape."""
        return f"base-{self.digest[:16]}"


@dataclass(frozen=True, slots=True)
class AdapterFiles:
    """An adapter's folder as it was given.

    Attributes:
        folder: Where it is.
        config: Its adapter_config.json.
        base_model: Absolute folder or hub name of the model that it changes.
        runner: How the model with it is asked.
    """

    folder: Path
    config: dict[str, Any]
    base_model: str
    runner: Runner

    @property
    def is_hot_loadable(self) -> bool:
        """Whether a generating server takes it as it is.

        None takes weights that are trained whole (a classification head, a language-model head), and what goes beyond
        plain LoRA is refused by some servers and silently left out by others: such an adapter is merged into its base.
        """
        beyond = (
            "modules_to_save",
            "use_dora",
            "lora_bias",
            "rank_pattern",
            "alpha_pattern",
            "layer_replication",
            "trainable_token_indices",
        )
        return (
            self.runner is Runner.GENERATE
            and self.config.get("peft_type") == "LORA"
            and not any(self.config.get(name) for name in beyond)
            and self.config.get("bias", "none") == "none"
            and int(self.config.get("r", 0)) <= _RANKS[-1]
        )


def read_adapter(name: str, folder: Path) -> AdapterFiles:
    """Reads an adapter's description.

    Args:
        name: As the caller named it.
        folder: Where it is.

    Raises:
        InvalidArgumentError: names `config.model` where the files or the base model are not there.
    """
    try:
        config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidArgumentError("config.model", f"the adapter {name!r} cannot be read: {error}") from None
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise InvalidArgumentError(
            "config.model", f"the adapter {name!r} has no {ADAPTER_WEIGHTS}; save it anew with peft"
        )
    runner = Runner.CLASSIFY if config.get("task_type") == "SEQ_CLS" else Runner.GENERATE
    return AdapterFiles(folder, config, adapter_base_model(name, folder, field="config.model"), runner)


def materialize(files: AdapterFiles, digest: str, state_dir: Path) -> Adapter:
    """Makes the copies of a hot-loadable adapter that servers read: its own and its identity, where they are not there.

    The identity has the same shape with B = 0, so it adds nothing to the base model. Base-model requests are asked
    through it: on the CPU, vLLM computes a request without an adapter with another one's weights where both stand in
    one batch.

    Raises:
        InvalidArgumentError: names `config.model` where the files change while they are read.
    """
    from safetensors.torch import load_file, save_file  # noqa: PLC0415 - loads torch

    rank = next(known for known in _RANKS if known >= int(files.config["r"]))
    adapter = Adapter(digest, state_dir / "adapters" / digest, rank)

    def copy(target: Path) -> None:
        for file in ADAPTER_FILES:
            shutil.copyfile(files.folder / file, target / file)
        if folder_digest(target, ADAPTER_FILES) != digest:
            raise InvalidArgumentError(
                "config.model", f"the adapter {str(files.folder)!r} changed while it was read; repeat the call"
            )

    def zero(target: Path) -> None:
        shutil.copyfile(files.folder / ADAPTER_CONFIG, target / ADAPTER_CONFIG)
        weights = load_file(files.folder / ADAPTER_WEIGHTS)
        for key in weights:
            if ".lora_B." in key:
                weights[key].zero_()
        save_file(weights, target / ADAPTER_WEIGHTS)

    place_folder(adapter.folder, copy)
    place_folder(adapter.identity_folder, zero)
    return adapter


def place_folder(folder: Path, fill: Any) -> None:
    """Makes a folder whole or not at all; one that is there stays. `fill` is called with an empty folder."""
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(new_id(".partial"))
    partial.mkdir()
    try:
        fill(partial)
        partial.rename(folder)
    except OSError:
        # Another labeler with the same state was quicker.
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
