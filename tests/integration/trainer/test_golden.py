"""Losses of the first steps with fixed seeds: a change of any of them is a change of what runs mean.

Where one is wanted, the version in trainer/identity.py goes up, so that stages trained before are not taken for new.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from isocost.resources.method import Head, Method, Recipe, Stage, Tuning
from isocost.resources.task import LabelKind
from isocost.trainer.models.classifier import build_classifier, load_tokenizer
from isocost.trainer.models.inputs import Prompts, TokenInputs
from isocost.trainer.stages.stage import train_stage
from tests.integration.trainer.weather import N_TOKENS_MAX, RECIPE, llama_task, make_examples

SHORT = replace(RECIPE, learning_rate=3e-3, max_examples=32 * 8)
CONFIDENT = replace(SHORT, log_confidence_weight=0.5, log_confidence_warmup_steps=4)
GOLDEN = {
    "language-model": [1.04413, 0.88904, 0.8279, 0.88374, 0.76867, 0.63059],
    "classification": [0.69253, 0.69591, 0.68873, 0.67532, 0.66248, 0.65775],
    "full": [1.04413, 0.88904, 0.62826, 0.6096, 0.59057, 0.56748],
    "log-confidence": [1.04413, 0.83074, 0.72593, 0.68959, 0.57436, 0.49072],
    "prompted": [0.70399, 0.79785, 0.76174, 0.69666, 0.67459, 0.64691],
}


@pytest.mark.parametrize(
    ("name", "head", "tuning", "recipe", "n_shown"),
    [
        ("language-model", Head.LANGUAGE_MODEL, Tuning.LORA, SHORT, 0),
        ("classification", Head.CLASSIFICATION, Tuning.LORA, SHORT, 0),
        ("full", Head.LANGUAGE_MODEL, Tuning.FULL, SHORT, 0),
        ("log-confidence", Head.LANGUAGE_MODEL, Tuning.LORA, CONFIDENT, 0),
        ("prompted", Head.LANGUAGE_MODEL, Tuning.LORA, SHORT, 2),
    ],
)
def test_losses_are_the_golden_ones(
    llama_dir: Path, name: str, head: Head, tuning: Tuning, recipe: Recipe, n_shown: int
) -> None:
    examples = make_examples(80, 0, noise=0.2)
    tokenizer = load_tokenizer(llama_dir)
    shown = {"few_shot_count": n_shown, "few_shot_kind": LabelKind.HUMAN} if n_shown else {}
    method = Method(name, (Stage(LabelKind.HUMAN, recipe),), head=head, tuning=tuning, **shown)  # type: ignore[arg-type]
    classifier = build_classifier(llama_dir, tokenizer, llama_task(), method, seed=0, device=torch.device("cpu"))
    prompts = Prompts(tokenizer, llama_task(), examples[:n_shown], max_tokens=N_TOKENS_MAX)
    inputs = TokenInputs(prompts.encode(examples), 0, pad_left=True, prefix=prompts.prefix)
    losses: list[float] = []
    train_stage(
        classifier,
        inputs,
        examples,
        recipe,
        seed=5,
        device=torch.device("cpu"),
        batch_tokens=1 << 14,
        on_step=lambda step, n, read, auroc: losses.append(round(read(), 5)),
    )
    assert losses[:6] == pytest.approx(GOLDEN[name], abs=2e-4), losses
