"""Settings from environment variables, refused by the name of the variable."""

from __future__ import annotations

from typing import TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings

from isocost.core.errors import InvalidArgumentError

__all__ = ["read_environment"]

_Settings = TypeVar("_Settings", bound=BaseSettings)


def read_environment(kind: type[_Settings]) -> _Settings:
    """The settings of a kind, from the variables with its prefix.

    Raises:
        InvalidArgumentError: names the variable that is wrong.
    """
    try:
        return kind()
    except ValidationError as error:
        first = error.errors()[0]
        # A rule about several settings has no place of its own.
        name = str(first["loc"][0]).upper() if first["loc"] else "*"
        prefix = kind.model_config.get("env_prefix", "")
        raise InvalidArgumentError(f"{prefix}{name}", first["msg"].removeprefix("Value error, ")) from None
