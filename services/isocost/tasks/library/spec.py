"""Task files: what a benchmark asks, and how its rows become items."""

from __future__ import annotations

import difflib
import string
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from isocost.core.errors import InvalidArgumentError
from isocost.resources.task import Task

__all__ = [
    "RESERVED",
    "AnswersSpec",
    "HubSpec",
    "LabelSpec",
    "RightAnswerSpec",
    "TaskSpec",
    "library_names",
    "load_spec",
    "value_text",
]

#: Columns of a benchmark's table beside the fields.
RESERVED = ("item_id", "gold")
_FOLDER = Path(__file__).parent
_SUFFIXES = (".yaml", ".yml")


def value_text(value: object) -> str:
    """A label's value as text: 1, 1.0 and " 1" are "1", True and "True" are "true", None is ""."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value).strip()
    return text.lower() if text.lower() in ("true", "false") else text


def _keys_as_text(value: object) -> object:
    # YAML reads the keys 0 and true as a number and a boolean.
    return {value_text(key): choice for key, choice in value.items()} if isinstance(value, dict) else value


def _as_tuple(value: object) -> object:
    return (value,) if isinstance(value, dict | str) else value


def _well_formed(pattern: str) -> str:
    try:
        parts = list(string.Formatter().parse(pattern))
    except ValueError as error:
        raise ValueError(f"{error}; write {{{{ and }}}} for literal braces") from None
    for _, name, spec, conversion in parts:
        if name == "" or spec or conversion:
            raise ValueError(f"{pattern!r} shows something other than plain columns; write {{column}}")
    return pattern


Pattern = Annotated[str, AfterValidator(_well_formed)]
Patterns = Annotated[tuple[Pattern, ...], BeforeValidator(_as_tuple), Field(min_length=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class HubSpec(_Section):
    """Where the hub has the dataset."""

    name: str
    """Such as `allenai/sciq`."""
    config: str | None = None
    """Configuration; None for the only one."""
    revision: str | None = None
    """Branch, tag or commit; None for the newest. `refs/convert/parquet` is the hub's own copy of datasets that are
    scripts, which the library `datasets` no longer runs."""
    train: str = "train"
    """Split with the training rows, or several joined by `+`."""
    test: str = "test"
    """Split with the test rows; it must have labels."""


class LabelSpec(_Section):
    """Gold answers of a plain classification."""

    column: str
    """Column with the label."""
    values: Annotated[dict[str, str], BeforeValidator(_keys_as_text)]
    """The choice by the label's value."""
    beside: Annotated[tuple[str, ...], BeforeValidator(_as_tuple)] = ()
    """Columns that mark the form of the data that this rule is for; empty for any form."""


class RightAnswerSpec(_Section):
    """Which answer is the right one.

    Its forms: `index` counts the answers from 0 and `number` from 1, also where they are text; `letter` is A for the
    first; `key` is one of the labels in the column `keys`, at the right answer's place; `text` is the right answer
    itself.
    """

    column: str
    """Column that tells it."""
    form: Literal["index", "number", "letter", "key", "text"]
    """How it tells it."""
    keys: str | None = None
    """For the form `key`: list column of the answers' labels, in the answers' order."""

    @model_validator(mode="after")
    def _keys_belong_to_key(self) -> Self:
        if (self.form == "key") != (self.keys is not None):
            raise ValueError("'keys' goes with the form 'key', and only with it")
        return self


class AnswersSpec(_Section):
    """The answers of a multiple-choice question, of which each item shows one."""

    field: str
    """Field of the template that shows the answer."""
    columns: Annotated[tuple[str, ...], BeforeValidator(_as_tuple), Field(min_length=1)]
    """Columns with one answer each, or a list column with all; `a.b` is the part `b` of the column `a`."""
    right: RightAnswerSpec
    """Which one is right."""
    never_shown: tuple[str, ...] = ()
    """Answers that mean nothing without the others, such as "None of the above." """


