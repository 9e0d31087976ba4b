from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocost.resources.run import RunSpec
from isocost.resources.task import Task
from isocost.sweep.grid import GridPoint, LabelLimits, Mix, grid_points
from isocost.sweep.method_spec import PRESETS, MethodVariant, expand_methods
from isocost.sweep.points import Lists, PlannedRun, bought_and_trained, plan_runs, run_spec, shown_need, stage_keys
from tests.unit.sweep.specs import config

LIMITS = LabelLimits(10_000, 10_000)
EVERY_METHOD: list[Any] = [
    *(
        {"method": name, "few_shot_counts": [0, 2, 32], "few_shot_kinds": ["weak", "human"]}
        for name in PRESETS
        if name != "sequential_sft_uncertainty"
    ),
    {"method": "sequential_sft_uncertainty", "few_shot_counts": [0, 2], "few_shot_kinds": ["weak"]},
]
VARIANTS = expand_methods(config(methods=EVERY_METHOD))


def _variant(name: str) -> MethodVariant:
    return next(variant for variant in VARIANTS if variant.name == name)


def _points(spec: Any, limits: LabelLimits = LIMITS) -> list[GridPoint]:
    return grid_points(
        budgets=spec.budgets,
        weak_fractions=spec.weak_fractions,
        weak_prices=spec.weak_prices,
        human_price=spec.human_price,
        n_min=spec.labels_min,
        limits=limits,
    )


def _plan(limits: LabelLimits = LIMITS, **changes: Any) -> list[PlannedRun]:
    spec = config(**changes)
    return plan_runs(spec, {"microworld": _points(spec, limits)}, {"microworld": limits})


def _spec(run: PlannedRun, **changes: Any) -> RunSpec:
    lists = Lists(Task("microworld", "{text}", ("no", "yes")), f"weak-{run.seed}", f"human-{run.seed}", "test")
    return run_spec(config(**changes), run, lists)


@pytest.mark.parametrize(
    ("method", "mix", "bought", "trained"),
    [
        ("sequential_sft", (80, 8), (80, 8), (80, 8)),
        ("weak_sft", (160, 0), (160, 0), (160, 0)),
        ("human_sft_2shot_weak", (0, 16), (2, 16), (0, 16)),
        # The block's labels are the first of their list.
        ("sequential_sft_2shot_human", (80, 8), (80, 8), (80, 8)),
        # Shown only: no human labels are trained on where none but the block's are bought.
        ("sequential_sft_2shot_human", (160, 0), (160, 2), (160, 0)),
        ("sequential_sft_32shot_human", (80, 8), (80, 32), (80, 0)),
        # Nothing else is there to train on.
        ("sequential_sft_32shot_human", (0, 16), (0, 32), (0, 32)),
        ("human_sft_32shot_human", (0, 16), (0, 32), (0, 32)),
        ("few_shot_prompting_0shot", (0, 0), (0, 0), (0, 0)),
        ("few_shot_prompting_32shot_weak", (0, 0), (32, 0), (0, 0)),
    ],
)
def test_what_is_bought_and_trained_on(
    method: str, mix: tuple[int, int], bought: tuple[int, int], trained: tuple[int, int]
) -> None:
    assert bought_and_trained(_variant(method), Mix(*mix)) == (Mix(*bought), Mix(*trained))


@pytest.mark.parametrize(
    ("method", "mix"),
    [
        ("weak_sft", (80, 8)),
        ("weak_sft", (0, 16)),
        ("human_sft", (160, 0)),
        ("sequential_sft", (0, 0)),
        ("few_shot_prompting_0shot", (80, 8)),
    ],
)
def test_no_run_where_the_mix_is_not_the_method_s(method: str, mix: tuple[int, int]) -> None:
    assert bought_and_trained(_variant(method), Mix(*mix)) is None


counts = st.sampled_from([0, 1, 2, 3, 16, 31, 32, 33, 500])


@given(st.sampled_from(VARIANTS), st.lists(st.tuples(counts, counts), min_size=2, max_size=12))
def test_every_mix_bought_is_trained_on_in_one_way(variant: MethodVariant, mixes: list[tuple[int, int]]) -> None:
    trained = defaultdict(set)
    for mix in mixes:
        found = bought_and_trained(variant, Mix(*mix))
        if found is None:
            continue
        trained[found[0]].add(found[1])
        # Nothing is trained on that is not bought, and nothing of the mix is thrown away unseen.
        assert found[1].n_weak <= found[0].n_weak
        assert found[1].n_human <= found[0].n_human
        assert variant.is_prompting or found[1] != Mix(0, 0)
        assert found[0].n_weak >= mix[0]
        assert found[0].n_human >= mix[1]
    assert all(len(ways) == 1 for ways in trained.values())


