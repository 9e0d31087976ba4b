"""Runs of real training: what they learn, what they reuse, and that they repeat."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from isocost.core.errors import FailedPreconditionError, InvalidArgumentError
from isocost.resources.label import one_hot
from isocost.resources.method import Head, Method, Stage, Tuning
from isocost.resources.run import Example
from isocost.resources.task import LabelKind
from isocost.trainer.models.classifier import build_classifier, load_tokenizer
from isocost.trainer.models.inputs import Prompts, TokenInputs
from isocost.trainer.models.prediction import Cancelled
from isocost.trainer.stages.stage import train_stage
from isocost.trainer.stages.stage_store import StageStore
from tests.integration.trainer.weather import (
    N_TOKENS_MAX,
    RECIPE,
    Bench,
    bert_task,
    llama_task,
    make_examples,
    sequential,
)

WEAK = make_examples(48, 0, noise=0.4, prefix="weak")
HUMAN = make_examples(64, 0, prefix="human")
TEST = make_examples(200, 1, prefix="test")
QUICK = replace(RECIPE, max_examples=320)


def _predictions(bench: Bench, run_id: str) -> pl.DataFrame:
    return pl.read_parquet(bench.settings.state_dir / "runs" / run_id / "predictions" / "test.parquet")


@pytest.mark.parametrize("head", list(Head))
def test_lora_learns_with_both_heads(bench: Bench, llama_dir: Path, head: Head) -> None:
    result = bench.run(bench.spec(llama_dir, llama_task(), sequential(head=head), human=HUMAN, test=TEST))
    (evaluation,) = result.evaluations
    assert evaluation.accuracy > 0.9
    assert evaluation.auroc > 0.9
    (stage,) = result.stages
    assert (stage.label_kind, stage.n_labels, stage.n_holdout) == (LabelKind.HUMAN, 64, 13)
    assert stage.best_auroc > 0.9
    assert 0 < stage.best_step <= stage.n_steps


@pytest.mark.parametrize("tuning", [Tuning.FULL, Tuning.LORA])
def test_an_encoder_of_fewer_layers_learns_three_choices(bench: Bench, bert_dir: Path, tuning: Tuning) -> None:
    human = make_examples(120, 0, n_choices=3, prefix="human")
    method = sequential(head=Head.CLASSIFICATION, tuning=tuning, n_layers=2, recipe=replace(RECIPE, learning_rate=3e-3))
    test = make_examples(200, 1, n_choices=3, prefix="test")
    result = bench.run(bench.spec(bert_dir, bert_task(3), method, human=human, test=test))
    assert result.evaluations[0].auroc > 0.95
    assert result.evaluations[0].accuracy > 0.8


def test_the_predictions_written_are_those_evaluated(bench: Bench, llama_dir: Path) -> None:
    spec = bench.spec(llama_dir, llama_task(), sequential(recipe=QUICK), human=HUMAN, test=TEST)
    (evaluation,) = bench.run(spec).evaluations
    frame = _predictions(bench, bench.resolve(spec).run_id)
    assert frame["item_id"].to_list() == [example.item_id for example in TEST]
    assert frame["choice"].to_list() == [example.choice for example in TEST]
    assert frame["probabilities"].list.sum().to_list() == pytest.approx([1.0] * 200)
    right = frame["probabilities"].list.arg_max() == frame["choice"]
    assert right.mean() == evaluation.accuracy
    assert evaluation.accuracy_low < evaluation.accuracy < evaluation.accuracy_high


def test_the_second_stage_continues_from_the_first_with_a_fresh_optimizer(bench: Bench, llama_dir: Path) -> None:
    """By hand: stage 1, then stage 2 on a newly loaded model that was only given stage 1's weights."""
    method = sequential(recipe=QUICK)
    spec = bench.spec(llama_dir, llama_task(), method, weak=WEAK, human=HUMAN)
    bench.run(spec)
    run = bench.resolve(spec)
    stored = StageStore(bench.settings.state_dir / "stages")
    tokenizer = load_tokenizer(llama_dir)
    prompts = Prompts(tokenizer, spec.task, [], max_tokens=N_TOKENS_MAX)
    state = None
    device = bench.executor._device
    for planned in run.stages:
        classifier = build_classifier(llama_dir, tokenizer, spec.task, method, seed=spec.seed, device=device)
        if state is not None:
            classifier.load_trainable_state(state)
        examples = planned.examples.examples
        inputs = TokenInputs(prompts.encode(examples), 0, pad_left=True)
        train_stage(classifier, inputs, examples, QUICK, seed=planned.seed, device=device, batch_tokens=1 << 14)
        state = classifier.trainable_state()
        expected = stored.weights(planned.stage_id)
        assert state.keys() == expected.keys()
        assert all(bool((state[name] == expected[name]).all()) for name in state)


