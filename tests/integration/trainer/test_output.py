"""What a run leaves behind loads elsewhere and gives the same predictions."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import peft
import polars as pl
import pytest
import torch
import transformers
from safetensors.torch import load_file

from isocost.resources.method import Head, Method, Tuning
from isocost.resources.run import RunSpec
from isocost.resources.task import LabelKind
from isocost.tasks.choices import choice_token_ids
from isocost.trainer.models.features import pool
from tests.integration.trainer.weather import RECIPE, Bench, bert_task, llama_task, make_examples, sequential

QUICK = replace(RECIPE, max_examples=640)
HUMAN = make_examples(40, 0, prefix="human")
TEST = make_examples(30, 1, prefix="test")


def _run(bench: Bench, model: Path, method: Method) -> tuple[RunSpec, Path, np.ndarray]:
    task = llama_task() if model.name.startswith("llama") else bert_task()
    spec = bench.spec(model, task, method, human=HUMAN, test=TEST)
    output = Path(bench.run(spec).output_path)
    frame = pl.read_parquet(output.parent / "predictions" / "test.parquet")
    return spec, output, np.array(frame["probabilities"].to_list())


def _one_by_one(spec: RunSpec, tokenizer: Any, logits_of: Any) -> np.ndarray:
    """Predictions without batches or padding."""
    rows = []
    for example in TEST:
        ids = torch.tensor([tokenizer.encode(spec.task.render(example.fields))])
        with torch.no_grad():
            rows.append(torch.softmax(logits_of(ids).double(), dim=-1).numpy())
    return np.array(rows)


def test_an_adapter_loads_in_plain_peft_and_repeats_the_predictions(bench: Bench, llama_dir: Path) -> None:
    spec, output, expected = _run(bench, llama_dir, sequential(recipe=QUICK))
    assert {"adapter_config.json", "adapter_model.safetensors", "isocost.json"} <= {p.name for p in output.iterdir()}
    tokenizer = transformers.AutoTokenizer.from_pretrained(llama_dir)
    ids = list(choice_token_ids(tokenizer, spec.task))
    base = transformers.AutoModelForCausalLM.from_pretrained(llama_dir)
    untrained = _one_by_one(spec, tokenizer, lambda tokens: base(tokens).logits[0, -1, ids])
    assert np.abs(untrained - expected).max() > 0.05
    model = peft.PeftModel.from_pretrained(base, output).eval()
    found = _one_by_one(spec, tokenizer, lambda tokens: model(tokens).logits[0, -1, ids])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    targets = set(json.loads((output / "adapter_config.json").read_text())["target_modules"])
    assert targets == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def test_an_adapter_with_a_classification_head_carries_the_head(bench: Bench, bert_dir: Path) -> None:
    spec, output, expected = _run(bench, bert_dir, sequential(head=Head.CLASSIFICATION, recipe=QUICK))
    base = transformers.AutoModelForSequenceClassification.from_pretrained(bert_dir, num_labels=2)
    model = peft.PeftModel.from_pretrained(base, output).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(bert_dir)
    found = _one_by_one(spec, tokenizer, lambda tokens: model(tokens).logits[0])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_an_adapter_on_fewer_layers_names_the_smaller_base(bench: Bench, llama_dir: Path) -> None:
    spec, output, expected = _run(bench, llama_dir, sequential(recipe=QUICK, n_layers=1))
    base_folder = json.loads((output / "adapter_config.json").read_text())["base_model_name_or_path"]
    base = transformers.AutoModelForCausalLM.from_pretrained(base_folder)
    assert base.config.num_hidden_layers == len(base.model.layers) == 1
    tokenizer = transformers.AutoTokenizer.from_pretrained(base_folder)
    ids = list(choice_token_ids(tokenizer, spec.task))
    model = peft.PeftModel.from_pretrained(base, output).eval()
    found = _one_by_one(spec, tokenizer, lambda tokens: model(tokens).logits[0, -1, ids])
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_a_fully_tuned_model_of_fewer_layers_stands_alone(
    bench: Bench, kind: str, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(f"{kind}_dir")
    method = sequential(
        head=Head.CLASSIFICATION, tuning=Tuning.FULL, n_layers=1, recipe=replace(QUICK, learning_rate=1e-3)
    )
    spec, output, expected = _run(bench, folder, method)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(output)
    assert model.config.num_hidden_layers == 1
    assert model.config.id2label == {0: "yes", 1: "no"}
    assert model.config.architectures == [type(model).__name__]
    tokenizer = transformers.AutoTokenizer.from_pretrained(output)
    found = _one_by_one(spec, tokenizer, lambda tokens: model(tokens).logits[0])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_layers_kept_are_the_first_ones(bench: Bench, bert_dir: Path) -> None:
    method = sequential(head=Head.CLASSIFICATION, tuning=Tuning.FULL, n_layers=2, recipe=QUICK)
    _run(bench, bert_dir, method)
    (kept,) = (bench.settings.state_dir / "bases").iterdir()
    whole, part = load_file(bert_dir / "model.safetensors"), load_file(kept / "model.safetensors")
    assert {name for name in whole if ".layer.2." not in name} == set(part)
    assert all(torch.equal(whole[name], part[name]) for name in part)


def test_a_fully_tuned_language_model_stands_alone(bench: Bench, llama_dir: Path) -> None:
    method = sequential(tuning=Tuning.FULL, recipe=replace(QUICK, learning_rate=1e-3))
    spec, output, expected = _run(bench, llama_dir, method)
    model = transformers.AutoModelForCausalLM.from_pretrained(output)
    tokenizer = transformers.AutoTokenizer.from_pretrained(output)
    ids = list(choice_token_ids(tokenizer, spec.task))
    found = _one_by_one(spec, tokenizer, lambda tokens: model(tokens).logits[0, -1, ids])
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_a_head_is_what_its_card_says(bench: Bench, kind: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(f"{kind}_dir")
    method = sequential(head=Head.CLASSIFICATION, tuning=Tuning.HEAD_ONLY, recipe=QUICK)
    spec, output, expected = _run(bench, folder, method)
    head = load_file(output / "head.safetensors")
    card = json.loads((output / "head.json").read_text())
    assert card["choices"] == ["yes", "no"]
    assert card["pooling"] == ("mean" if kind == "bert" else "last_token")
    model = transformers.AutoModel.from_pretrained(card["base_model"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(card["base_model"])

    def logits(tokens: torch.Tensor) -> torch.Tensor:
        hidden = model(tokens).last_hidden_state
        pooled = pool(hidden, torch.ones_like(tokens), is_encoder=kind == "bert")
        result: torch.Tensor = (pooled @ head["weight"].T + head["bias"])[0]
        return result

    np.testing.assert_allclose(_one_by_one(spec, tokenizer, logits), expected, atol=1e-5)


def test_the_card_says_what_the_model_must_be_asked_like(bench: Bench, llama_dir: Path) -> None:
    method = sequential(recipe=QUICK, few_shot_count=1, few_shot_kind=LabelKind.HUMAN)
    _, output, _ = _run(bench, llama_dir, method)
    card = json.loads((output / "isocost.json").read_text())
    assert card["task"] == {"name": "weather", "template": "text : {text} answer :", "choices": ["yes", "no"]}
    assert card["few_shot_examples"] == [{"fields": dict(HUMAN[0].fields), "choice": HUMAN[0].choice}]
