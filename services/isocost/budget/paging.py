"""Pages of lists: sizes and opaque tokens."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any, TypeVar

from isocost.budget.validation import check_count
from isocost.core.errors import InvalidArgumentError
from isocost.core.ids import canonical_json, content_digest

__all__ = ["PAGE_SIZE_MAX", "Page"]

PAGE_SIZE_DEFAULT = 100
PAGE_SIZE_MAX = 1_000

_Key = TypeVar("_Key", int, str)


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list that is asked for.

    A token holds the last key of the page before, and a digest of what was asked for, so that nobody can go on with
    another list by mistake.

    Raises:
        InvalidArgumentError: where the size is out of range.
    """

    size: int
    token: str
    list_digest: str

    @classmethod
    def of(cls, request: Any) -> Page:
        """The page that a request with page_size and page_token asks for."""
        size = check_count("page_size", request.page_size, maximum=PAGE_SIZE_MAX) or PAGE_SIZE_DEFAULT
        whole = type(request)()
        whole.CopyFrom(request)
        whole.ClearField("page_size")
        whole.ClearField("page_token")
        asked = [type(request).DESCRIPTOR.name, whole.SerializeToString(deterministic=True).hex()]
        return cls(size, request.page_token, content_digest(asked)[:16])

    def after(self, first: _Key) -> _Key:
        """The key after which the page begins; `first` on the first page.

        Raises:
            InvalidArgumentError: where the token is not one of this list.
        """
        if not self.token:
            return first
        try:
            key, digest = json.loads(base64.urlsafe_b64decode(self.token.encode()))
        except (ValueError, TypeError, binascii.Error, UnicodeError, RecursionError):
            key, digest = None, ""
        if digest != self.list_digest or type(key) is not type(first):
            raise InvalidArgumentError(
                "page_token", "is not one of this list; give next_page_token of the page before, and the same filters"
            )
        return key

    def next_token(self, n_found: int, last: int | str) -> str:
        """The next page's token, after a page of n_found elements whose last has this key; "" on the last page."""
        if n_found < self.size:
            return ""
        return base64.urlsafe_b64encode(canonical_json([last, self.list_digest]).encode()).decode()
