"""What a campaign tells whoever watches it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

__all__ = ["Bar", "Progress", "SilentProgress"]


class Bar(Protocol):
    """One piece of work of known size."""

    def advance(self, n_done: float = 1, *, note: str = "") -> None:
        """Counts `n_done` more units as done; the note says what is going on."""


class Progress(Protocol):
    """Where a campaign reports to."""

    def say(self, text: str) -> None:
        """One line about something that happened."""

    def bar(self, description: str, total: float) -> AbstractContextManager[Bar]:
        """Opens a bar of `total` units; it ends with the context."""


class _SilentBar:
    def advance(self, n_done: float = 1, *, note: str = "") -> None:
        pass


class SilentProgress:
    """Tells nobody."""

    def say(self, text: str) -> None:
        """Ignores the line."""

    @contextmanager
    def bar(self, description: str, total: float) -> Iterator[Bar]:  # noqa: ARG002 - the protocol's signature
        """A bar that shows nothing."""
        yield _SilentBar()
