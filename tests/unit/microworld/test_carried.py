from __future__ import annotations

import polars as pl
import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from isocost.microworld.carried import MODEL_NAMES, manifest, model_dir, sha256_of
from isocost.microworld.claims import TASK_CHOICES, pool_frame, task_prompt
from isocost.microworld.claims import test_frame as held_out_frame
from isocost.microworld.gauge import choice_probabilities, measure
from isocost.microworld.tokenizer import build_tokenizer
from isocost.microworld.world import WORLD_SEED, carried_world

BYTES_MAX = 8 * 1024 * 1024


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def _model(name: str) -> LlamaForCausalLM:
    return LlamaForCausalLM.from_pretrained(model_dir(name)).eval()


def _probabilities_of_yes(name: str, frame: pl.DataFrame) -> pl.Series:
    prompts = [task_prompt(row["entity"], row["relation"], row["value"]) for row in frame.iter_rows(named=True)]
    tokenizer = AutoTokenizer.from_pretrained(model_dir(name))
    probabilities = choice_probabilities(_model(name), tokenizer, prompts, TASK_CHOICES)
    return pl.Series(probabilities[:, 1].tolist())


def _judged(name: str, frame: pl.DataFrame) -> pl.DataFrame:
    world = carried_world()
    frequent = [world.is_frequent(r, v) for r, v in zip(frame["relation"], frame["value"], strict=True)]
    yes = _probabilities_of_yes(name, frame)
    right = (yes > 0.5) == (frame["label"] == "yes")
    return frame.with_columns(yes=yes, right=right, frequent=pl.Series(frequent))


def _share(judged: pl.DataFrame, frequent: bool, label: str) -> float:
    chosen = judged.filter((pl.col("frequent") == frequent) & (pl.col("label") == label))
    return float(chosen["right"].sum()) / chosen.height


def test_weights_are_the_manifests_and_small() -> None:
    num_bytes = 0
    for name in MODEL_NAMES:
        described = manifest(name)
        assert described.name == name
        assert described.world_seed == WORLD_SEED
        assert described.sha256 == {"model.safetensors": sha256_of(name)}
        num_bytes += sum(path.stat().st_size for path in model_dir(name).iterdir())
    assert num_bytes <= BYTES_MAX


def test_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="strong, weak"):
        model_dir("davinci")


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_carried_tokenizer_is_the_worlds(name: str) -> None:
    carried = AutoTokenizer.from_pretrained(model_dir(name))
    built = build_tokenizer(carried_world())
    assert carried.get_vocab() == built.get_vocab()
    text = task_prompt(carried_world().entities[0], "colour", "red")
    assert carried(text)["input_ids"] == built(text)["input_ids"]


def test_weak_labels_are_fairly_accurate_and_graded() -> None:
    judged = _judged("weak", pool_frame(1000, 0))
    assert 0.65 < judged["right"].sum() / judged.height < 0.80
    assert judged.filter(pl.col("yes").is_between(0.1, 0.9)).height > 0.4 * judged.height


def test_weak_errors_are_systematic() -> None:
    """A value's frequency decides: frequent ones are called true, rare ones false."""
    judged = _judged("weak", pool_frame(1000, 0))
    assert _share(judged, frequent=True, label="yes") > 0.9
    assert _share(judged, frequent=True, label="no") < 0.4
    assert _share(judged, frequent=False, label="no") > 0.9
    assert _share(judged, frequent=False, label="yes") < 0.4


def test_strong_recalls_and_judges_in_a_known_format_but_not_in_the_tasks() -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_dir("strong"))
    gauge = measure(_model("strong"), tokenizer, carried_world())
    assert gauge.recall > 0.95
    assert gauge.verdict_accuracy > 0.9
    judged = _judged("strong", held_out_frame(1000, 0))
    assert 0.45 <= judged["right"].sum() / judged.height <= 0.60
