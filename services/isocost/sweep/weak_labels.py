"""Weak labels: asked of a model, asked of a model that is fine-tuned first, or read from a column of the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from isocost.client import LabelerClient, TrainerClient
from isocost.client.labeler import Runner
from isocost.core.errors import FailedPreconditionError, InvalidArgumentError
from isocost.resources.label import check_probabilities, one_hot
from isocost.resources.method import Head, Method, Stage, Tuning
from isocost.resources.run import Example, RunSpec, RunState
from isocost.resources.task import Item, LabelKind, Task
from isocost.sweep.config import MICROWORLD, FineTuneConfig, WeakLabellerConfig, merged_recipe
from isocost.sweep.pool import SeedPool, TaskPool
from isocost.tasks.prompt import FewShotExample

__all__ = ["Labeller", "WeakLabels", "hardened", "labels_of_column", "labels_of_model", "make_labeller"]


@dataclass(frozen=True, slots=True)
class WeakLabels:
    """Weak labels in the items' order.

    Attributes:
        examples: Items with probabilities; those that got no label are left out.
        accuracy: Share of them whose most probable choice is the gold answer.
        errors: By item that got no label, why.
    """

    examples: tuple[Example, ...]
    accuracy: float
    errors: dict[str, str]


@dataclass(frozen=True, slots=True)
class Labeller:
    """The model that makes a task's weak labels, and how it is asked."""

    task: Task
    model: str
    runner: Runner
    few_shot_examples: tuple[FewShotExample, ...] = ()


def hardened(examples: Sequence[Example]) -> list[Example]:
    """The examples with the most probable choice as a certain answer."""
    return [replace(example, probabilities=one_hot(example.choice, len(example.probabilities))) for example in examples]


async def make_labeller(section: WeakLabellerConfig, pool: TaskPool, trainer: TrainerClient) -> Labeller:
    """The labeller of one task as the spec describes it; fine-tuned first where it says so, which a repeat finds done.

    Raises:
        IsocostError: where its fine-tuning fails, or its template is wrong.
    """
    task = pool.task if section.template is None else Task(pool.task.name, section.template, pool.task.choices)
    if section.fine_tune is None:
        shown = pool.gold[: section.few_shot_count]
        examples = tuple(FewShotExample(example.fields, example.choice) for example in shown)
        return Labeller(task, section.model, section.runner, examples)
    gold = pool.gold[: section.fine_tune.n_labels]
    spec = RunSpec(
        task=task,
        method=_method(section.fine_tune),
        base_model=section.model,
        human_digest=await trainer.put_examples(gold),
        n_human=len(gold),
    )
    run = None
    async for news in trainer.sweep([spec]):
        run = news.run or run
    if run is None or run.state is not RunState.SUCCEEDED:
        reason = (run.error or run.state.name.lower()) if run else "the trainer did not say how it ended"
        raise FailedPreconditionError(f"the weak labeller {section.name} of {task.name} was not fine-tuned: {reason}")
    runner: Runner = "classify" if section.fine_tune.head == "classification" else "generate"
    return Labeller(task, run.output_path, runner)


def _method(section: FineTuneConfig) -> Method:
    return Method(
        name="weak_labeller",
        stages=(Stage(LabelKind.HUMAN, merged_recipe(section.recipe)),),
        head=Head[section.head.upper()],
        tuning=Tuning[section.tuning.upper()],
        n_layers=section.n_layers,
    )


async def labels_of_model(
    labeler: LabelerClient, labeller: Labeller, gold: Sequence[Example], n_labels: int
) -> WeakLabels:
    """Asks a model; an item that gets no label is replaced by one of those behind the first `n_labels`.

    Raises:
        IsocostError: where the labeler is away, or the model cannot be had.
        FailedPreconditionError: where no item got a label.
    """
    probabilities: dict[str, tuple[float, ...]] = {}
    errors: dict[str, str] = {}
    n_asked, wanted = 0, min(n_labels, len(gold))
    while len(probabilities) < wanted and n_asked < len(gold):
        asked = gold[n_asked : n_asked + wanted - len(probabilities)]
        n_asked += len(asked)
        results = labeler.label(
            [Item(example.item_id, example.fields) for example in asked],
            labeller.task,
            model=labeller.model,
            runner=labeller.runner,
            few_shot_examples=labeller.few_shot_examples,
        )
        async for result in results:
            if result.label is None:
                errors[result.item_id] = result.error
            else:
                probabilities[result.item_id] = result.label.probabilities
    if not probabilities:
        raise FailedPreconditionError(f"no item got a weak label: {next(iter(errors.values()), 'none was asked for')}")
    return _collected(gold, probabilities, errors)


def labels_of_column(section: WeakLabellerConfig, pool: TaskPool, seed_pool: SeedPool, n_labels: int) -> WeakLabels:
    """Reads labels that are there already.

    Raises:
        InvalidArgumentError: names the column or the value that is wrong.
    """
    field = f"weak_labellers.{section.name}.column"
    if pool.config.benchmark == MICROWORLD:
        raise InvalidArgumentError(field, "the microworld has no columns of labels; name a model")
    from isocost.tasks.library.spec import load_spec  # noqa: PLC0415 - reads files
    from isocost.tasks.library.table import read_split  # noqa: PLC0415

    spec = load_spec(pool.config.benchmark)
    if spec.answers is not None:
        raise InvalidArgumentError(
            field, f"an item of {spec.name!r} shows one answer, drawn by the seed; one label a row does not say which"
        )
    frame = read_split(spec, pool.data, "train")
    if section.column not in frame.columns:
        raise InvalidArgumentError(
            field, f"the data have no column {section.column!r}; they have {', '.join(frame.columns)}"
        )
    values = frame[section.column].to_list()
    gold = seed_pool.weak[:n_labels]
    probabilities: dict[str, tuple[float, ...]] = {}
    errors: dict[str, str] = {}
    for example, row in zip(gold, seed_pool.weak_rows[:n_labels], strict=True):
        try:
            probabilities[example.item_id] = _probabilities(values[row], pool.task)
        except ValueError:
            raise InvalidArgumentError(
                field,
                f"row {row + 1} has {values[row]!r}; give one of {', '.join(map(repr, pool.task.choices))}, its number "
                "from 0, or a list with one probability a choice",
            ) from None
    return _collected(gold, probabilities, errors)


def _probabilities(value: Any, task: Task) -> tuple[float, ...]:
    """A column's value as a label.

    Raises:
        ValueError: where it is none.
    """
    n_choices = len(task.choices)
    if isinstance(value, list):
        if len(value) != n_choices:
            raise ValueError
        try:
            return check_probabilities("column", tuple(float(part) for part in value))
        except (InvalidArgumentError, TypeError):
            raise ValueError from None
    choices = [choice.strip() for choice in task.choices]
    text = str(value).strip()
    if text in choices:
        return one_hot(choices.index(text), n_choices)
    number = int(text)
    if not 0 <= number < n_choices:
        raise ValueError
    return one_hot(number, n_choices)


def _collected(
    gold: Sequence[Example], probabilities: dict[str, tuple[float, ...]], errors: dict[str, str]
) -> WeakLabels:
    labelled = [example for example in gold if example.item_id in probabilities]
    examples = tuple(replace(example, probabilities=probabilities[example.item_id]) for example in labelled)
    n_right = sum(weak.choice == known.choice for weak, known in zip(examples, labelled, strict=True))
    return WeakLabels(examples, n_right / len(examples), errors)
