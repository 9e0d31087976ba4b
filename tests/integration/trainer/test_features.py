"""Cached features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from isocost.trainer.models.base_model import BaseModelFinder
from isocost.trainer.models.features import FeatureStore
from isocost.trainer.models.inputs import Prompts
from isocost.trainer.models.prediction import Cancelled
from tests.integration.trainer.weather import N_TOKENS_MAX, bert_task, make_examples, make_tokenizer


def _prompts(n: int, *, encoder: bool) -> list[list[int]]:
    tokenizer = make_tokenizer(encoder=encoder)
    return Prompts(tokenizer, bert_task(), [], max_tokens=N_TOKENS_MAX).encode(make_examples(n, 0))


def _store(model: Path, folder: Path) -> FeatureStore:
    return FeatureStore(folder, BaseModelFinder().find(str(model)), model, 0, torch.device("cpu"), batch_tokens=64)


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_features_are_those_computed_one_by_one(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(f"{kind}_dir")
    prompts = _prompts(12, encoder=kind == "bert")
    found = _store(folder, tmp_path).features(prompts)
    model = transformers.AutoModel.from_pretrained(folder)
    for row, prompt in enumerate(prompts):
        with torch.no_grad():
            hidden = model(torch.tensor([prompt])).last_hidden_state[0]
        pooled = (hidden.mean(dim=0) if kind == "bert" else hidden[-1]).numpy()
        unit = pooled / np.linalg.norm(pooled)
        np.testing.assert_allclose(found[row], unit * np.sqrt(len(unit)), atol=1e-5)


def test_only_new_texts_are_computed_also_in_another_process(bert_dir: Path, tmp_path: Path) -> None:
    prompts = _prompts(20, encoder=True)
    first = _store(bert_dir, tmp_path)
    features = first.features(prompts[:12])
    assert first.n_computed == 12
    second = _store(bert_dir, tmp_path)
    np.testing.assert_array_equal(second.features(prompts)[:12], features)
    assert second.n_computed == 8
    assert _store(bert_dir, tmp_path).features(prompts[::-1]).shape == (20, 64)


def test_a_text_that_occurs_twice_is_computed_once(bert_dir: Path, tmp_path: Path) -> None:
    prompts = _prompts(5, encoder=True)
    store = _store(bert_dir, tmp_path)
    features = store.features(prompts + prompts)
    assert store.n_computed == 5
    np.testing.assert_array_equal(features[:5], features[5:])


def test_computing_can_be_cancelled_between_batches(bert_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(Cancelled):
        _store(bert_dir, tmp_path).features(_prompts(40, encoder=True), lambda: True)
