"""A few-shot block's states computed once give what whole prompts give: answers, gradients, trained weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, MistralConfig, MistralForCausalLM

from isocost.resources.method import Head, Method, Stage
from isocost.resources.run import Example
from isocost.resources.task import LabelKind
from isocost.trainer.models.classifier import Classifier, build_classifier, load_tokenizer
from isocost.trainer.models.inputs import Prompts, TokenInputs, by_prefix
from isocost.trainer.models.prediction import predict
from isocost.trainer.stages.stage import train_stage
from tests.integration.trainer.weather import (
    N_TOKENS_MAX,
    RECIPE,
    Bench,
    llama_task,
    make_examples,
    make_tokenizer,
    sequential,
)

CPU = torch.device("cpu")
EXAMPLES = make_examples(40, 0)
BLOCK = EXAMPLES[:3]


@pytest.fixture(scope="module")
def gpt2_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gpt2")
    tokenizer = make_tokenizer(encoder=False)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=2, n_positions=N_TOKENS_MAX, initializer_range=0.2,
        bos_token_id=4, eos_token_id=4, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def sliding_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose keys and values slide out of view, so that a shared beginning cannot stand for it."""
    folder = tmp_path_factory.mktemp("mistral")
    tokenizer = make_tokenizer(encoder=False)
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=N_TOKENS_MAX, initializer_range=0.2, sliding_window=8,
        pad_token_id=0, bos_token_id=4, eos_token_id=None,
    )  # fmt: skip
    MistralForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _pair(folder: Path, head: Head, rows: list[Example] = EXAMPLES) -> tuple[Classifier, TokenInputs, TokenInputs]:
    """A classifier with adapters that do something, and the same prompts with and without the shared beginning."""
    tokenizer = load_tokenizer(folder)
    classifier = build_classifier(folder, tokenizer, llama_task(), sequential(head=head), seed=0, device=CPU)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in classifier.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    prompts = Prompts(tokenizer, llama_task(), BLOCK, max_tokens=N_TOKENS_MAX)
    tokens = prompts.encode(rows)
    return (
        classifier,
        TokenInputs(tokens, 0, pad_left=True, prefix=prompts.prefix),
        TokenInputs(tokens, 0, pad_left=True),
    )


@pytest.mark.parametrize("model", ["llama_dir", "gpt2_dir"])
@pytest.mark.parametrize("head", list(Head))
def test_answers_and_gradients_are_those_of_whole_prompts(
    request: pytest.FixtureRequest, model: str, head: Head
) -> None:
    folder: Path = request.getfixturevalue(model)
    classifier, sharing, whole = _pair(folder, head)
    rows = list(range(10))
    # The block's own items are asked with the rest of the block: theirs is another beginning.
    assert by_prefix(sharing, rows) == [[3, 4, 5, 6, 7, 8, 9], [0, 1, 2]]
    assert list(sharing.prompt_lengths_n) == list(whole.lengths_n)
    grown = sum(sharing.lengths_n[3:10])
    assert grown < sum(whole.lengths_n[3:10]) / 2

    gradients: list[dict[str, torch.Tensor]] = []
    logits = []
    for inputs in (sharing, whole):
        classifier.zero_grad(set_to_none=True)
        parts, order = [], []
        for part in by_prefix(inputs, rows):
            shares = inputs.prefix_ids is not None and inputs.shares_prefix(part[0])
            prefix = classifier.prefix_states(inputs.prefix_ids) if shares and inputs.prefix_ids is not None else None
            assert (prefix is not None) == shares
            parts.append(classifier(inputs.batch(part), prefix))
            order += part
        together = torch.cat(parts)[torch.argsort(torch.tensor(order))]
        logits.append(together.detach())
        torch.nn.functional.cross_entropy(together, torch.tensor([k % 2 for k in rows])).backward()  # type: ignore[no-untyped-call]
        gradients.append({name: p.grad.clone() for name, p in classifier.named_parameters() if p.grad is not None})
    torch.testing.assert_close(*logits, atol=1e-5, rtol=1e-5)
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], atol=1e-6, rtol=1e-4, msg=name)


def test_predictions_are_those_of_whole_prompts_in_any_batches(llama_dir: Path) -> None:
    classifier, sharing, whole = _pair(llama_dir, Head.LANGUAGE_MODEL)
    expected = predict(classifier, whole, device=CPU, batch_tokens=1 << 14)
    for batch_tokens in (1, 100, 1 << 14):
        found = predict(classifier, sharing, device=CPU, batch_tokens=batch_tokens)
        assert abs(found - expected).max() < 1e-6


def test_a_trained_stage_is_that_of_whole_prompts(llama_dir: Path) -> None:
    states = []
    for shared in (True, False):
        classifier, sharing, whole = _pair(llama_dir, Head.LANGUAGE_MODEL)
        inputs = sharing if shared else whole
        # One batch holds all: lengths, which differ, would else decide which examples share a batch.
        recipe = replace(RECIPE, learning_rate=1e-3, batch_size=64, max_examples=640)
        outcome = train_stage(classifier, inputs, EXAMPLES, recipe, seed=3, device=CPU, batch_tokens=1 << 14)
        states.append((classifier.trainable_state(), outcome))
    assert states[0][1].best_step == states[1][1].best_step
    for name, value in states[0][0].items():
        torch.testing.assert_close(value, states[1][0][name], atol=2e-4, rtol=1e-2, msg=name)


def test_a_model_with_a_sliding_window_computes_whole_prompts(sliding_dir: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(sliding_dir)
    classifier = build_classifier(sliding_dir, tokenizer, llama_task(), sequential(), seed=0, device=CPU)
    assert classifier.prefix_states(torch.tensor([[4, 5, 6]])) is None
    bench = Bench.open(tmp_path)
    stage = Stage(LabelKind.HUMAN, replace(RECIPE, max_examples=64))
    method = Method("few_shot", (stage,), few_shot_count=2, few_shot_kind=LabelKind.HUMAN)
    result = bench.run(bench.spec(sliding_dir, llama_task(), method, human=EXAMPLES, test=make_examples(20, 1)))
    assert result.stages[0].n_tokens > 0
