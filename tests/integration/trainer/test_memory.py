"""Too little memory: batches are computed in parts, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from isocost.core.errors import FailedPreconditionError
from isocost.trainer.models.classifier import Classifier, build_classifier, load_tokenizer
from isocost.trainer.models.inputs import Batch, Prompts, TokenInputs
from isocost.trainer.models.prediction import predict
from isocost.trainer.models.shared_prefix import PrefixStates
from isocost.trainer.stages.stage import train_stage
from tests.integration.trainer.weather import N_TOKENS_MAX, RECIPE, llama_task, make_examples, sequential

CPU = torch.device("cpu")
EXAMPLES = make_examples(40, 0)
ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory."),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you"),
]


class _Cramped(Classifier):
    """A classifier on a device that holds a few examples at a time."""

    def __init__(self, inner: Classifier, n_examples_max: int, error: Exception) -> None:
        super().__init__()
        self.inner = inner
        self._n_examples_max = n_examples_max
        self._error = error
        self.sizes: list[int] = []

    def forward(self, batch: Batch, prefix: PrefixStates | None = None) -> torch.Tensor:
        n_examples = len(batch["input_ids"])
        if n_examples > self._n_examples_max:
            raise self._error
        if torch.is_grad_enabled():
            self.sizes.append(n_examples)
        logits: torch.Tensor = self.inner(batch, prefix)
        return logits


def _classifier(folder: Path) -> tuple[Classifier, TokenInputs]:
    tokenizer = load_tokenizer(folder)
    classifier = build_classifier(folder, tokenizer, llama_task(), sequential(), seed=0, device=CPU)
    tokens = Prompts(tokenizer, llama_task(), [], max_tokens=N_TOKENS_MAX).encode(EXAMPLES)
    return classifier, TokenInputs(tokens, 0, pad_left=True)


@pytest.mark.parametrize("error", ERRORS)
def test_the_micro_batch_is_halved_and_the_stage_goes_on(llama_dir: Path, error: Exception) -> None:
    recipe = replace(RECIPE, learning_rate=1e-3, max_examples=32 * 6)
    states, outcomes = [], []
    for n_examples_max in (32, 9):
        classifier, inputs = _classifier(llama_dir)
        cramped = _Cramped(classifier, n_examples_max, error)
        outcomes.append(train_stage(cramped, inputs, EXAMPLES, recipe, seed=1, device=CPU, batch_tokens=1 << 14))
        states.append(classifier.trainable_state())
    # 32 examples a step: 32, then 16, then 8 at a time, and never more again.
    assert cramped.sizes == [8, 8, 8, 8] * outcomes[1].n_steps
    assert outcomes[0].n_examples == outcomes[1].n_examples == 32 * outcomes[1].n_steps
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], atol=1e-4, rtol=1e-3, msg=name)


@pytest.mark.parametrize("error", ERRORS)
def test_predictions_are_made_in_smaller_batches(llama_dir: Path, error: Exception) -> None:
    classifier, inputs = _classifier(llama_dir)
    expected = predict(classifier, inputs, device=CPU, batch_tokens=1 << 14)
    found = predict(_Cramped(classifier, 3, error), inputs, device=CPU, batch_tokens=1 << 14)
    assert abs(found - expected).max() < 1e-6


def test_where_not_even_one_example_fits_the_remedy_is_named(llama_dir: Path) -> None:
    classifier, inputs = _classifier(llama_dir)
    cramped = _Cramped(classifier, 0, ERRORS[0])
    with pytest.raises(FailedPreconditionError, match="does not hold a single example; shorten the few-shot block"):
        train_stage(cramped, inputs, EXAMPLES, RECIPE, seed=1, device=CPU, batch_tokens=1 << 14)
    with pytest.raises(FailedPreconditionError, match="does not hold a single example"):
        predict(cramped, inputs, device=CPU, batch_tokens=1 << 14)


def test_other_errors_are_not_taken_for_it(llama_dir: Path) -> None:
    classifier, inputs = _classifier(llama_dir)
    cramped = _Cramped(classifier, 0, RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        predict(cramped, inputs, device=CPU, batch_tokens=1 << 14)
