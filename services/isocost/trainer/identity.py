"""Content addresses of stages and runs: the digest of all that decides their result, and of nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from isocost.core.errors import InvalidArgumentError
from isocost.core.ids import check_id, content_digest
from isocost.resources.campaign import Sampling
from isocost.resources.method import Method, Quantization, Stage, Tuning
from isocost.resources.run import Example, RunSpec
from isocost.resources.task import LabelKind
from isocost.trainer.examples import ExampleList, ExampleStore, joined
from isocost.trainer.models.base_model import BaseModel

__all__ = ["PlannedStage", "ResolvedRun", "resolve_run"]

#: Counts the versions of the training code whose results differ; part of every address.
_VERSION = 2


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """One stage that a run will train: its recipe, its examples, its address and its own seed.

    The stage takes n_labels of the examples: all of them, or, with uncertainty sampling, those about which the model is
    least certain, after the first n_given, which are taken in any case as they stand in the few-shot block.
    """

    stage: Stage
    examples: ExampleList
    stage_id: str
    seed: int
    n_labels: int
    n_given: int = 0


@dataclass(frozen=True, slots=True)
class ResolvedRun:
    """A specification with everything it names.

    Attributes:
        run_id: Address of the run.
        spec: As asked for.
        base: The base model.
        few_shot: The few-shot block's examples, first first; may be empty.
        stages: Those with at least one label, in order.
        evaluation_sets: Examples by name of the set.
    """

    run_id: str
    spec: RunSpec
    base: BaseModel
    few_shot: tuple[Example, ...]
    stages: tuple[PlannedStage, ...]
    evaluation_sets: Mapping[str, ExampleList]


def resolve_run(spec: RunSpec, base: BaseModel, store: ExampleStore) -> ResolvedRun:
    """Finds what a specification names and checks what is cheap to check.

    Raises:
        NotFoundError: a list of examples that is not there.
        InvalidArgumentError: names the field that does not fit.
    """
    base.check(spec.method)
    lists: dict[LabelKind, ExampleList] = {}
    for kind in LabelKind:
        name = kind.name.lower()
        if spec.n_labels(kind):
            field = f"spec.{name}_digest"
            examples = _checked(spec, store, store.get(spec.digest(kind), field=field), field)
            if spec.n_labels(kind) > len(examples):
                raise InvalidArgumentError(
                    f"spec.n_{name}", f"{spec.n_labels(kind)}, but the list has {len(examples)} examples"
                )
            lists[kind] = examples
    few_shot, few_shot_digest = _few_shot(spec, store)
    start = content_digest(_start(spec, base, few_shot_digest))
    stages = _stages(spec, lists, start)
    evaluation_sets: dict[str, ExampleList] = {}
    for part in spec.evaluation_sets:
        check_id("spec.evaluation_sets.name", part.name)
        if part.name in evaluation_sets:
            raise InvalidArgumentError("spec.evaluation_sets.name", f"{part.name!r} is given twice")
        field = f"spec.evaluation_sets.{part.name}"
        evaluation_sets[part.name] = _checked(spec, store, store.get(part.digest, field=field), field)
    identity = {
        "start": start,
        "task": spec.task.name,
        "method": _json(asdict(spec.method)),
        "labels": {kind.name: _labels_identity(spec, kind, examples) for kind, examples in lists.items()},
        "seed": spec.seed,
        "evaluation_sets": [[name, examples.digest] for name, examples in evaluation_sets.items()],
    }
    return ResolvedRun(f"run-{content_digest(identity)}", spec, base, few_shot, stages, evaluation_sets)


def _checked(spec: RunSpec, store: ExampleStore, examples: ExampleList, field: str) -> ExampleList:
    """The list, where its examples answer the task's question."""
    if examples.n_choices != len(spec.task.choices):
        raise InvalidArgumentError(
            field,
            f"its examples have {examples.n_choices} probabilities, but the task has {len(spec.task.choices)} choices",
        )
    lacking = store.find_lacking(examples, spec.task.fields)
    if lacking is not None:
        item_id, name = lacking
        raise InvalidArgumentError(field, f"item {item_id!r} has no field {name!r}, which the task's template shows")
    return examples


def _few_shot(spec: RunSpec, store: ExampleStore) -> tuple[tuple[Example, ...], str]:
    """The block: the first examples of its kind's list, whether or not the run trains on as many."""
    kind, count = spec.method.few_shot_kind, spec.method.few_shot_count
    if kind is None:
        return (), ""
    field = f"spec.{kind.name.lower()}_digest"
    if not spec.digest(kind):
        raise InvalidArgumentError(field, f"empty, but the few-shot block shows {count} of these labels")
    examples = _checked(spec, store, store.get(spec.digest(kind), field=field), field)
    if count > len(examples):
        raise InvalidArgumentError(
            "spec.method.few_shot_count", f"{count}, but the list of {kind.name} labels has {len(examples)} examples"
        )
    return examples.examples[:count], examples.digests[count - 1]


def _start(spec: RunSpec, base: BaseModel, few_shot_digest: str) -> dict[str, Any]:
    """What decides the model before its first stage."""
    method: Method = spec.method
    start: dict[str, Any] = {
        "version": _VERSION,
        "base": base.digest,
        "n_layers": method.n_layers if method.n_layers < base.n_layers else 0,
        "template": spec.task.template,
        "choices": list(spec.task.choices),
        "head": method.head.name,
        "tuning": method.tuning.name,
        "few_shot": few_shot_digest,
    }
    if method.tuning is Tuning.LORA:
        start["lora"] = [method.lora_rank, method.lora_alpha, method.lora_dropout]
    if method.quantization is not Quantization.NONE:
        start["quantization"] = method.quantization.name
    return start


def _labels_identity(spec: RunSpec, kind: LabelKind, examples: ExampleList) -> list[Any]:
    """Which labels of a kind a run takes: the list's first ones, or some of the whole list."""
    n_labels = spec.n_labels(kind)
    if any(stage.label_kind is kind and stage.sampling is Sampling.UNCERTAINTY for stage in spec.method.stages):
        return [n_labels, examples.digest, Sampling.UNCERTAINTY.name]
    return [n_labels, examples.first(n_labels).digest]


def _stages(spec: RunSpec, lists: Mapping[LabelKind, ExampleList], start: str) -> tuple[PlannedStage, ...]:
    method = spec.method
    stages: list[PlannedStage] = []
    previous = start
    for stage in method.stages:
        kinds = [kind for kind in stage.label_kinds if kind in lists]
        if not kinds:
            continue
        # The seed of the second stage differs from the first's, so that their splits and orders are not the same.
        seed = int(content_digest([spec.seed, len(stages)])[:8], 16)
        if stage.sampling is Sampling.UNCERTAINTY:
            (kind,) = kinds
            examples, n_labels = lists[kind], spec.n_labels(kind)
            n_given = min(n_labels, method.few_shot_count) if method.few_shot_kind is kind else 0
            chosen = [n_labels, n_given, examples.digest, stage.sampling.name]
        else:
            examples = joined([lists[kind].first(spec.n_labels(kind)) for kind in kinds])
            n_labels, n_given = len(examples), 0
            chosen = [len(examples), examples.digest]
        previous = f"stage-{content_digest([previous, asdict(stage.recipe), *chosen, seed])}"
        stages.append(PlannedStage(stage, examples, previous, seed, n_labels, n_given))
    return tuple(stages)


def _json(value: Any) -> Any:
    """Enums by name, so that the value has a canonical JSON form."""
    if isinstance(value, Mapping):
        return {key: _json(part) for key, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_json(part) for part in value]
    return getattr(value, "name", value)
