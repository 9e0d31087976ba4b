"""Where a model is: the carried microworld models, a folder, or a hub name."""

from __future__ import annotations

from pathlib import Path

from isocost.core.errors import InvalidArgumentError

__all__ = ["MICROWORLD_PREFIX", "resolve_model"]

#: `microworld:strong` and `microworld:weak` name the models carried in the package.
MICROWORLD_PREFIX = "microworld:"


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
