"""The base model: its folder and the digest of its content, or the name that a server knows it by. Needs no torch."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isocost.core.environment import read_environment
from isocost.core.errors import InvalidArgumentError
from isocost.core.ids import content_digest
from isocost.resources.campaign import Sampling
from isocost.resources.method import Head, Method, Quantization, Tuning
from isocost.tasks.model_path import REMOTE_PREFIX, resolve_model
from isocost.trainer.fine_tuning.settings import FineTuningSettings

__all__ = ["BaseModel", "BaseModelFinder"]

#: Counts the versions of what is sent to the API whose results differ.
_REMOTE_VERSION = 1
_REMOTE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,255}\Z")

_FIELD = "spec.base_model"
#: What decides a model's answers: configuration, weights, tokenizer. Not model cards, pictures or other formats.
_PATTERNS = (
    "config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
)
_PICKLED_PATTERNS = ("pytorch_model*.bin", "pytorch_model*.json")
#: Model types that read in both directions: no next token to read an answer from, and the whole text is pooled.
_ENCODER_TYPES = frozenset(
    (
        *("albert", "bert", "camembert", "convbert", "deberta", "deberta-v2", "distilbert", "electra", "ernie"),
        *("eurobert", "flaubert", "fnet", "longformer", "mobilebert", "modernbert", "mpnet", "neobert", "nomic_bert"),
        *("nystromformer", "rembert", "roberta", "roformer", "squeezebert", "xlm-roberta", "xlm-roberta-xl"),
    )
)
_CHUNK_BYTES = 1 << 22


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A base model on disk, or one behind the fine-tuning API.

    Attributes:
        folder: Holds config.json, the weights and the tokenizer; means nothing for a remote one.
        digest: Of the content of those files; the same in another place. Of a remote one, of its server's URL, its name
            and the settings that decide what a job makes of it.
        config: config.json; empty for a remote one.
        remote_name: What the server calls it; "" for a model on disk.
    """

    folder: Path
    digest: str
    config: Mapping[str, Any]
    remote_name: str = ""

    @property
    def is_remote(self) -> bool:
        """Whether it is trained and asked through the fine-tuning API."""
        return bool(self.remote_name)

    @property
    def is_encoder(self) -> bool:
        """Whether it reads in both directions (BERT and its kin) instead of predicting the next token."""
        return str(self.config.get("model_type", "")) in _ENCODER_TYPES

    @property
    def n_layers(self) -> int:
        """Transformer layers; 0 where the configuration does not say."""
        for key in ("num_hidden_layers", "n_layer", "n_layers", "num_layers"):
            if isinstance(self.config.get(key), int):
                return int(self.config[key])
        return 0

    @property
    def n_positions(self) -> int:
        """Positions of the context; 0 where the configuration does not say."""
        for key in ("max_position_embeddings", "n_positions", "n_ctx"):
            if isinstance(self.config.get(key), int):
                return int(self.config[key])
        return 0

    def check(self, method: Method) -> None:
        """Checks what can be known about a method on this model without loading it.

        Raises:
            InvalidArgumentError: names the field that does not fit.
        """
        if self.is_remote:
            _check_remote(method)
            return
        model_type = self.config.get("model_type")
        if self.is_encoder and method.head is Head.LANGUAGE_MODEL:
            raise InvalidArgumentError(
                "spec.method.head",
                f"LANGUAGE_MODEL, but {model_type!r} models predict no next token; use CLASSIFICATION",
            )
        if self.is_encoder and method.few_shot_count:
            raise InvalidArgumentError(
                "spec.method.few_shot_count", f"{model_type!r} models read no few-shot block; set it to 0"
            )
        if method.n_layers > self.n_layers:
            raise InvalidArgumentError(
                "spec.method.n_layers", f"{method.n_layers}, but the base model has {self.n_layers} layers"
            )


