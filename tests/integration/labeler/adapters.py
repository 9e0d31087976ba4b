"""Tiny adapters with random weights, and what transformers and peft make of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import peft
import torch
import transformers

from isocost.resources.task import Item, Task

__all__ = ["adapter_reference", "make_adapter"]

_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def _base(folder: str, n_classes: int) -> Any:
    if not n_classes:
        return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return transformers.AutoModelForSequenceClassification.from_pretrained(
        folder, dtype=torch.float32, num_labels=n_classes, pad_token_id=0
    )


def make_adapter(base: str, folder: Path, *, seed: int, n_classes: int = 0, rank: int = 4, dora: bool = False) -> str:
    """Writes an adapter that changes much; with a trained head where it has classes."""
    torch.manual_seed(seed)
    config = peft.LoraConfig(
        task_type="SEQ_CLS" if n_classes else "CAUSAL_LM",
        r=rank,
        lora_alpha=2 * rank,
        target_modules=_TARGETS,
        modules_to_save=["score"] if n_classes else None,
        use_dora=dora,
    )
    model = peft.get_peft_model(_base(base, n_classes), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0.0, 0.05)
            elif "modules_to_save" in name:
                parameter.normal_(0.0, 0.5)
    model.save_pretrained(folder, save_embedding_layers=False)
    return str(folder)


def adapter_reference(
    base: str, adapter: str | None, task: Task, items: Sequence[Item], n_classes: int = 0
) -> dict[str, tuple[list[float], float]]:
    """Probabilities of the choices and their mass, one prompt at a time; of the base alone without an adapter."""
    model = _base(base, n_classes)
    if adapter is not None:
        model = peft.PeftModel.from_pretrained(model, adapter)
    model.eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    answers = {}
    for item in items:
        with torch.inference_mode():
            logits = model(torch.tensor([tokenizer.encode(task.render(item.fields))])).logits[0]
        if n_classes:
            answers[item.item_id] = (logits.softmax(-1).tolist(), 1.0)
            continue
        chosen = logits[-1].softmax(-1)[tokenizer.convert_tokens_to_ids(list(task.choices))]
        answers[item.item_id] = ((chosen / chosen.sum()).tolist(), float(chosen.sum()))
    return answers