def test_weak_labels_first_help_a_few_human_ones(bench: Bench, llama_dir: Path) -> None:
    human, weak = HUMAN[:6], make_examples(160, 0, noise=0.3, prefix="weak")
    alone, after = (
        bench.run(bench.spec(llama_dir, llama_task(), sequential(), weak=part, human=human, test=TEST)).evaluations[0]
        for part in ([], weak)
    )
    assert after.accuracy > alone.accuracy + 0.1


@pytest.mark.parametrize("tuning", [Tuning.LORA, Tuning.FULL])
def test_the_same_seed_gives_the_same_result_bit_for_bit(tmp_path: Path, bert_dir: Path, tuning: Tuning) -> None:
    """With dropout, which BERT has."""
    method = sequential(head=Head.CLASSIFICATION, tuning=tuning, recipe=QUICK)
    shown = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        bench = Bench.open(tmp_path / name)
        spec = bench.spec(bert_dir, bert_task(), method, weak=WEAK, human=HUMAN, seed=seed, test=TEST)
        result = bench.run(spec)
        facts = [replace(stage, seconds=0.0, stage_id="") for stage in result.stages]
        shown.append((facts, _predictions(bench, bench.resolve(spec).run_id)["probabilities"].to_list()))
    assert shown[0] == shown[1]
    assert shown[0][1] != shown[2][1]


def test_a_stage_is_never_trained_twice(bench: Bench, llama_dir: Path) -> None:
    method = sequential(recipe=QUICK)
    spec = bench.spec(llama_dir, llama_task(), method, weak=WEAK, human=HUMAN, n_human=16, test=TEST)
    first = bench.run(spec)
    assert [stage.reused for stage in first.stages] == [False, False]
    second = bench.run(replace(spec, n_human=32))
    assert [stage.reused for stage in second.stages] == [True, False]
    assert second.stages[0] == replace(first.stages[0], reused=True, seconds=0.0)
    # No step of the stage that was there was taken again.
    assert all(progress.stage_index > 0 for progress, _ in bench.reports if progress.step)

    grown = make_examples(80, 0, noise=0.4, prefix="weak")
    assert grown[:48] == WEAK
    longer = bench.spec(llama_dir, llama_task(), method, weak=grown, n_weak=48, human=HUMAN, n_human=16, test=TEST)
    third = bench.run(longer)
    assert [stage.reused for stage in third.stages] == [True, True]
    assert third.evaluations == first.evaluations


def test_a_result_that_was_reused_is_the_one_that_was_trained(tmp_path: Path, llama_dir: Path) -> None:
    at_once, in_steps = Bench.open(tmp_path / "a"), Bench.open(tmp_path / "b")
    method = sequential(recipe=QUICK)
    spec = at_once.spec(llama_dir, llama_task(), method, weak=WEAK, human=HUMAN, test=TEST)
    expected = at_once.run(spec)
    in_steps.run(in_steps.spec(llama_dir, llama_task(), method, weak=WEAK))
    result = in_steps.run(in_steps.spec(llama_dir, llama_task(), method, weak=WEAK, human=HUMAN, test=TEST))
    assert [stage.reused for stage in result.stages] == [True, False]
    assert result.evaluations == expected.evaluations
    run_id = at_once.resolve(spec).run_id
    assert _predictions(at_once, run_id).equals(_predictions(in_steps, run_id))


def test_few_shot_prompting_trains_nothing(bench: Bench, llama_dir: Path) -> None:
    method = Method("few_shot", (), few_shot_count=2, few_shot_kind=LabelKind.HUMAN)
    result = bench.run(bench.spec(llama_dir, llama_task(), method, human=HUMAN, n_human=2, test=TEST))
    assert (result.stages, result.output_path) == ((), "")
    assert result.evaluations[0].n_eval == 200
    assert not (bench.settings.state_dir / "stages").exists()


def test_a_few_shot_block_changes_what_the_model_reads(bench: Bench, llama_dir: Path) -> None:
    plain = bench.spec(llama_dir, llama_task(), Method("zero", ()), test=TEST)
    method = Method("few", (), few_shot_count=2, few_shot_kind=LabelKind.WEAK)
    shown = bench.spec(llama_dir, llama_task(), method, weak=WEAK, n_weak=2, test=TEST)
    bench.run(plain)
    bench.run(shown)
    plain_frame, shown_frame = (_predictions(bench, bench.resolve(spec).run_id) for spec in (plain, shown))
    assert plain_frame["item_id"].equals(shown_frame["item_id"])
    assert not plain_frame["probabilities"].equals(shown_frame["probabilities"])


