"""Adapters that no server loads as they are (with a trained head, DoRA, ...), merged into their base models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from isocost.core.errors import InvalidArgumentError
from isocost.labeler.adapter import AdapterFiles, place_folder
from isocost.labeler.engine import Runner
from isocost.labeler.model_files import ADAPTER_WEIGHTS
from isocost.tasks.model_path import RUN_FILE

__all__ = ["merge"]

_TOKENIZER_FILES = ("tokenizer*", "vocab*", "merges.txt", "added_tokens.json", "special_tokens_map.json", "*.model")
#: The last layer of a classification head, by the names that transformers has for it.
_HEAD_WEIGHTS = ("score.weight", "classifier.weight", "out_proj.weight")


def merge(files: AdapterFiles, target: Path) -> Path:
    """Writes the whole model that an adapter and its base make together into `target`, where it is not there yet.

    Returns:
        `target`; a model folder as any other.

    Raises:
        InvalidArgumentError: names `config.model` where peft is missing or the two do not fit.
    """
    place_folder(target, lambda folder: _merge(files, folder))
    return target


def _merge(files: AdapterFiles, folder: Path) -> None:
    try:
        import peft  # noqa: PLC0415 - an extra, takes seconds
        import transformers  # noqa: PLC0415 - takes seconds
    except ImportError as error:
        raise InvalidArgumentError(
            "config.model", f"an adapter with a head of its own needs {error.name}; install isocost[labeler]"
        ) from None
    classifies = files.runner is Runner.CLASSIFY
    loader = transformers.AutoModelForSequenceClassification if classifies else transformers.AutoModelForCausalLM
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(files.base_model)
        options: dict[str, Any] = {}
        if classifies:
            pad_id = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
            options = {"num_labels": _n_classes(files.folder), "pad_token_id": pad_id or 0}
        base = loader.from_pretrained(files.base_model, dtype="auto", **options)
        model = peft.PeftModel.from_pretrained(base, files.folder).merge_and_unload()
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InvalidArgumentError(
            "config.model", f"the adapter {str(files.folder)!r} does not fit its base {files.base_model!r}: {reason}"
        ) from None
    model.save_pretrained(folder)
    base_folder = Path(files.base_model)
    if not base_folder.is_dir():
        tokenizer.save_pretrained(folder)
        return
    # Copied, not saved anew: some versions of transformers write what others cannot read.
    for path in {path for pattern in _TOKENIZER_FILES for path in base_folder.glob(pattern) if path.is_file()}:
        shutil.copyfile(path, folder / path.name)


def _n_classes(folder: Path) -> int:
    """Classes of an adapter's head: the choices of the task it was trained on, or the rows of its last layer."""
    run = folder / RUN_FILE
    if run.is_file():
        return len(json.loads(run.read_text(encoding="utf-8"))["task"]["choices"])
    from safetensors import safe_open  # noqa: PLC0415 - comes with the labeler extra's torch

    with safe_open(folder / ADAPTER_WEIGHTS, framework="numpy") as weights:
        for ending in reversed(_HEAD_WEIGHTS):
            for key in weights.keys():  # noqa: SIM118 - no mapping
                if key.endswith(ending) and ".lora_" not in key:
                    return int(weights.get_slice(key).get_shape()[0])
    raise ValueError("its weights have no classification head")
