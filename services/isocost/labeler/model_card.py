"""What is known of a model before it is loaded: where it is, what it is, its tokenizer, its limits."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from isocost.core.errors import InvalidArgumentError
from isocost.labeler.adapter import Adapter, AdapterFiles, materialize, read_adapter
from isocost.labeler.engine import Runner
from isocost.labeler.merging import merge
from isocost.labeler.model_files import ADAPTER_FILES, folder_digest, folder_signature
from isocost.tasks.model_path import is_adapter, resolve_model

__all__ = ["ModelCard", "ModelCatalog"]

#: These model families count positions from the padding id on, and so hold two fewer tokens than positions.
_OFFSET_POSITIONS = {"roberta", "xlm-roberta", "camembert", "xlm-roberta-xl"}
_GENERATIVE = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
_CLASSIFYING = ("ForSequenceClassification",)


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A model that can be asked, not yet loaded.

    Attributes:
        name: As the caller named it.
        location: Absolute folder, or hub name.
        revision: Commit of a hub model; "" for a folder, and for a hub model whose commit is not known.
        identity: Digest of a folder's content, or hub name and commit: equal identities give equal labels.
        runner: How it is asked.
        tokenizer: Its Hugging Face tokenizer.
        n_tokens_max: Longest prompt that it can be asked.
        n_classes: CLASSIFY: its number of classes; GENERATE: 0.
        adapter: The LoRA adapter on top of the model; None for the model itself.
    """

    name: str
    location: str
    revision: str
    identity: str
    runner: Runner
    tokenizer: Any
    n_tokens_max: int
    n_classes: int
    adapter: Adapter | None = None

    @property
    def content(self) -> str:
        """Identity of the model with its adapter, if any: what decides a label."""
        return f"{self.identity}+{self.adapter.digest}" if self.adapter else self.identity

    @property
    def fingerprint(self) -> str:
        """A short, readable form of the content: last part of the location, and 12 digits of digest or commit."""
        commit = self.identity.rpartition("@")[2]
        base = f"{self.location.rstrip('/').rpartition('/')[2]}@{commit[:12]}"
        return f"{base}+lora@{self.adapter.digest[:12]}" if self.adapter else base


