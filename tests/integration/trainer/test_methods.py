"""Every elicitation method is data: one executor runs them all, with two choices and with more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from isocost.core.errors import InvalidArgumentError
from isocost.economics.measurement import measure
from isocost.resources.campaign import Sampling
from isocost.resources.method import Head, Method, Quantization, Stage, Tuning
from isocost.resources.task import LabelKind
from isocost.trainer.stages.uncertainty import most_uncertain
from tests.integration.trainer.weather import RECIPE, Bench, llama_task, make_examples

QUICK = replace(RECIPE, max_examples=1600)
WEAK, HUMAN = Stage(LabelKind.WEAK, QUICK), Stage(LabelKind.HUMAN, QUICK)
CONFIDENT = replace(QUICK, log_confidence_weight=0.5, log_confidence_warmup_steps=20)
METHODS = {
    "weak_sft": (WEAK,),
    "human_sft": (HUMAN,),
    "sequential_sft": (WEAK, HUMAN),
    "joint_sft": (Stage(LabelKind.WEAK, QUICK, mixed_with=(LabelKind.HUMAN,)),),
    "uncertainty": (WEAK, Stage(LabelKind.HUMAN, QUICK, sampling=Sampling.UNCERTAINTY)),
    "log_confidence": (Stage(LabelKind.WEAK, CONFIDENT), HUMAN),
}


@pytest.mark.parametrize("n_choices", [2, 3])
@pytest.mark.parametrize("name", METHODS)
def test_a_method_learns(tmp_path: Path, llama_dir: Path, name: str, n_choices: int) -> None:
    bench = Bench.open(tmp_path)
    weak = make_examples(60, 0, noise=0.1, prefix="weak", n_choices=n_choices)
    human = make_examples(60, 0, prefix="human", n_choices=n_choices)
    test = make_examples(150, 1, prefix="test", n_choices=n_choices)
    method = Method(name, METHODS[name])
    spec = bench.spec(llama_dir, llama_task(n_choices), method, weak=weak, human=human, n_human=40, test=test)
    result = bench.run(spec)
    evaluation = result.evaluations[0]
    assert evaluation.accuracy > 1 / n_choices + 0.25
    # Each figure stands for what was predicted.
    frame = pl.read_parquet(tmp_path / "runs" / bench.resolve(spec).run_id / "predictions" / "test.parquet")
    expected = measure(frame["choice"].to_numpy(), np.array(frame["probabilities"].to_list()))
    assert (evaluation.auroc_low, evaluation.ece, evaluation.calibrated_accuracy_high, evaluation.loss) == (
        expected.auroc_low,
        expected.ece,
        expected.calibrated_accuracy_high,
        expected.loss,
    )
    for stage in result.stages:
        assert 16 * stage.n_steps < stage.n_examples <= 32 * stage.n_steps
        assert stage.n_tokens > 5 * stage.n_examples


def test_uncertainty_sampling_trains_on_what_the_first_stage_is_unsure_of(tmp_path: Path, llama_dir: Path) -> None:
    bench = Bench.open(tmp_path)
    weak, human = make_examples(40, 0, noise=0.4, prefix="weak"), make_examples(50, 0, prefix="human")
    first_only = bench.spec(llama_dir, llama_task(), Method("w", (WEAK,)), weak=weak, test=human)
    bench.run(first_only)
    predictions = tmp_path / "runs" / bench.resolve(first_only).run_id / "predictions" / "test.parquet"
    chosen = most_uncertain(np.array(pl.read_parquet(predictions)["probabilities"].to_list()), 12)
    sampled = bench.spec(
        llama_dir, llama_task(), Method("u", METHODS["uncertainty"]), weak=weak, human=human, n_human=12, test=human
    )
    given = bench.spec(
        llama_dir, llama_task(), Method("g", (WEAK, HUMAN)), weak=weak, human=[human[row] for row in chosen], test=human
    )
    results = [bench.run(spec) for spec in (sampled, given)]
    assert [result.stages[0].reused for result in results] == [True, True]
    assert results[0].evaluations == results[1].evaluations
    assert results[0].stages[1].n_labels == 12


def test_few_shot_prompting_needs_no_training(tmp_path: Path, llama_dir: Path) -> None:
    bench = Bench.open(tmp_path)
    method = Method("few_shot", (), few_shot_count=2, few_shot_kind=LabelKind.WEAK)
    weak = make_examples(4, 0, prefix="weak")
    result = bench.run(bench.spec(llama_dir, llama_task(), method, weak=weak, n_weak=0, test=make_examples(30, 1)))
    assert (result.stages, result.output_path, result.evaluations[0].n_eval) == ((), "", 30)


def test_four_bit_weights_need_cuda(tmp_path: Path, llama_dir: Path) -> None:
    bench = Bench.open(tmp_path)
    method = Method("four_bits", (HUMAN,), quantization=Quantization.NF4)
    with pytest.raises(InvalidArgumentError, match="4-bit weights need a CUDA device") as caught:
        bench.run(bench.spec(llama_dir, llama_task(), method, human=make_examples(20, 0)))
    assert caught.value.field == "spec.method.quantization"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"quantization": Quantization.NF4, "tuning": Tuning.FULL}, "method.quantization"),
        ({"head": Head.CLASSIFICATION}, "method.stages.sampling"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, object], field: str) -> None:
    uncertain = Method("u", (Stage(LabelKind.HUMAN, sampling=Sampling.UNCERTAINTY),))
    with pytest.raises(InvalidArgumentError) as caught:
        replace(uncertain, **changes)  # type: ignore[arg-type]
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("kinds", "sampling"),
    [((LabelKind.WEAK,), Sampling.RANDOM), ((), Sampling.GIVEN), ((LabelKind.HUMAN,), Sampling.UNCERTAINTY)],
)
def test_stages_that_make_no_sense_are_refused(kinds: tuple[LabelKind, ...], sampling: Sampling) -> None:
    with pytest.raises(InvalidArgumentError):
        Stage(LabelKind.WEAK, mixed_with=kinds, sampling=sampling)
