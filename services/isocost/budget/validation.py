"""Checks of what arrives on the wire, so that absurd input is refused by name before it reaches the database."""

from __future__ import annotations

from enum import Enum
from typing import TypeVar

from isocost.core.errors import InvalidArgumentError
from isocost.core.money import Money
from isocost.v1 import resources_pb2

__all__ = [
    "BATCH_MAX",
    "ITEM_BYTES_MAX",
    "LABELS_MAX",
    "TEXT_BYTES_MAX",
    "check_count",
    "check_text",
    "parse_enum",
    "parse_money",
]

#: Items or labels in one message.
BATCH_MAX = 10_000
#: Labels in one order, tokens of one prompt, and every other count.
LABELS_MAX = 10**9
#: Bytes of one item's fields as JSON.
ITEM_BYTES_MAX = 1 << 20
#: Bytes of any other single text, such as a campaign file.
TEXT_BYTES_MAX = 1 << 20

_Enum = TypeVar("_Enum", bound=Enum)


def check_text(field: str, value: str, *, required: bool = False, bytes_max: int = TEXT_BYTES_MAX) -> str:
    """Returns the text where it can be stored: not too long and without NUL, which PostgreSQL refuses.

    Raises:
        InvalidArgumentError: names `field` where it cannot, or where it is required and empty.
    """
    if required and not value:
        raise InvalidArgumentError(field, "empty; it is required")
    if "\0" in value:
        raise InvalidArgumentError(field, "holds a NUL character; remove it")
    if len(value.encode()) > bytes_max:
        raise InvalidArgumentError(field, f"longer than {bytes_max} bytes")
    return value


def check_count(field: str, value: int, *, minimum: int = 0, maximum: int = LABELS_MAX) -> int:
    """Returns the number where it lies within the limits.

    Raises:
        InvalidArgumentError: names `field` where it does not.
    """
    if not minimum <= value <= maximum:
        raise InvalidArgumentError(field, f"{value}; must be from {minimum} to {maximum}")
    return value


def parse_enum(field: str, enum_type: type[_Enum], number: int) -> _Enum:
    """The domain's value of a wire enum's number.

    Raises:
        InvalidArgumentError: names `field` where the number is unset or unknown.
    """
    try:
        return enum_type(number)
    except ValueError:
        names = ", ".join(member.name for member in enum_type)
        what = "not set" if number == 0 else f"{number} is unknown"
        raise InvalidArgumentError(field, f"{what}; give one of {names}") from None


def parse_money(field: str, message: resources_pb2.Money) -> Money:
    """The domain's amount of a wire amount.

    Raises:
        InvalidArgumentError: names `field` where the currency or the amount is out of range.
    """
    try:
        return Money.from_proto(message)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"{field}.{error.field}", error.message) from None
