from __future__ import annotations

import pytest

from isocost.core.errors import InvalidArgumentError
from isocost.resources.campaign import Sampling
from isocost.resources.method import Head, Quantization, Tuning
from isocost.resources.task import LabelKind
from isocost.sweep.method_spec import PRESETS, expand_methods
from tests.unit.sweep.specs import config

WEAK, HUMAN = LabelKind.WEAK, LabelKind.HUMAN


def test_every_method_of_the_paper_is_there() -> None:
    methods = {}
    spec = config(methods=list(PRESETS))
    for variant in expand_methods(spec):
        method = variant.method(spec, spec.strong_models[0])
        methods[variant.family] = [
            (stage.label_kinds, stage.sampling, stage.recipe.log_confidence_weight) for stage in method.stages
        ]
    plain = Sampling.RANDOM
    assert methods == {
        "few_shot_prompting": [],
        "weak_sft": [((WEAK,), plain, 0)],
        "human_sft": [((HUMAN,), plain, 0)],
        "sequential_sft": [((WEAK,), plain, 0), ((HUMAN,), plain, 0)],
        "sequential_sft_uncertainty": [((WEAK,), plain, 0), ((HUMAN,), Sampling.UNCERTAINTY, 0)],
        "sequential_sft_log_confidence": [((WEAK,), plain, 0.5), ((HUMAN,), plain, 0)],
        "joint_sft": [((WEAK, HUMAN), plain, 0)],
    }


def test_few_shot_settings_are_methods_of_their_own() -> None:
    spec = config(
        methods=[
            {"method": "sequential_sft", "few_shot_counts": [0, 2, 8, 32], "few_shot_kinds": ["human", "weak"]},
            {"method": "few_shot_prompting", "few_shot_counts": [0, 2]},
        ]
    )
    variants = {variant.name: variant for variant in expand_methods(spec)}
    assert list(variants) == [
        "sequential_sft",
        *(f"sequential_sft_{count}shot_{kind}" for count in (2, 8, 32) for kind in ("human", "weak")),
        "few_shot_prompting_0shot",
        "few_shot_prompting_2shot_human",
    ]
    assert {variant.family for variant in variants.values()} == {"sequential_sft", "few_shot_prompting"}
    method = variants["sequential_sft_8shot_weak"].method(spec, spec.strong_models[0])
    assert (method.few_shot_count, method.few_shot_kind) == (8, WEAK)


def test_the_narrowest_section_wins() -> None:
    spec = config(
        recipe={"learning_rate": 0.1, "batch_size": 8, "patience": 7},
        weak_recipe={"learning_rate": 0.2},
        lora_rank=16,
        tuning="full",
        strong_models=[{"model": "big", "tuning": "lora", "quantization": "nf4", "recipe": {"batch_size": 4}}],
        methods=[
            {"method": "sequential_sft_log_confidence", "human_recipe": {"batch_size": 2}},
            {"method": "sequential_sft_log_confidence", "name": "milder", "recipe": {"log_confidence_weight": 0.25}},
        ],
    )
    first, milder = (variant.method(spec, spec.strong_models[0]) for variant in expand_methods(spec))
    weak, human = (stage.recipe for stage in first.stages)
    assert (weak.learning_rate, weak.batch_size, weak.patience, weak.log_confidence_weight) == (0.2, 4, 7, 0.5)
    assert (human.learning_rate, human.batch_size, human.patience, human.log_confidence_weight) == (0.1, 2, 7, 0)
    assert (first.tuning, first.quantization, first.lora_rank) == (Tuning.LORA, Quantization.NF4, 16)
    assert milder.stages[0].recipe.log_confidence_weight == 0.25


def test_heads_and_tunings() -> None:
    spec = config(
        head="classification",
        methods=["few_shot_prompting", "weak_sft", {"method": "weak_sft", "name": "head", "tuning": "head_only"}],
    )
    prompting, weak, head = (variant.method(spec, spec.strong_models[0]) for variant in expand_methods(spec))
    # Prompting has no head to train.
    assert prompting.head is Head.LANGUAGE_MODEL
    assert (weak.head, weak.tuning) == (Head.CLASSIFICATION, Tuning.LORA)
    assert (head.head, head.tuning) == (Head.CLASSIFICATION, Tuning.HEAD_ONLY)


def test_methods_of_one_name_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="two methods are called 'weak_sft'"):
        expand_methods(config(methods=["weak_sft", {"method": "weak_sft", "labels": "hard"}]))
