"""What one caller may ask of a server: how large a message, and how often."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

from isocost.core.errors import LimitExceededError

__all__ = ["MESSAGE_BYTES_MAX", "RateLimiter"]

#: Largest message sent or received, in bytes, where no setting says otherwise.
MESSAGE_BYTES_MAX = 32 * 1024 * 1024
#: Callers remembered. One that has not called for as long as its burst lasts needs no memory.
_CALLERS_MAX = 10_000


class RateLimiter:
    """A token bucket for each caller, kept as one number: the time at which the bucket will be full again.

    Usage::

        limiter = RateLimiter(calls_per_second=100.0, burst_calls=200)
        limiter.admit("ann1")

    Args:
        calls_per_second: Calls that a caller may make in the long run.
        burst_calls: Calls that a caller may make at once after a pause.
        clock: Seconds, monotonic.
    """

    def __init__(
        self, calls_per_second: float, burst_calls: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._calls_per_second = calls_per_second
        self._call_seconds = 1.0 / calls_per_second
        self._burst_seconds = burst_calls * self._call_seconds
        self._clock = clock
        self._full_at: dict[str, float] = {}

    def admit(self, key: str) -> None:
        """Counts one call.

        Raises:
            LimitExceededError: where the caller's bucket is empty; tells when it holds a call again.
        """
        now = self._clock()
        full_at = max(self._full_at.get(key, now), now) + self._call_seconds
        wait_seconds = full_at - now - self._burst_seconds
        # Rounding must not refuse the last call of a burst.
        if wait_seconds > 1e-9:
            raise LimitExceededError(
                f"more than {self._calls_per_second:g} calls a second; "
                f"make the same call again after {wait_seconds:.3f} s",
                retry_after=timedelta(seconds=wait_seconds),
            )
        if key not in self._full_at and len(self._full_at) >= _CALLERS_MAX:
            self._forget(now)
        self._full_at[key] = full_at

    def _forget(self, now: float) -> None:
        self._full_at = {key: full_at for key, full_at in self._full_at.items() if full_at > now}
        while len(self._full_at) >= _CALLERS_MAX:
            del self._full_at[next(iter(self._full_at))]
