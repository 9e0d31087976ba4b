"""A stage that goes on from a checkpoint ends as if it had never stopped, bit for bit on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from isocost.resources.method import Method, Recipe, Stage, Tuning
from isocost.resources.task import LabelKind
from isocost.trainer.models.classifier import Classifier, build_classifier, load_tokenizer
from isocost.trainer.models.inputs import Prompts, TokenInputs
from isocost.trainer.models.prediction import Cancelled
from isocost.trainer.stages.checkpoint import StageCheckpoint
from isocost.trainer.stages.stage import StageOutcome, train_stage
from tests.integration.trainer.weather import N_TOKENS_MAX, RECIPE, Bench, llama_task, make_examples, sequential

CPU = torch.device("cpu")
EXAMPLES = make_examples(60, 0, noise=0.5)
#: With dropout the random state counts; with noise the best step is not the last.
RECIPE_NOISY = replace(RECIPE, max_examples=32 * 20, eval_every_steps=2, patience=5)


def _train(
    folder: Path,
    recipe: Recipe,
    checkpoint: StageCheckpoint | None,
    *,
    is_cancelled: Callable[[], bool] = lambda: False,
    on_step: Callable[[int], None] = lambda _: None,
    tuning: Tuning = Tuning.LORA,
) -> tuple[Classifier, StageOutcome]:
    tokenizer = load_tokenizer(folder)
    method = sequential(lora_dropout=0.2, tuning=tuning)
    classifier = build_classifier(folder, tokenizer, llama_task(), method, seed=0, device=CPU)
    tokens = Prompts(tokenizer, llama_task(), [], max_tokens=N_TOKENS_MAX).encode(EXAMPLES)
    outcome = train_stage(
        classifier,
        TokenInputs(tokens, 0, pad_left=True),
        EXAMPLES,
        recipe,
        seed=7,
        device=CPU,
        batch_tokens=1 << 14,
        checkpoint=checkpoint,
        is_cancelled=is_cancelled,
        on_step=lambda step, *_: on_step(step),
    )
    return classifier, outcome


@pytest.mark.parametrize("tuning", [Tuning.LORA, Tuning.FULL])
@pytest.mark.parametrize(
    "recipe",
    [RECIPE_NOISY, replace(RECIPE_NOISY, log_confidence_weight=0.5, log_confidence_warmup_steps=20)],
    ids=["cross-entropy", "log-confidence"],
)
def test_stopped_at_any_step_the_result_is_the_same(
    tmp_path: Path, llama_dir: Path, recipe: Recipe, tuning: Tuning
) -> None:
    expected, outcome = _train(llama_dir, recipe, None, tuning=tuning)
    assert 3 < outcome.best_step < outcome.n_steps
    weights = expected.trainable_state()
    for stop in (1, outcome.best_step, outcome.n_steps):
        checkpoint = StageCheckpoint(tmp_path / f"{stop}", 0)
        n_calls = 0

        def stops(at: int = stop) -> bool:
            nonlocal n_calls
            n_calls += 1
            return n_calls == at

        with pytest.raises(Cancelled):
            _train(llama_dir, recipe, checkpoint, is_cancelled=stops, tuning=tuning)
        again, found = _train(llama_dir, recipe, checkpoint, tuning=tuning)
        assert replace(found, seconds=0) == replace(outcome, seconds=0), stop
        assert all(torch.equal(value, weights[name]) for name, value in again.trainable_state().items()), stop


def test_each_checkpoint_replaces_the_one_before(tmp_path: Path, llama_dir: Path) -> None:
    now = 0.0

    def clock() -> float:
        return now

    seen: list[int] = []
    checkpoint = StageCheckpoint(tmp_path / "only", 10.0, clock)

    def on_step(step: int) -> None:
        nonlocal now
        state = checkpoint.load()
        seen.append(state.step if state else 0)
        assert [path.name for path in tmp_path.iterdir()] == (["only"] if state else [])
        now += 4

    _train(llama_dir, replace(RECIPE_NOISY, max_examples=32 * 8, patience=100), checkpoint, on_step=on_step)
    # Seconds after each step: 0, 4, 8, 12 (written), ...
    assert seen == [0, 0, 0, 4, 4, 4, 7, 7]
    checkpoint.remove()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half", b"{}"])
def test_a_damaged_checkpoint_counts_as_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "damaged"
    path.write_bytes(content)
    assert StageCheckpoint(path, 0).load() is None


def test_a_cancelled_run_goes_on_and_leaves_no_checkpoint(tmp_path: Path, llama_dir: Path) -> None:
    method = Method("human_sft", (Stage(LabelKind.HUMAN, RECIPE_NOISY),))
    benches = [Bench.open(tmp_path / name) for name in ("cancelled", "undisturbed")]
    specs = [
        bench.spec(llama_dir, llama_task(), method, human=EXAMPLES, test=make_examples(50, 1)) for bench in benches
    ]
    n_calls = 0

    def cancels() -> bool:
        nonlocal n_calls
        n_calls += 1
        return n_calls == 6

    with pytest.raises(Cancelled):
        benches[0].run(specs[0], cancels)
    (kept,) = (tmp_path / "cancelled" / "checkpoints").iterdir()
    assert kept.name.startswith("stage-")
    results = [bench.run(spec) for bench, spec in zip(benches, specs, strict=True)]
    first_step = next(progress.step for progress, _ in benches[0].reports if progress.step)
    assert first_step > 1
    assert results[0].evaluations == results[1].evaluations
    weights = [Path(result.output_path, "adapter_model.safetensors").read_bytes() for result in results]
    assert weights[0] == weights[1]
    assert not list((tmp_path / "cancelled" / "checkpoints").iterdir())
