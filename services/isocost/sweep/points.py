"""The runs of a sweep: every method at every mix of its task's grid, each once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from isocost.resources.method import Head
from isocost.resources.run import EvaluationSet, RunSpec
from isocost.resources.task import LabelKind, Task
from isocost.sweep.config import StrongModelConfig, SweepConfig
from isocost.sweep.grid import GridPoint, LabelLimits, Mix
from isocost.sweep.method_spec import MethodVariant, expand_methods

__all__ = ["TEST_SET", "Lists", "PlannedRun", "bought_and_trained", "plan_runs", "run_spec", "shown_need", "stage_keys"]

TEST_SET = "test"


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run of a sweep.

    Attributes:
        task: Name of the task.
        weak_labeller: Who made its weak labels; "" where it uses none.
        strong: The strong model's section.
        variant: The method.
        bought: Labels that it trains on or shows.
        trained: Labels that it trains on.
        seed: Of its sets and its training.
    """

    task: str
    weak_labeller: str
    strong: StrongModelConfig
    variant: MethodVariant
    bought: Mix
    trained: Mix
    seed: int


@dataclass(frozen=True, slots=True)
class Lists:
    """What a run trains and is measured on, as the trainer names it; "" where there is no such list."""

    task: Task
    weak_digest: str
    human_digest: str
    test_digest: str


def bought_and_trained(variant: MethodVariant, mix: Mix) -> tuple[Mix, Mix] | None:
    """The labels that a method buys and those that it trains on, at a mix of the grid; None where it has no run there.

    Methods on one kind of label have runs at mixes of that kind alone, prompting at none but its own block's. Labels of
    the few-shot block are the first of their list, so that a larger mix holds them already. Where the mix holds no
    others of their kind they are shown only, unless nothing else is there to train on: so every mix bought is trained
    on in one way.
    """
    weak, human = LabelKind.WEAK, LabelKind.HUMAN
    shown = {kind: variant.n_shown(kind) for kind in LabelKind}
    n_labels = {weak: mix.n_weak, human: mix.n_human}
    trainable = {kind for stage in variant.preset.stages for kind in (stage.label_kind, *stage.mixed_with)}
    if any(n_labels[kind] for kind in LabelKind if kind not in trainable):
        return None
    if trainable and not any(n_labels.values()):
        return None
    trained = {kind: n_labels[kind] if n_labels[kind] > shown[kind] else 0 for kind in LabelKind}
    if trainable and not any(trained.values()):
        trained = {kind: shown[kind] if n_labels[kind] else 0 for kind in LabelKind}
    bought = {kind: max(n_labels[kind], shown[kind]) for kind in LabelKind}
    return Mix(bought[weak], bought[human]), Mix(trained[weak], trained[human])


def shown_need(variants: Iterable[MethodVariant]) -> LabelLimits:
    """The most labels of each kind that a few-shot block shows."""
    variants = list(variants)
    n_weak, n_human = (
        max((variant.n_shown(kind) for variant in variants), default=0) for kind in (LabelKind.WEAK, LabelKind.HUMAN)
    )
    return LabelLimits(n_weak, n_human)


def plan_runs(
    config: SweepConfig, grids: Mapping[str, Sequence[GridPoint]], limits: Mapping[str, LabelLimits]
) -> list[PlannedRun]:
    """Every run that the grid asks for, each once; the runs of the first seed come first.

    Args:
        config: The spec.
        grids: By task, its points.
        limits: By task, labels of each kind that there are items for; a method whose block needs more has no runs.
    """
    variants = expand_methods(config)
    runs: dict[tuple[object, ...], PlannedRun] = {}
    for position, seed in enumerate(config.seeds):
        for task, points in grids.items():
            # Prompting has its one run at no labels at all.
            mixes = sorted({Mix(0, 0), *(point.mix for point in points)})
            for strong in config.strong_models:
                if strong.n_seeds is not None and position >= strong.n_seeds:
                    continue
                for variant in variants:
                    if strong.methods and variant.family not in strong.methods:
                        continue
                    for mix in mixes:
                        for run in _runs_at(config, task, strong, variant, mix, seed):
                            if run.bought.n_weak > limits[task].n_weak or run.bought.n_human > limits[task].n_human:
                                continue
                            runs[task, run.weak_labeller, strong.model, variant.name, run.bought, seed] = run
    return list(runs.values())


def _runs_at(
    config: SweepConfig, task: str, strong: StrongModelConfig, variant: MethodVariant, mix: Mix, seed: int
) -> list[PlannedRun]:
    found = bought_and_trained(variant, mix)
    if found is None:
        return []
    bought, trained = found
    first_stage_samples = variant.samples_by_uncertainty and not trained.n_weak
    if first_stage_samples and variant.method(config, strong).head is Head.CLASSIFICATION:
        # An untrained classification head is uncertain of nothing in particular.
        return []
    labellers = [labeller.name for labeller in config.weak_labellers] if bought.n_weak else [""]
    return [PlannedRun(task, labeller, strong, variant, bought, trained, seed) for labeller in labellers]


def run_spec(config: SweepConfig, run: PlannedRun, lists: Lists) -> RunSpec:
    """What the trainer is asked for."""
    method = run.variant.method(config, run.strong)
    shows_human = run.variant.n_shown(LabelKind.HUMAN) > 0
    shows_weak = run.variant.n_shown(LabelKind.WEAK) > 0
    return RunSpec(
        task=lists.task,
        method=method,
        base_model=run.strong.model,
        weak_digest=lists.weak_digest if run.trained.n_weak or shows_weak else "",
        n_weak=run.trained.n_weak,
        human_digest=lists.human_digest if run.trained.n_human or shows_human else "",
        n_human=run.trained.n_human,
        seed=run.seed,
        evaluation_sets=(EvaluationSet(TEST_SET, lists.test_digest),),
        # A sweep is about accuracies: thousands of models written out would be in nobody's interest.
        discard_output=True,
    )


def stage_keys(config: SweepConfig, run: PlannedRun) -> list[tuple[object, ...]]:
    """For each stage that a run trains, what decides its result: runs that agree in it share the stage."""
    method = run.variant.method(config, run.strong)
    lists = (run.task, run.weak_labeller if run.trained.n_weak or run.variant.n_shown(LabelKind.WEAK) else "", run.seed)
    hardened = run.variant.labels if run.bought.n_weak else "soft"
    model = (method.head, method.tuning, method.quantization, method.n_layers, method.lora_rank, method.lora_alpha)
    shown = (method.few_shot_count, method.few_shot_kind)
    keys: list[tuple[object, ...]] = []
    key: tuple[object, ...] = (lists, hardened, run.strong.model, model, method.lora_dropout, shown)
    for stage in method.stages:
        counts = tuple(
            (kind, run.trained.n_weak if kind is LabelKind.WEAK else run.trained.n_human) for kind in stage.label_kinds
        )
        counts = tuple(count for count in counts if count[1])
        if counts:
            key = (*key, counts, stage.recipe, stage.sampling)
            keys.append(key)
    return keys