class BaseModelFinder:
    """Finds models and remembers the digests of files that did not change since.

    Args:
        fine_tuning: Where remote models are; None reads the environment when one is asked for.
    """

    def __init__(self, fine_tuning: FineTuningSettings | None = None) -> None:
        self._fine_tuning = fine_tuning
        self._file_digests: dict[tuple[str, int, int], str] = {}

    def find(self, name: str) -> BaseModel:
        """The model of a folder, a carried name, a hub name or `openai:NAME`; a hub model is downloaded where it is not
        there yet, and a server is asked nothing.

        Raises:
            InvalidArgumentError: where there is no such model, or the hub cannot be reached.
        """
        if name.startswith(REMOTE_PREFIX):
            return _remote(name.removeprefix(REMOTE_PREFIX), self._fine_tuning or read_environment(FineTuningSettings))
        located = resolve_model(name, field=_FIELD)
        folder = Path(located) if Path(located).is_absolute() else _download(located)
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InvalidArgumentError(_FIELD, f"{name!r} has no readable config.json: {error}") from None
        files = sorted({path for pattern in _PATTERNS for path in folder.glob(pattern) if path.is_file()})
        if not any(path.suffix == ".safetensors" for path in files):
            files = sorted({*files, *(path for pattern in _PICKLED_PATTERNS for path in folder.glob(pattern))})
        if not any(path.suffix in (".safetensors", ".bin") for path in files):
            raise InvalidArgumentError(_FIELD, f"{name!r} holds no weights (*.safetensors)")
        digest = content_digest([[path.name, self._file_digest(path)] for path in files])
        return BaseModel(folder, digest, config)

    def _file_digest(self, path: Path) -> str:
        status = path.stat()
        key = (str(path), status.st_size, status.st_mtime_ns)
        if key not in self._file_digests:
            digest = hashlib.sha256()
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    digest.update(chunk)
            self._file_digests[key] = digest.hexdigest()
        return self._file_digests[key]


def _remote(name: str, settings: FineTuningSettings) -> BaseModel:
    if not _REMOTE_NAME.match(name):
        raise InvalidArgumentError(
            _FIELD, f"{name!r} is no model's name; write {REMOTE_PREFIX} and the name, such as openai:gpt-4o-mini"
        )
    decides = settings.model_dump(
        include={"base_url", "n_epochs", "batch_size", "learning_rate_multiplier", "holds_out", "n_examples_min"}
    )
    return BaseModel(Path(), content_digest(["fine_tuning", _REMOTE_VERSION, name, decides]), {}, remote_name=name)


def _check_remote(method: Method) -> None:
    """Refuses what the fine-tuning API cannot do. LORA is taken to mean: as the server does it."""
    if method.head is not Head.LANGUAGE_MODEL:
        raise InvalidArgumentError(
            "spec.method.head", f"{method.head.name}, but the API has no other head; use LANGUAGE_MODEL"
        )
    if method.tuning is not Tuning.LORA:
        raise InvalidArgumentError(
            "spec.method.tuning", f"{method.tuning.name}, but the server decides which weights change; use LORA"
        )
    if method.n_layers:
        raise InvalidArgumentError(
            "spec.method.n_layers", f"{method.n_layers}, but the API cuts no layers off; set it to 0"
        )
    if method.quantization is not Quantization.NONE:
        raise InvalidArgumentError(
            "spec.method.quantization", f"{method.quantization.name}, but the weights are the server's; use NONE"
        )
    for stage in method.stages:
        if stage.recipe.log_confidence_weight:
            raise InvalidArgumentError(
                "spec.method.stages.recipe.log_confidence_weight",
                f"{stage.recipe.log_confidence_weight}, but the loss is the server's; set it to 0",
            )
        if stage.sampling is Sampling.UNCERTAINTY:
            raise InvalidArgumentError(
                "spec.method.stages.sampling",
                "UNCERTAINTY would pay for a prediction of every item in the list; use RANDOM",
            )


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - slow to import, and only hub models need it

    for patterns in (_PATTERNS, (*_PATTERNS, *_PICKLED_PATTERNS)):
        try:
            folder = Path(snapshot_download(name, allow_patterns=list(patterns)))
        except Exception as error:  # noqa: BLE001 - the library raises what its many back ends raise
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise InvalidArgumentError(
                _FIELD, f"{name!r} is no folder and cannot be had from the hub ({reason}); give a local copy"
            ) from None
        if any(folder.glob("*.safetensors")):
            break
    return folder
