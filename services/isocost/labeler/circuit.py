"""A circuit breaker: a server that failed is left alone for a while, and callers are told at once."""

from __future__ import annotations

import time
from collections.abc import Callable

from isocost.core.errors import UnavailableError

__all__ = ["Circuit"]

_COOL_SECONDS = 2.0
_COOL_SECONDS_MAX = 60.0


class Circuit:
    """Closed while calls succeed; open for a time that doubles with each failure; then one call may try.

    Args:
        what: The server, as messages name it.
        clock: Seconds, monotonic.
    """

    def __init__(self, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._what = what
        self._clock = clock
        self._n_failures = 0
        self._opened_until = 0.0
        self._is_trying = False
        self._reason = ""

    @property
    def is_open(self) -> bool:
        """Whether calls are refused."""
        return self._n_failures > 0

    def enter(self) -> None:
        """To be called before a call; after it comes `succeeded`, `failed` or `left`.

        Raises:
            UnavailableError: the server failed lately, or another call is trying it now.
        """
        if not self.is_open:
            return
        wait_seconds = self._opened_until - self._clock()
        if wait_seconds > 0 or self._is_trying:
            again = f"in {wait_seconds:.0f} s" if wait_seconds >= 1 else "in a moment"
            raise UnavailableError(
                f"{self._what} is away ({self._reason}); it is tried again {again}; labels made so far are stored: "
                "repeat the command then"
            )
        self._is_trying = True

    def succeeded(self) -> None:
        """The call was answered: whatever the answer, the server is there."""
        self._n_failures = 0
        self._is_trying = False

    def failed(self, reason: str) -> None:
        """The call was not answered, however often it was tried."""
        # Calls that were in flight together fail together: they count once.
        if not self.is_open or self._is_trying:
            cool_seconds = min(_COOL_SECONDS_MAX, _COOL_SECONDS * 2**self._n_failures)
            self._opened_until = self._clock() + cool_seconds
            self._n_failures += 1
        self._reason = reason
        self._is_trying = False

    def left(self) -> None:
        """The caller gave up before it knew."""
        self._is_trying = False