def test_runs_are_planned_once_whatever_their_price() -> None:
    one = _plan(methods=EVERY_METHOD)
    two = _plan(methods=EVERY_METHOD, weak_prices=[0.1, 0.2])
    keys = [(run.variant.name, run.weak_labeller, run.bought, run.seed) for run in two]
    assert len(set(keys)) == len(keys)
    specs = {run_spec(config(), run, Lists(Task("t", "{text}", ("a", "b")), "w", "h", "e")) for run in two}
    assert len(specs) == len(two)
    # 16 buys 80 labels at 0.20, 160 at 0.10: another point; its human ends are the same.
    assert {key for key in keys if key[2].n_weak == 0} == {
        (run.variant.name, run.weak_labeller, run.bought, run.seed) for run in one if run.bought.n_weak == 0
    }


def test_the_first_seed_comes_first() -> None:
    seeds = [run.seed for run in _plan(seeds=[7, 3])]
    assert seeds == sorted(seeds, reverse=True)


def test_runs_without_weak_labels_belong_to_no_labeller() -> None:
    labellers = [{"name": "small", "model": "a"}, {"name": "large", "model": "b"}]
    runs = _plan(weak_labellers=labellers, methods=["sequential_sft", "human_sft"], seeds=[1])
    assert {run.weak_labeller for run in runs if run.bought.n_weak == 0} == {""}
    by_name = {name: {run.bought for run in runs if run.weak_labeller == name} for name in ("small", "large")}
    assert by_name["small"] == by_name["large"] != set()


def test_a_strong_model_may_try_some_methods_and_seeds_only() -> None:
    strong = ["small", {"model": "large", "methods": ["human_sft"], "n_seeds": 1}]
    runs = _plan(strong_models=strong, methods=["sequential_sft", "human_sft"])
    assert {(run.variant.name, run.seed) for run in runs if run.strong.model == "large"} == {("human_sft", 1)}
    assert {(run.variant.name, run.seed) for run in runs if run.strong.model == "small"} == {
        (name, seed) for name in ("human_sft", "sequential_sft") for seed in (1, 2)
    }


def test_no_run_needs_more_labels_than_there_are_items_for() -> None:
    limits = LabelLimits(n_weak=100, n_human=10)
    runs = _plan(limits, methods=EVERY_METHOD)
    assert runs
    assert all(run.bought.n_weak <= 100 and run.bought.n_human <= 10 for run in runs)


def test_an_untrained_head_chooses_no_labels() -> None:
    method = {"method": "sequential_sft_uncertainty", "head": "classification"}
    assert all(run.trained.n_weak for run in _plan(methods=[method]))
    assert any(not run.trained.n_weak for run in _plan(methods=["sequential_sft_uncertainty"]))


def test_the_trainer_is_asked_for_what_is_trained_on_and_gets_the_block_s_list() -> None:
    runs = _plan(methods=[{"method": "sequential_sft", "few_shot_counts": [2]}], seeds=[1])
    spec = _spec(next(run for run in runs if run.trained == Mix(640, 0)))
    assert (spec.n_weak, spec.n_human) == (640, 0)
    assert (spec.weak_digest, spec.human_digest) == ("weak-1", "human-1")
    human_only = _spec(next(run for run in runs if run.trained == Mix(0, 64)))
    assert (human_only.weak_digest, human_only.human_digest) == ("", "human-1")


def test_stages_are_shared_where_what_decides_them_is_the_same() -> None:
    spec = config(
        seeds=[1],
        methods=[
            "weak_sft",
            "human_sft",
            "sequential_sft",
            "sequential_sft_uncertainty",
            "sequential_sft_log_confidence",
        ],
    )
    runs = plan_runs(spec, {"microworld": _points(spec)}, {"microworld": LIMITS})
    keys = {(run.variant.name, run.bought): stage_keys(spec, run) for run in runs}
    assert keys["sequential_sft", Mix(640, 0)] == keys["weak_sft", Mix(640, 0)]
    assert keys["sequential_sft", Mix(0, 64)] == keys["human_sft", Mix(0, 64)]
    plain, chosen = keys["sequential_sft", Mix(320, 32)], keys["sequential_sft_uncertainty", Mix(320, 32)]
    assert plain[0] == chosen[0]
    assert plain[1] != chosen[1]
    assert plain[0] != keys["sequential_sft_log_confidence", Mix(320, 32)][0]


def test_the_need_of_few_shot_blocks() -> None:
    assert shown_need(VARIANTS) == LabelLimits(32, 32)
    assert shown_need([_variant("sequential_sft")]) == LabelLimits(0, 0)
