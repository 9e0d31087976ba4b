"""Reading a sweep's spec: YAML, checked as a whole before anything is trained."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from isocost.core.errors import InvalidArgumentError
from isocost.sweep.config import (
    FineTuneConfig,
    MethodConfig,
    PoolConfig,
    Section,
    StrongModelConfig,
    SweepConfig,
    TaskConfig,
    WeakLabellerConfig,
)
from isocost.sweep.method_spec import expand_methods

__all__ = ["load_config"]

_FIELD = "SPEC"
_TASK_SUFFIXES = (".yaml", ".yml")
#: By the key under which it stands.
_SECTIONS: Mapping[int | str, type[Section]] = {
    "": SweepConfig,
    "pool": PoolConfig,
    "tasks": TaskConfig,
    "weak_labellers": WeakLabellerConfig,
    "fine_tune": FineTuneConfig,
    "strong_models": StrongModelConfig,
    "methods": MethodConfig,
}


def load_config(path: Path, *, data: Path | None = None) -> SweepConfig:
    """Reads and checks a spec.

    Args:
        path: The YAML file; relative paths in it are relative to its folder.
        data: Folder of the tasks' data instead of the one that the spec names.

    Raises:
        InvalidArgumentError: names the first key that is wrong, its line, and what to do.
    """
    try:
        text = path.read_text(encoding="utf-8")
        raw = yaml.safe_load(text)
    except OSError as error:
        raise InvalidArgumentError(_FIELD, f"{str(path)!r} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidArgumentError(_FIELD, f"{str(path)!r} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise InvalidArgumentError(_FIELD, f"{str(path)!r} holds no sweep; see docs/examples for one")
    if data is not None:
        raw["data"] = str(data.resolve())
    try:
        config = SweepConfig.model_validate(raw)
    except ValidationError as error:
        raise _first_error(error, text) from None
    expand_methods(config)
    return _resolve_paths(config, path.parent)


def _resolve_paths(config: SweepConfig, folder: Path) -> SweepConfig:
    """Makes the file paths absolute, so that a repeated sweep reads the same files from wherever it is started."""

    def absolute(name: str | None) -> str | None:
        return None if name is None else str((folder / Path(name).expanduser()).resolve())

    def resolved(task: TaskConfig) -> TaskConfig:
        is_file = Path(task.benchmark).suffix in _TASK_SUFFIXES
        benchmark = absolute(task.benchmark) if is_file else task.benchmark
        return task.model_copy(update={"benchmark": benchmark, "data": absolute(task.data)})

    return config.model_copy(
        update={"data": absolute(config.data), "tasks": tuple(resolved(task) for task in config.tasks)}
    )


def _first_error(error: ValidationError, text: str) -> InvalidArgumentError:
    """One clear message from pydantic's list: where, in which line, what, and a near name for an unknown key."""
    # A key that is misspelled is missing as well; the misspelling says more.
    first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    location = list(first["loc"])
    # An error about a whole section names its key itself.
    message = first["msg"].removeprefix("Value error, ")
    key, _, rest = message.partition(": ")
    if first["type"] == "value_error" and not location and key in SweepConfig.model_fields:
        location, message = [key], rest
    line = _line(text, location)
    at = f" (line {line})" if line else ""
    field = ".".join(str(part) for part in location) or _FIELD
    if first["type"] == "extra_forbidden":
        within = next((part for part in reversed(location[:-1]) if part in _SECTIONS), "")
        near = difflib.get_close_matches(str(location[-1]), _SECTIONS[str(within)].model_fields, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "see docs/sweep.md for the known ones"
        return InvalidArgumentError(field, f"unknown key{at}; {hint}")
    if first["type"] == "missing":
        return InvalidArgumentError(field, f"missing{at}; see docs/sweep.md for what it means")
    given = f"; given: {first['input']!r}" if isinstance(first["input"], str | int | float | bool | None) else ""
    return InvalidArgumentError(field, f"{message}{given}{at}")


def _line(text: str, location: Sequence[int | str]) -> int:
    """The line, from 1, of the key at a place of the file, or of the nearest section around it."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    line = 0
    for part in location:
        found: Any = None
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == part), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            found = (node.value[part], node.value[part])
        if found is None:
            break
        line, node = found[0].start_mark.line + 1, found[1]
    return line