class TaskSpec(_Section):
    """A whole task file."""

    name: str
    """Letters, digits, `.`, `_`, `-`."""
    description: str = ""
    """One sentence for people."""
    licence: str = ""
    """What is known of the rows' licence."""
    template: str
    """The question, with `{field}` placeholders."""
    choices: tuple[str, ...] = ("no", "yes")
    """The answers; for multiple choice the one for a wrong answer, then the one for the right answer."""
    fields: Annotated[dict[str, Patterns], Field(default_factory=dict)]
    """By field of the template, a pattern over columns, or several of which the first whose columns are all there is
    used; a field that is not listed is the column of its name."""
    label: Annotated[tuple[LabelSpec, ...], BeforeValidator(_as_tuple)] = ()
    """Plain classification: the gold answers; of several rules the first whose columns are all there is used."""
    answers: AnswersSpec | None = None
    """Multiple choice, made a yes/no question."""
    contexts: Annotated[tuple[str, ...], BeforeValidator(_as_tuple)] = ()
    """Columns whose texts training and test rows must not share; those that are not there are passed over."""
    id_column: str | None = None
    """Column with the rows' ids, unique over all splits; where None, ids are made from the content."""
    hub: HubSpec | None = None
    """Where rows come from if no local files are given."""

    @property
    def task(self) -> Task:
        """The question as the rest of isocost knows it.

        Raises:
            InvalidArgumentError: names the part of the task that is wrong.
        """
        return Task(self.name, self.template, self.choices)

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        task = self.task
        if bool(self.label) == (self.answers is not None):
            raise ValueError("give exactly one of 'label' (classification) and 'answers' (multiple choice)")
        if taken := next((name for name in task.fields if name in RESERVED), None):
            raise ValueError(f"the template shows a field {taken!r}; but a column beside the fields has this name")
        if unknown := next((name for name in self.fields if name not in task.fields), None):
            raise ValueError(f"'fields' makes {unknown!r}, which the template does not show")
        if self.answers is not None:
            self._check_answers(task, self.answers)
        for rule in self.label:
            if set(rule.values.values()) != set(self.choices):
                raise ValueError(
                    f"the values of 'label' lead to {sorted(set(rule.values.values()))}, but the choices are "
                    f"{list(self.choices)}; each choice needs a value"
                )
        return self

    def _check_answers(self, task: Task, answers: AnswersSpec) -> None:
        if len(self.choices) != 2:
            raise ValueError("multiple choice needs two 'choices': for a wrong answer, then for the right one")
        if answers.field not in task.fields or answers.field in self.fields:
            raise ValueError(
                f"'answers.field' is {answers.field!r}; the template must show it, and 'fields' not make it"
            )


def library_names() -> tuple[str, ...]:
    """Names of the library's tasks, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def load_spec(name_or_path: str | Path) -> TaskSpec:
    """Reads a task of the library by its name, or a task file by its path.

    Raises:
        InvalidArgumentError: names `task`, or the field of the file, that is wrong.
    """
    path = Path(name_or_path).expanduser()
    if path.suffix not in _SUFFIXES:
        if str(name_or_path) not in library_names():
            near = difflib.get_close_matches(str(name_or_path), library_names(), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(library_names())}"
            raise InvalidArgumentError(
                "task", f"the library has no task {str(name_or_path)!r}; {hint} For a task of your own give FILE.yaml"
            )
        path = _FOLDER / f"{name_or_path}.yaml"
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidArgumentError("task", f"{str(path)!r} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidArgumentError("task", f"{str(path)!r} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise InvalidArgumentError("task", f"{str(path)!r} holds no task; docs/tasks.md shows one")
    try:
        return TaskSpec.model_validate(raw)
    except ValidationError as error:
        raise _first_error(error, path) from None


def _first_error(error: ValidationError, path: Path) -> InvalidArgumentError:
    first = error.errors()[0]
    location = [str(part) for part in first["loc"]]
    field = ".".join(location) or "task"
    where = f"in {str(path)!r}"
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(location[-1], _known_names(), n=1)
        return InvalidArgumentError(
            field, f"unknown field {where}; " + (f"did you mean {near[0]!r}?" if near else "docs/tasks.md has them all")
        )
    if first["type"] == "missing":
        return InvalidArgumentError(field, f"missing {where}; every task file needs it")
    if first["type"] == "string_type":
        # YAML reads a bare yes, no, 1 or 2 as something else than text.
        return InvalidArgumentError(field, f"{first['input']!r} {where} is not text; put it in quotes")
    return InvalidArgumentError(field, f"{first['msg'].removeprefix('Value error, ')} ({where[3:]})")


def _known_names() -> list[str]:
    sections: tuple[Any, ...] = (TaskSpec, AnswersSpec, RightAnswerSpec, LabelSpec, HubSpec)
    return [name for section in sections for name in section.model_fields]