class ModelCatalog:
    """Finds models, and remembers them until their files change.

    Args:
        max_model_len: Longest sequence in tokens; 0 is each model's own limit.
        state_dir: Where copies of adapters, and models merged from them, are kept.
    """

    def __init__(self, max_model_len: int, state_dir: Path) -> None:
        self._max_model_len = max_model_len
        self._state_dir = state_dir.absolute()
        self._cards: dict[tuple[str, Runner, tuple[Any, ...]], ModelCard] = {}
        # One at a time: importing transformers from several threads at once is asking for trouble.
        self._lock = asyncio.Lock()

    async def find(self, name: str, runner: Runner) -> ModelCard:
        """The card of a model.

        Raises:
            InvalidArgumentError: names `config.model` where it is not there, or `config.runner` where it cannot be
                asked in that way.
        """
        if not name:
            raise InvalidArgumentError("config.model", "not set; give the folder of a model or a hub name (org/model)")
        async with self._lock:
            return await asyncio.to_thread(self._find, name, runner)

    def _find(self, name: str, runner: Runner) -> ModelCard:
        given = Path(name).expanduser()
        if given.is_dir() and (given / "head.json").is_file():
            raise InvalidArgumentError(
                "config.model",
                f"{name!r} is a head on cached features, which cannot be served; train with tuning: lora or full",
            )
        if given.is_dir() and is_adapter(given):
            return self._find_adapter(name, given, runner)
        location = resolve_model(name, field="config.model")
        folder = Path(location) if Path(location).is_absolute() else None
        key = (location, runner, folder_signature(folder) if folder else ())
        if key not in self._cards:
            self._cards[key] = self._read(name, location, folder, runner)
        return self._cards[key]

    def _find_adapter(self, name: str, folder: Path, runner: Runner) -> ModelCard:
        files = read_adapter(name, folder)
        if files.runner is not runner:
            wanted = files.runner.name.lower()
            raise InvalidArgumentError("config.runner", f"{name!r} is an adapter for {wanted}; use runner {wanted}")
        base = Path(files.base_model)
        changed = (*folder_signature(folder, ADAPTER_FILES), *(folder_signature(base) if base.is_dir() else ()))
        key = (str(folder.resolve()), runner, changed)
        if key not in self._cards:
            digest = folder_digest(folder, ADAPTER_FILES)
            self._cards[key] = self._merged(name, files, digest) or replace(
                self._find(files.base_model, runner), name=name, adapter=materialize(files, digest, self._state_dir)
            )
        return self._cards[key]

    def _merged(self, name: str, files: AdapterFiles, digest: str) -> ModelCard | None:
        """The card of the model that the adapter and its base make; None where servers load the adapter itself."""
        if files.is_hot_loadable:
            return None
        base = Path(files.base_model)
        of_base = folder_digest(base)[:16] if base.is_dir() else files.base_model.replace("/", "--")
        target = self._state_dir / "merged" / f"{digest[:32]}-{of_base}"
        return replace(self._find(str(merge(files, target)), files.runner), name=name)

    def _read(self, name: str, location: str, folder: Path | None, runner: Runner) -> ModelCard:
        config, tokenizer = _load(name, location)
        _check_runner(name, config, runner)
        n_positions = _n_positions(config)
        if self._max_model_len:
            n_positions = min(n_positions, self._max_model_len)
        revision = "" if folder else str(getattr(config, "_commit_hash", None) or "")
        generates = runner is Runner.GENERATE
        return ModelCard(
            name=name,
            location=location,
            revision=revision,
            identity=f"sha256@{folder_digest(folder)}" if folder else f"{location}@{revision or 'main'}",
            runner=runner,
            tokenizer=tokenizer,
            # One place is kept for the answer.
            n_tokens_max=n_positions - 1 if generates else n_positions,
            n_classes=0 if generates else int(config.num_labels),
        )


def _load(name: str, location: str) -> tuple[Any, Any]:
    """The model's configuration and tokenizer."""
    from transformers import AutoConfig, AutoTokenizer  # noqa: PLC0415 - takes seconds

    part = "configuration"
    try:
        config = AutoConfig.from_pretrained(location)
        part = "tokenizer"
        return config, AutoTokenizer.from_pretrained(location, revision=getattr(config, "_commit_hash", None))
    except Exception as error:  # noqa: BLE001 - the library raises what its many back ends raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InvalidArgumentError(
            "config.model",
            f"the {part} of {name!r} cannot be loaded from a folder of that name nor from the hub: {reason}; give the "
            "folder of a Hugging Face model, or a hub name (org/model) on a machine that reaches the hub",
        ) from None


def _check_runner(name: str, config: Any, runner: Runner) -> None:
    architectures = list(config.architectures or ())
    endings, wanted, other = (
        (_GENERATIVE, "a causal language model", "classify")
        if runner is Runner.GENERATE
        else (_CLASSIFYING, "a sequence-classification model", "generate")
    )
    if not any(architecture.endswith(endings) for architecture in architectures):
        is_a = ", ".join(architectures) or "model without an architecture in its config.json"
        raise InvalidArgumentError(
            "config.runner",
            f"{runner.name.lower()} needs {wanted}, but {name!r} is a {is_a}; use another model or runner {other}",
        )


def _n_positions(config: Any) -> int:
    """Tokens of the longest sequence."""
    text = config.get_text_config()
    for attribute in ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length"):
        value = getattr(text, attribute, None)
        if isinstance(value, int) and value > 0:
            return value - 2 if config.model_type in _OFFSET_POSITIONS else value
    return 2048
