"""Where a model is: the carried microworld models, a folder, or a hub name."""

from __future__ import annotations

import json
from pathlib import Path

from isocost.core.errors import InvalidArgumentError

__all__ = [
    "ADAPTER_CONFIG",
    "MICROWORLD_PREFIX",
    "REMOTE_PREFIX",
    "RUN_FILE",
    "adapter_base_model",
    "is_adapter",
    "resolve_model",
]

#: `microworld:strong` and `microworld:weak` name the models carried in the package.
MICROWORLD_PREFIX = "microworld:"
#: `openai:NAME` names a model behind the fine-tuning API.
REMOTE_PREFIX = "openai:"

#: What peft writes beside an adapter's weights, and what a finished run writes beside its model.
ADAPTER_CONFIG = "adapter_config.json"
RUN_FILE = "isocost.json"


def resolve_model(name: str, *, field: str = "model") -> str:
    """The folder of a model, or its hub name.

    Args:
        name: `microworld:strong`, `microworld:weak`, a folder, or a hub name such as `org/model`.
        field: Named in the error.

    Returns:
        An absolute folder, or the hub name unchanged where there is no such folder.

    Raises:
        InvalidArgumentError: where the name looks like a path and is no folder with a model in it.
    """
    if name.startswith(MICROWORLD_PREFIX):
        from isocost.microworld.carried import model_dir  # noqa: PLC0415 - only the testbed needs it

        try:
            return str(model_dir(name.removeprefix(MICROWORLD_PREFIX)))
        except ValueError as error:
            raise InvalidArgumentError(field, f"{name!r}: {error}") from None
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise InvalidArgumentError(field, f"{name!r} holds no config.json; give the folder of a Hugging Face model")
        return str(path.resolve())
    looks_like_path = path.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1
    if looks_like_path:
        raise InvalidArgumentError(
            field, f"{name!r} is not a folder; give the folder of a model or a hub name (org/model)"
        )
    return name


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter rather than a model."""
    return (folder / ADAPTER_CONFIG).is_file() and not (folder / "config.json").is_file()


def adapter_base_model(name: str, folder: Path, *, field: str = "model") -> str:
    """The place of the model that an adapter changes: as peft wrote it, or where that is gone, as its run did.

    Args:
        name: The adapter, as the caller named it.
        folder: Where it is.
        field: Named in the error.

    Returns:
        As `resolve_model`.

    Raises:
        InvalidArgumentError: where the adapter's files cannot be read, or name no model that is there.
    """
    named: list[str] = []
    try:
        for file, key in ((ADAPTER_CONFIG, "base_model_name_or_path"), (RUN_FILE, "base_model")):
            if (folder / file).is_file():
                named.append(str(json.loads((folder / file).read_text(encoding="utf-8")).get(key) or ""))
    except (OSError, ValueError, AttributeError) as error:
        raise InvalidArgumentError(field, f"the adapter {name!r} cannot be read: {error}; save it anew") from None
    named = [candidate for candidate in named if candidate]
    for candidate in named:
        try:
            return resolve_model(candidate, field=field)
        except InvalidArgumentError:
            continue
    raise InvalidArgumentError(
        field,
        f"the base model of the adapter {name!r} cannot be found ({', '.join(named) or 'none named'}); "
        f"put it back, or correct base_model_name_or_path in its {ADAPTER_CONFIG}",
    )