def test_prompted_sequential_sft_learns_from_the_blocks_own_items_too(bench: Bench, llama_dir: Path) -> None:
    method = sequential(few_shot_count=2, few_shot_kind=LabelKind.HUMAN)
    result = bench.run(bench.spec(llama_dir, llama_task(), method, weak=WEAK, human=HUMAN, test=TEST))
    assert [stage.n_labels for stage in result.stages] == [48, 64]
    assert result.evaluations[0].accuracy > 0.8


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_handful_of_labels_is_trained_on_whole(bench: Bench, llama_dir: Path, n: int) -> None:
    (stage,) = bench.run(bench.spec(llama_dir, llama_task(), sequential(), human=HUMAN[:n])).stages
    assert (stage.n_labels, stage.n_holdout, stage.n_steps, stage.best_step, stage.best_auroc) == (n, 0, 5, 5, 0.5)


def test_labels_all_of_one_choice_are_no_obstacle(bench: Bench, llama_dir: Path) -> None:
    human = [replace(example, probabilities=one_hot(1, 2)) for example in HUMAN[:16]]
    (stage,) = bench.run(bench.spec(llama_dir, llama_task(), sequential(), human=human)).stages
    assert stage.best_auroc == 0.5
    assert stage.n_steps > 0


def test_progress_runs_through_both_stages(bench: Bench, llama_dir: Path) -> None:
    bench.run(bench.spec(llama_dir, llama_task(), sequential(recipe=QUICK), weak=WEAK, human=HUMAN))
    steps = [(progress.stage_index, progress.step) for progress, _ in bench.reports]
    assert steps == sorted(steps)
    assert {index for index, step in steps if step} == {0, 1}
    assert all(progress.step <= progress.max_steps for progress, _ in bench.reports)
    assert all(progress.loss > 0 for progress, _ in bench.reports if progress.step)
    assert [len(stages) for _, stages in bench.reports] == [index for index, _ in steps]


def test_cancelling_stops_between_two_steps_and_leaves_no_half_stage(bench: Bench, llama_dir: Path) -> None:
    spec = bench.spec(llama_dir, llama_task(), sequential(), weak=WEAK, human=HUMAN)

    def in_second_stage() -> bool:
        return any(progress.stage_index == 1 and progress.step >= 3 for progress, _ in bench.reports)

    with pytest.raises(Cancelled):
        bench.run(spec, in_second_stage)
    assert bench.reports[-1][0].step == 3
    stored = [path.name for path in (bench.settings.state_dir / "stages").iterdir()]
    assert stored == [bench.resolve(spec).stages[0].stage_id]


def test_a_diverging_stage_fails_with_what_to_change(bench: Bench, llama_dir: Path) -> None:
    recipe = replace(RECIPE, learning_rate=1.0, max_grad_norm=0.0, warmup_steps=0)
    human = [Example("x", {"text": "sun"}, (float("1e-30"), 1.0)), *HUMAN[:7]]
    method = sequential(recipe=recipe, lora_alpha=1e38)
    with pytest.raises(FailedPreconditionError, match=r"recipe\.learning_rate: training diverged"):
        bench.run(bench.spec(llama_dir, llama_task(), method, human=human))


def test_a_prompt_longer_than_the_context_names_its_item(bench: Bench, llama_dir: Path) -> None:
    human = [*HUMAN[:7], Example("too-long", {"text": "w1 " * 70}, (1.0, 0.0))]
    with pytest.raises(
        InvalidArgumentError, match="item 'too-long': the prompt has 75 tokens, more than the model's 64"
    ):
        bench.run(bench.spec(llama_dir, llama_task(), sequential(), human=human))


def test_choices_unknown_to_the_tokenizer_are_refused(bench: Bench, llama_dir: Path) -> None:
    task = replace(llama_task(), choices=("yes", "perhaps"))
    with pytest.raises(InvalidArgumentError, match=r"task\.choices: 'perhaps' is not in the model's vocabulary"):
        bench.run(bench.spec(llama_dir, task, sequential(), human=HUMAN))


def test_head_only_stages_learn_on_features_and_compute_each_once(bench: Bench, bert_dir: Path) -> None:
    stage = Stage(LabelKind.HUMAN, replace(RECIPE, learning_rate=1e-2, max_examples=6400))
    method = Method("head", (stage,), head=Head.CLASSIFICATION, tuning=Tuning.HEAD_ONLY)
    human = make_examples(120, 0, prefix="human")
    spec = bench.spec(bert_dir, bert_task(), method, human=human, n_human=100, test=TEST)
    assert bench.run(spec).evaluations[0].accuracy > 0.85
    parts = {path: path.stat().st_mtime_ns for path in bench.settings.state_dir.rglob("*.npz")}
    assert parts
    bench.run(replace(spec, n_human=120))
    after = {path: path.stat().st_mtime_ns for path in bench.settings.state_dir.rglob("*.npz")}
    assert parts.items() <= after.items()
    assert len(after) == len(parts) + 1
