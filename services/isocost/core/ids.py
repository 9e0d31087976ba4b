"""Identifiers: time-ordered ones for rows, content digests for what must never be made twice."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from uuid_utils import uuid7

from isocost.core.errors import InvalidArgumentError

__all__ = ["canonical_json", "check_id", "content_digest", "new_id"]

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")


def new_id(prefix: str) -> str:
    """A new id: `prefix-` and a UUIDv7, so that ids sort by time."""
    return f"{prefix}-{uuid7()}"


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def content_digest(value: Any) -> str:
    """The first 32 hex digits of the SHA-256 of a JSON value's canonical form."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:32]


def check_id(field: str, value: str) -> str:
    """Returns the id where it is well formed.

    Raises:
        InvalidArgumentError: names `field` where it is not.
    """
    if not _ID.match(value):
        raise InvalidArgumentError(
            field,
            f"{value!r} is not an id; use 1 to 128 letters, digits, '.', '_' or '-', beginning with a letter or digit",
        )
    return value
