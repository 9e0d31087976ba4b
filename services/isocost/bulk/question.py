"""What a bulk job asks of each row, from a task file, a campaign file, or the card beside a finished run's model."""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from isocost.campaign.config_file import load_config
from isocost.client.labeler import Runner
from isocost.core.errors import InvalidArgumentError
from isocost.resources.method import Head
from isocost.resources.task import Task
from isocost.tasks.dataset import build_pool, read_file
from isocost.tasks.model_path import RUN_FILE
from isocost.tasks.prompt import FewShotExample

__all__ = ["Question", "TaskFile", "form_question", "load_examples", "load_task"]

#: Column of an examples file that holds the answer.
_LABEL = "label"
_TASK_KEYS = ("name", "template", "choices")


@dataclass(frozen=True, slots=True)
class TaskFile:
    """The question of a file, and where its columns are.

    Attributes:
        task: The question.
        fields: By field of the template, a pattern over columns, or several; a field not listed is the column of its
            name.
        id_column: Column of the rows' ids; None where they are numbered.
        currency: ISO 4217 code of the prices.
    """

    task: Task
    fields: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    id_column: str | None = None
    currency: str = "USD"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and whom.

    Attributes:
        task: The question.
        model: Folder or hub name, as the labeler is to load it.
        runner: How the model is asked.
        few_shot_examples: The block before every item.
    """

    task: Task
    model: str
    runner: Runner
    few_shot_examples: tuple[FewShotExample, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The same as a JSON value; equal questions give equal values."""
        return {
            "task": {"template": self.task.template, "choices": list(self.task.choices)},
            "model": self.model,
            "runner": self.runner,
            "few_shot_examples": [
                {"fields": dict(example.fields), "choice": example.choice} for example in self.few_shot_examples
            ],
        }


def load_task(path: Path) -> TaskFile:
    """Reads a YAML file: a whole campaign file, or `name`, `template` and `choices` alone.

    Raises:
        InvalidArgumentError: names `--task`, or the field of the file, that is wrong.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidArgumentError("--task", f"{str(path)!r} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InvalidArgumentError("--task", f"{str(path)!r} is not YAML: {reason}") from None
    if isinstance(raw, dict) and ("task" in raw or "campaign" in raw):
        config = load_config(path)
        return TaskFile(config.task.task(), config.data.fields, config.data.id_column, config.currency)
    return TaskFile(_task(raw, f"{str(path)!r}", "--task"))


def _task(raw: object, origin: str, option: str) -> Task:
    """A task from a mapping of its three parts."""
    if not isinstance(raw, dict):
        raise InvalidArgumentError(option, f"{origin} holds no task; write name, template and choices")
    for key in raw:
        if key not in _TASK_KEYS:
            near = difflib.get_close_matches(str(key), _TASK_KEYS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "a task has name, template and choices"
            raise InvalidArgumentError(f"task.{key}", f"unknown field in {origin}; {hint}")
    for key in _TASK_KEYS:
        if key not in raw:
            raise InvalidArgumentError(f"task.{key}", f"missing in {origin}; a task has name, template and choices")
    choices = raw["choices"]
    if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
        # YAML reads a bare yes, no, 1 or 2 as something else than text.
        raise InvalidArgumentError("task.choices", f'{choices!r} is not a list of texts; write ["no", "yes"], quoted')
    for key in ("name", "template"):
        if not isinstance(raw[key], str):
            raise InvalidArgumentError(f"task.{key}", f"{raw[key]!r} is not a text; quote it")
    return Task(raw["name"], raw["template"], tuple(choices))


def load_examples(path: Path, file: TaskFile) -> tuple[FewShotExample, ...]:
    """Reads a few-shot block: a table with the columns that the task reads and a column `label` with a choice.

    Returns:
        The examples in the order of the rows.

    Raises:
        InvalidArgumentError: names `--examples`.
    """
    option = "--examples"
    frame = read_file(path, field=option)
    if _LABEL in frame.columns:
        # A choice is text, also where it looks like a number.
        frame = frame.with_columns(pl.col(_LABEL).cast(pl.String))
    try:
        pool = build_pool(frame, file.task, fields=file.fields, gold_column=_LABEL, origin=option)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(option, error.message) from None
    if len(pool.items) < frame.height:
        raise InvalidArgumentError(option, f"{str(path)!r} has two rows with the same text; keep one of them")
    return tuple(FewShotExample(item.fields, pool.gold[item.item_id]) for item in pool.items)


def form_question(
    model: str, file: TaskFile | None, runner: Runner | None, examples: Path | None
) -> tuple[Question, TaskFile]:
    """Puts together what the options say and what the card of a finished run says, where the model is one.

    Args:
        model: As given; where it is a folder with a card, task, runner and few-shot block come from it.
        file: The task file, or None.
        runner: As given, or None.
        examples: File of the few-shot block, or None.

    Raises:
        InvalidArgumentError: names the option that is missing, or that contradicts the card.
    """
    card = _read_card(Path(model).expanduser())
    if card is None:
        if file is None:
            raise InvalidArgumentError(
                "--task", f"not given, and {model!r} has no {RUN_FILE} that tells the task; give --task FILE.yaml"
            )
        block = load_examples(examples, file) if examples is not None else ()
        return Question(file.task, model, runner or "generate", block), file
    folder = str(Path(model).expanduser().resolve())
    if file is None:
        file = TaskFile(card.task)
    elif (file.task.template, file.task.choices) != (card.task.template, card.task.choices):
        raise InvalidArgumentError(
            "--task", f"asks something else than {model!r} was trained for; leave it out, the model's {RUN_FILE} has it"
        )
    if runner is not None and runner != card.runner:
        raise InvalidArgumentError("--runner", f"{runner}, but {model!r} was trained for {card.runner}; leave it out")
    if examples is not None:
        raise InvalidArgumentError("--examples", f"{model!r} brings its own few-shot block in {RUN_FILE}; leave it out")
    return dataclasses.replace(card, model=folder), file


def _read_card(folder: Path) -> Question | None:
    """What a run's card says; None where the folder has none."""
    path = folder / RUN_FILE
    if not path.is_file():
        return None
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        task = _task(card["task"], f"{str(path)!r}", "--model")
        runner: Runner = "classify" if Head[card["head"]] is Head.CLASSIFICATION else "generate"
        examples = tuple(
            FewShotExample(dict(example["fields"]), int(example["choice"])) for example in card["few_shot_examples"]
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidArgumentError(
            "--model",
            f"{str(path)!r} is not the card of a finished run ({type(error).__name__}: {error}); "
            "give the folder as isocost wrote it",
        ) from None
    return Question(task, str(folder), runner, examples)
