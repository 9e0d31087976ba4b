"""Classifiers: a base model with one of the two heads, or a head alone, behind one call.

Legend of the shape suffixes: b examples of a batch, t tokens, d width of the features, c choices.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import peft
import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from isocost.core.errors import InvalidArgumentError
from isocost.resources.method import Head, Method, Quantization, Tuning
from isocost.resources.task import Task
from isocost.tasks.choices import choice_token_ids
from isocost.trainer.models.inputs import Batch
from isocost.trainer.models.shared_prefix import PrefixStates, compute_prefix, prefix_arguments, takes_prefix

__all__ = [
    "Classifier",
    "build_classifier",
    "build_head",
    "load_tokenizer",
    "loading",
    "max_tokens",
    "pad_token_id",
    "truncate",
]

#: The paper's: a head that begins near zero leaves the first steps to the body.
_HEAD_INIT_SCALE = 0.01
_TOKENIZER_FILES = ("tokenizer*", "vocab*", "merges.txt", "added_tokens.json", "special_tokens_map.json")
_SEQUENCE_HEADS = ("score", "classifier", "classification_head")

# The service's log is for its own events; progress goes to the callers.
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


class Classifier(nn.Module):
    """Gives logits over the task's choices; its trainable weights can be read, set and saved."""

    def forward(self, batch: Batch, prefix: PrefixStates | None = None) -> torch.Tensor:
        """Logits [B, C] in float32 for a batch of `Inputs`, which goes on from a shared beginning if one is given."""
        raise NotImplementedError

    def prefix_states(self, prefix_ids_1p: torch.Tensor) -> PrefixStates | None:  # noqa: ARG002 - for those that can
        """States of a shared beginning [1, P], with gradients where they are on; None where it cannot be shared."""
        return None

    def save(self, folder: Path) -> None:
        """Writes what was trained into an empty folder, in the form others load."""
        raise NotImplementedError

    def train(self, mode: bool = True) -> Self:
        """Switches between training and evaluation; free where nothing changes, as the Trainer asks at every step."""
        return self if self.training == mode else super().train(mode)

    def trainable_state(self) -> dict[str, torch.Tensor]:
        """Copies of the trainable weights, on the CPU, by name."""
        return {
            name: parameter.detach().to("cpu", copy=True)
            for name, parameter in self.named_parameters()
            if parameter.requires_grad
        }

    def load_trainable_state(self, state: dict[str, torch.Tensor]) -> None:
        """Sets the trainable weights.

        Raises:
            ValueError: where the names are not exactly those of the trainable weights.
        """
        trainable = {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}
        if trainable.keys() != state.keys():
            odd = sorted(trainable.keys() ^ state.keys())
            raise ValueError(f"the weights are of another classifier; {odd[0]!r} is on one side only")
        with torch.no_grad():
            for name, parameter in trainable.items():
                parameter.copy_(state[name])


class _BackboneClassifier(Classifier):
    """A transformer with a head of its own."""

    def __init__(self, backbone: Any, tokenizer_folder: Path) -> None:
        super().__init__()
        self.backbone = backbone
        self._tokenizer_folder = tokenizer_folder
        inner = backbone.get_base_model() if isinstance(backbone, peft.PeftModel) else backbone
        accepted = inspect.signature(inner.forward).parameters
        # Decoders; encoders' positions begin where they wish, and are padded behind.
        self._takes_prefix = takes_prefix(inner)
        self._one_position: dict[str, Any] = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}

    def prefix_states(self, prefix_ids_1p: torch.Tensor) -> PrefixStates | None:
        """None for models that do not keep plain keys and values, such as encoders."""
        return compute_prefix(self.backbone, prefix_ids_1p, **self._one_position) if self._takes_prefix else None

    def _arguments(self, batch: Batch, prefix: PrefixStates | None) -> dict[str, Any]:
        ids_bt, mask_bt = batch["input_ids"], batch.get("attention_mask")
        if prefix is not None:
            return {"input_ids": ids_bt} | prefix_arguments(prefix, ids_bt, mask_bt)
        arguments: dict[str, Any] = {"input_ids": ids_bt, "attention_mask": mask_bt}
        if mask_bt is not None and self._takes_prefix:
            # Without this, padding would shift the positions that the model sees.
            arguments["position_ids"] = (mask_bt.cumsum(-1) - 1).clamp(min=0)
        return arguments

    def save(self, folder: Path) -> None:
        """Writes a peft adapter (LoRA) or a whole model with its tokenizer (full tuning)."""
        if isinstance(self.backbone, peft.PeftModel):
            # "auto" would ask the hub whether the vocabulary changed; it never does here.
            self.backbone.save_pretrained(folder, save_embedding_layers=False)
            return
        self.backbone.save_pretrained(folder)
        _copy_tokenizer(self._tokenizer_folder, folder)


