"""One stage, looked at from inside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from isocost.resources.method import Head, Recipe
from isocost.trainer.models.classifier import Classifier, build_classifier, load_tokenizer
from isocost.trainer.models.inputs import Batch, Prompts, TokenInputs
from isocost.trainer.stages.holdout import split_holdout
from isocost.trainer.stages.loss import soft_cross_entropy
from isocost.trainer.stages.stage import StageOutcome, train_stage
from tests.integration.trainer.weather import N_TOKENS_MAX, RECIPE, llama_task, make_examples, sequential

CPU = torch.device("cpu")
EXAMPLES = make_examples(40, 0, noise=0.5)


class _SpiedInputs(TokenInputs):
    """Notes which rows were learnt from and which were only looked at."""

    def __init__(self, tokens: Sequence[Sequence[int]]) -> None:
        super().__init__(tokens, 0, pad_left=True)
        self.learnt: list[list[int]] = []
        self.looked_at: set[int] = set()

    def batch(self, rows: Sequence[int]) -> Batch:
        if torch.is_grad_enabled():
            self.learnt.append(list(rows))
        else:
            self.looked_at.update(rows)
        return super().batch(rows)


def _train(
    folder: Path,
    recipe: Recipe,
    *,
    head: Head = Head.LANGUAGE_MODEL,
    on_step: Callable[[Classifier, int], None] = lambda *_: None,
) -> tuple[Classifier, _SpiedInputs, StageOutcome]:
    tokenizer = load_tokenizer(folder)
    task = llama_task()
    classifier = build_classifier(folder, tokenizer, task, sequential(head=head), seed=0, device=CPU)
    inputs = _SpiedInputs(Prompts(tokenizer, task, [], max_tokens=N_TOKENS_MAX).encode(EXAMPLES))
    outcome = train_stage(
        classifier,
        inputs,
        EXAMPLES,
        recipe,
        seed=7,
        device=CPU,
        batch_tokens=1 << 14,
        on_step=lambda step, *_: on_step(classifier, step),
    )
    return classifier, inputs, outcome


def test_held_out_labels_are_looked_at_and_never_learnt_from(llama_dir: Path) -> None:
    _, inputs, outcome = _train(llama_dir, replace(RECIPE, max_examples=320))
    learnt = {row for rows in inputs.learnt for row in rows}
    split = split_holdout(EXAMPLES, 0.2, 7)
    assert learnt == set(split.train)
    assert inputs.looked_at == set(split.holdout)
    assert outcome.n_holdout == len(split.holdout) == 8
    assert len(inputs.learnt) >= outcome.n_steps


def test_the_weights_kept_are_those_of_the_best_step(llama_dir: Path) -> None:
    states: dict[int, dict[str, torch.Tensor]] = {}

    def keep(classifier: Classifier, step: int) -> None:
        states[step] = classifier.trainable_state()

    # Half of the labels are noise: it goes wrong before it ends.
    recipe = replace(RECIPE, learning_rate=3e-2, max_examples=32 * 25, patience=1000)
    classifier, _, outcome = _train(llama_dir, recipe, on_step=keep)
    assert outcome.n_steps == 25
    assert 0 < outcome.best_step < 25
    kept = classifier.trainable_state()
    assert all(torch.equal(kept[name], states[outcome.best_step][name]) for name in kept)
    assert any(not torch.equal(kept[name], states[25][name]) for name in kept)


def test_patience_ends_a_stage_early(llama_dir: Path) -> None:
    recipe = replace(RECIPE, learning_rate=1e-9, max_examples=32 * 200, patience=3)
    _, _, outcome = _train(llama_dir, recipe)
    # Nothing is learnt at this rate: the first evaluation stays the best. An epoch is one step of 32 examples.
    assert outcome.n_steps == 4


def test_only_what_is_tuned_changes_and_it_is_held_in_float32(llama_dir: Path) -> None:
    before: dict[str, torch.Tensor] = {}

    def first(classifier: Classifier, step: int) -> None:
        if step == 1:
            before.update({name: value.clone() for name, value in classifier.state_dict().items()})

    classifier, _, _ = _train(llama_dir, replace(RECIPE, max_examples=320), head=Head.CLASSIFICATION, on_step=first)
    changed = {name for name, value in classifier.state_dict().items() if not torch.equal(value, before[name])}
    trainable = {name for name, parameter in classifier.named_parameters() if parameter.requires_grad}
    assert changed <= trainable
    assert any("lora_B" in name for name in changed)
    assert any("score.modules_to_save" in name for name in changed)
    assert all(parameter.dtype == torch.float32 for parameter in classifier.parameters() if parameter.requires_grad)


def test_a_classification_head_begins_near_zero(llama_dir: Path) -> None:
    tokenizer = load_tokenizer(llama_dir)
    method = sequential(head=Head.CLASSIFICATION)
    classifier = build_classifier(llama_dir, tokenizer, llama_task(), method, seed=0, device=CPU)
    head = dict(classifier.named_parameters())["backbone.base_model.model.score.modules_to_save.default.weight"]
    # The model's other weights have a standard deviation of 0.2.
    assert head.std().item() == pytest.approx(0.01 * 0.2, rel=0.2)


def test_weights_of_another_classifier_are_refused(llama_dir: Path) -> None:
    tokenizer = load_tokenizer(llama_dir)
    one, other = (
        build_classifier(llama_dir, tokenizer, llama_task(), sequential(head=head), seed=0, device=CPU) for head in Head
    )
    with pytest.raises(ValueError, match="weights are of another classifier"):
        one.load_trainable_state(other.trainable_state())


def test_soft_cross_entropy_is_torchs() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(6, 3), torch.softmax(torch.randn(6, 3), dim=-1)
    expected = torch.nn.functional.cross_entropy(logits, targets)
    torch.testing.assert_close(soft_cross_entropy(logits, targets), expected)


def test_padding_changes_no_answer(llama_dir: Path) -> None:
    tokenizer = load_tokenizer(llama_dir)
    classifier = build_classifier(llama_dir, tokenizer, llama_task(), sequential(), seed=0, device=CPU)
    prompts = Prompts(tokenizer, llama_task(), [], max_tokens=N_TOKENS_MAX).encode(EXAMPLES[:8])
    assert len({len(prompt) for prompt in prompts}) > 2
    inputs = TokenInputs(prompts, 0, pad_left=True)
    with torch.no_grad():
        together = classifier(inputs.batch(range(8)))
        alone = torch.cat([classifier(inputs.batch([row])) for row in range(8)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
