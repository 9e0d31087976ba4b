"""On CUDA, in bf16."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from isocost.resources.method import Head, Quantization
from isocost.resources.task import LabelKind
from isocost.trainer.models.classifier import build_classifier, load_tokenizer
from isocost.trainer.models.prediction import Cancelled
from tests.integration.trainer.weather import Bench, llama_task, make_examples, sequential

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")]


@pytest.mark.parametrize("head", list(Head))
def test_a_sequential_run_in_bf16_learns(tmp_path: Path, llama_dir: Path, head: Head) -> None:
    bench = Bench.open(tmp_path, device="cuda")
    weak = make_examples(48, 0, noise=0.4, prefix="weak")
    human, test = make_examples(64, 0, prefix="human"), make_examples(200, 1, prefix="test")
    spec = bench.spec(llama_dir, llama_task(), sequential(head=head), weak=weak, human=human, test=test)
    result = bench.run(spec)
    assert result.evaluations[0].accuracy > 0.9
    assert [stage.reused for stage in bench.run(spec).stages] == [True, True]


@pytest.mark.parametrize("head", list(Head))
def test_frozen_weights_are_bf16_and_trained_ones_float32(llama_dir: Path, head: Head) -> None:
    device = torch.device("cuda")
    tokenizer = load_tokenizer(llama_dir)
    classifier = build_classifier(llama_dir, tokenizer, llama_task(), sequential(head=head), seed=0, device=device)
    kinds = {(parameter.requires_grad, parameter.dtype) for parameter in classifier.parameters()}
    assert kinds == {(False, torch.bfloat16), (True, torch.float32)}


def test_a_prompted_run_shares_its_block_in_bf16(tmp_path: Path, llama_dir: Path) -> None:
    bench = Bench.open(tmp_path, device="cuda")
    method = sequential(few_shot_count=2, few_shot_kind=LabelKind.HUMAN)
    human, test = make_examples(64, 0, prefix="human"), make_examples(200, 1, prefix="test")
    result = bench.run(bench.spec(llama_dir, llama_task(), method, human=human, test=test))
    assert result.evaluations[0].accuracy > 0.9


def test_four_bit_base_weights_learn(tmp_path: Path, llama_dir: Path) -> None:
    pytest.importorskip("bitsandbytes")
    bench = Bench.open(tmp_path, device="cuda")
    method = sequential(quantization=Quantization.NF4)
    tokenizer = load_tokenizer(llama_dir)
    classifier = build_classifier(llama_dir, tokenizer, llama_task(), method, seed=0, device=torch.device("cuda"))
    assert any(type(module).__name__ == "Linear4bit" for module in classifier.modules())
    human, test = make_examples(64, 0, prefix="human"), make_examples(200, 1, prefix="test")
    result = bench.run(bench.spec(llama_dir, llama_task(), method, human=human, test=test))
    assert result.evaluations[0].accuracy > 0.8


def test_a_cancelled_run_goes_on_from_its_checkpoint(tmp_path: Path, llama_dir: Path) -> None:
    bench = Bench.open(tmp_path, device="cuda")
    spec = bench.spec(llama_dir, llama_task(), sequential(), human=make_examples(64, 0), test=make_examples(200, 1))
    n_calls = 0

    def cancels() -> bool:
        nonlocal n_calls
        n_calls += 1
        return n_calls == 8

    with pytest.raises(Cancelled):
        bench.run(spec, cancels)
    result = bench.run(spec)
    assert next(progress.step for progress, _ in bench.reports if progress.step) > 1
    assert result.evaluations[0].accuracy > 0.9