class _LanguageModelClassifier(_BackboneClassifier):
    """Reads the answer from the language-model head: the logits of the choices' first tokens after the prompt."""

    _choice_ids: torch.Tensor

    def __init__(self, backbone: Any, tokenizer_folder: Path, choice_ids: Sequence[int]) -> None:
        super().__init__(backbone, tokenizer_folder)
        self.register_buffer("_choice_ids", torch.tensor(choice_ids), persistent=False)

    def forward(self, batch: Batch, prefix: PrefixStates | None = None) -> torch.Tensor:
        """Prompts must be padded on the left: the last position is every prompt's last token."""
        arguments = {"use_cache": False} | self._one_position | self._arguments(batch, prefix)
        logits_btv = self.backbone(**arguments).logits
        logits_bc: torch.Tensor = logits_btv[:, -1, self._choice_ids].float()
        return logits_bc


class _SequenceClassifier(_BackboneClassifier):
    """Reads the answer from a classification head."""

    def forward(self, batch: Batch, prefix: PrefixStates | None = None) -> torch.Tensor:
        """Prompts may be padded on either side."""
        logits_bc: torch.Tensor = self.backbone(**self._arguments(batch, prefix)).logits
        return logits_bc.float()


class _LinearHead(Classifier):
    """A linear head on cached features."""

    def __init__(self, n_features: int, task: Task, description: dict[str, Any]) -> None:
        super().__init__()
        self.linear = nn.Linear(n_features, len(task.choices))
        self._description = description | {"choices": list(task.choices), "template": task.template}
        _shrink(self.linear)

    def forward(self, batch: Batch, prefix: PrefixStates | None = None) -> torch.Tensor:  # noqa: ARG002 - there is none
        """Reads `features` [B, D]."""
        logits_bc: torch.Tensor = self.linear(batch["features"])
        return logits_bc.float()

    def save(self, folder: Path) -> None:
        """Writes head.safetensors (weight [C, D], bias [C]) and head.json, which says what the features are."""
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in self.linear.state_dict().items()},
            folder / "head.safetensors",
        )
        (folder / "head.json").write_text(json.dumps(self._description, indent=2, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def loading(folder: Path) -> Iterator[None]:
    """Names the base model where something of it cannot be loaded.

    Raises:
        InvalidArgumentError: in place of what the libraries raise for broken, missing or too large files.
    """
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InvalidArgumentError("spec.base_model", f"{str(folder)!r} cannot be loaded: {reason}") from error


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a base model; errors as in `loading`."""
    with loading(folder):
        return transformers.AutoTokenizer.from_pretrained(folder)


def max_tokens(tokenizer: Any, n_positions: int) -> int:
    """Longest prompt: the lesser of the model's context and the tokenizer's limit."""
    # A tokenizer without a limit says about 1e30.
    return min(n_positions or 2**31, int(min(tokenizer.model_max_length, 2**31)))


def pad_token_id(tokenizer: Any) -> int:
    """Id that fills gaps; the end-of-sequence token where the tokenizer has no padding token. Always masked."""
    for token_id in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token_id is not None:
            return int(token_id)
    return 0


def truncate(folder: Path, n_layers: int, head: Head, target: Path) -> None:
    """Writes a copy of a base model with its first `n_layers` layers, which loads by itself, into an empty folder."""
    config = transformers.AutoConfig.from_pretrained(folder)
    config.num_hidden_layers = n_layers
    if getattr(config, "layer_types", None) is not None:
        config.layer_types = config.layer_types[:n_layers]
    auto = transformers.AutoModelForCausalLM if head is Head.LANGUAGE_MODEL else transformers.AutoModel
    # The weights of the layers left out have no place in the smaller model and are not loaded.
    with loading(folder):
        auto.from_pretrained(folder, config=config).save_pretrained(target)
    _copy_tokenizer(folder, target)


def build_classifier(
    folder: Path, tokenizer: Any, task: Task, method: Method, *, seed: int, device: torch.device
) -> Classifier:
    """Loads a base model and puts the method's head and tuning on it; frozen weights in bf16 on CUDA, trainable ones
    always in float32.

    Raises:
        InvalidArgumentError: where the choices do not fit the tokenizer, or 4-bit weights are asked for without CUDA.
    """
    torch.manual_seed(seed)
    loads = {"dtype": torch.bfloat16 if device.type == "cuda" and method.tuning is Tuning.LORA else torch.float32}
    if method.quantization is Quantization.NF4:
        loads |= _four_bits(device)
    choice_ids: tuple[int, ...] = ()
    if method.head is Head.LANGUAGE_MODEL:
        choice_ids = choice_token_ids(tokenizer, task)
        with loading(folder):
            backbone = transformers.AutoModelForCausalLM.from_pretrained(folder, **loads)
    else:
        with loading(folder):
            backbone = transformers.AutoModelForSequenceClassification.from_pretrained(
                folder,
                num_labels=len(task.choices),
                id2label=dict(enumerate(task.choices)),
                label2id={choice: index for index, choice in enumerate(task.choices)},
                pad_token_id=pad_token_id(tokenizer),
                **loads,
            )
    if method.tuning is Tuning.LORA:
        if method.head is Head.CLASSIFICATION:
            # Not where every weight is trained: the gradient that reaches the body is as small as the head. A two-layer
            # MiniLM fine-tuned on 200 AG News labels for 60 steps was right on .48 with a small head, .77 without.
            _shrink(_sequence_head(backbone))
        backbone = _with_lora(backbone, method)
    for parameter in backbone.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    classifier = (
        _LanguageModelClassifier(backbone, folder, choice_ids)
        if method.head is Head.LANGUAGE_MODEL
        else _SequenceClassifier(backbone, folder)
    )
    return classifier.to(device).eval()


def _four_bits(device: torch.device) -> dict[str, Any]:
    """How a base model is loaded with its linear layers in 4-bit NormalFloat (Dettmers et al. 2023), scales as well."""
    if device.type != "cuda" or importlib.util.find_spec("bitsandbytes") is None:
        raise InvalidArgumentError(
            "spec.method.quantization",
            "4-bit weights need a CUDA device and bitsandbytes (pip install 'isocost[quantization]'); "
            "leave the quantization out here",
        )
    config = transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"quantization_config": config, "device_map": {"": device}}


def build_head(n_features: int, task: Task, description: dict[str, Any], *, seed: int) -> Classifier:
    """A linear head on features of a width; `description` says in head.json what the features are."""
    torch.manual_seed(seed)
    return _LinearHead(n_features, task, description)


def _with_lora(backbone: Any, method: Method) -> Any:
    config = peft.LoraConfig(
        task_type="CAUSAL_LM" if method.head is Head.LANGUAGE_MODEL else "SEQ_CLS",
        r=method.lora_rank,
        lora_alpha=method.lora_alpha,
        lora_dropout=method.lora_dropout,
        target_modules=_lora_targets(backbone),
        # GPT-2's layers keep their weights the other way round.
        fan_in_fan_out=any(isinstance(module, transformers.pytorch_utils.Conv1D) for module in backbone.modules()),
        modules_to_save=list(_SEQUENCE_HEADS) if method.head is Head.CLASSIFICATION else None,
    )
    return peft.get_peft_model(backbone, config)


def _lora_targets(backbone: Any) -> list[str]:
    """All linear projections of the body, by their short names, as servers of adapters expect them; by their full names
    where the head has a layer of the same short name, which is trained whole.
    """
    output = backbone.get_output_embeddings()
    body: set[str] = set()
    head: set[str] = set()
    for name, module in backbone.named_modules():
        if isinstance(module, (nn.Linear, transformers.pytorch_utils.Conv1D)) and module is not output:
            (head if name.split(".")[0] in _SEQUENCE_HEADS else body).add(name)
    short = {name.rpartition(".")[2] for name in body}
    clashes = short & {name.rpartition(".")[2] for name in head}
    return sorted(body if clashes else short)


def _sequence_head(backbone: Any) -> nn.Module:
    for name in _SEQUENCE_HEADS:
        if isinstance(head := getattr(backbone, name, None), nn.Module):
            return head
    raise InvalidArgumentError(
        "spec.base_model", f"{type(backbone).__name__} has no head named {', '.join(_SEQUENCE_HEADS)}"
    )


def _shrink(head: nn.Module) -> None:
    """Scales the initial weights of a head's last linear layer; its bias begins at zero."""
    linear = [module for module in head.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        linear.weight.mul_(_HEAD_INIT_SCALE)
        if linear.bias is not None:
            linear.bias.zero_()


def _copy_tokenizer(source: Path, target: Path) -> None:
    # Copied, not saved anew: some versions of transformers write what others cannot read.
    for pattern in _TOKENIZER_FILES:
        for path in source.glob(pattern):
            if path.is_file():
                shutil.copyfile(path, target / path.name)
