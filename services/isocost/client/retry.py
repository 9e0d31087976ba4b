"""When a call is made again: what is safe to repeat, how often, and after what pause."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic

from isocost.core.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    IsocostError,
    LimitExceededError,
    UnavailableError,
)

__all__ = ["Attempts", "RetryPolicy"]

#: gRPC refuses a deadline that has passed without an attempt; one as short as this is still tried.
_SECONDS_MIN = 0.001


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a failed call is made again, and for how long.

    Repeated are calls that met a server that is away (UNAVAILABLE), a limit that passes (RESOURCE_EXHAUSTED with a
    retry delay) or the deadline of one attempt. Reads change nothing, and mutations carry request ids under which a
    repeat is answered and not done again, so every call is safe to repeat. All other errors are raised at once.

    The pause before attempt n+1 is drawn uniformly from 0 to `min(delay_max, delay_first * 2**(n-1))`, so that many
    clients do not come back all at once; a limit's own retry delay is added to it. With the defaults a server may be
    away for ten seconds or so before a call fails.

    Raises:
        InvalidArgumentError: names the field that is out of range.
    """

    attempts_max: int = 10
    """Attempts of one call, the first included; 1 for no repeats. A stream that delivers begins to count anew."""
    delay_first: timedelta = timedelta(milliseconds=100)
    """Upper end of the first pause."""
    delay_max: timedelta = timedelta(seconds=5)
    """Upper end of every later pause."""
    timeout: timedelta = timedelta(minutes=2)
    """For a call with all its attempts and pauses; for a stream, since it last delivered."""
    attempt_timeout: timedelta = timedelta(seconds=30)
    """For one attempt. A stream that takes longer goes on where it was."""

    def __post_init__(self) -> None:
        if self.attempts_max < 1:
            raise InvalidArgumentError("attempts_max", f"{self.attempts_max}; give at least 1, the first attempt")
        for name in ("delay_first", "delay_max", "timeout", "attempt_timeout"):
            value: timedelta = getattr(self, name)
            if value <= timedelta(0):
                raise InvalidArgumentError(name, f"{value}; give a time greater than zero")

    def pause_seconds(self, n_failed: int, jitter: float) -> float:
        """The pause after the n-th failed attempt (from 1), for a jitter between 0 and 1."""
        # The exponent is bounded because the power of a long outage does not fit into a float.
        delay_seconds: float = self.delay_first.total_seconds() * 2.0 ** min(n_failed - 1, 60)
        return jitter * min(delay_seconds, self.delay_max.total_seconds())


def _minimum_seconds(error: IsocostError) -> float | None:
    """The least pause before a repeat; None where a repeat would not help."""
    if isinstance(error, UnavailableError | DeadlineExceededError):
        return 0.0
    if isinstance(error, LimitExceededError) and error.retry_after is not None:
        return error.retry_after.total_seconds()
    return None


class Attempts:
    """The attempts of one call."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._n_failed = 0
        self._deadline = 0.0
        self.progressed()

    def progressed(self) -> None:
        """The call delivers: attempts and time count from here."""
        self._n_failed = 0
        self._deadline = monotonic() + self._policy.timeout.total_seconds()

    def timeout_seconds(self, *, whole: bool = False) -> float:
        """What the next attempt may take: `attempt_timeout`, or with `whole` all the time that is left."""
        left_seconds = max(self._deadline - monotonic(), _SECONDS_MIN)
        return left_seconds if whole else min(left_seconds, self._policy.attempt_timeout.total_seconds())

    def pause_seconds(self, error: IsocostError) -> float:
        """The pause after an attempt that failed with this error.

        Raises:
            IsocostError: the error itself, where another attempt would not help or is not allowed any more.
        """
        self._n_failed += 1
        minimum_seconds = _minimum_seconds(error)
        if minimum_seconds is None:
            raise error
        pause_seconds = minimum_seconds + self._policy.pause_seconds(self._n_failed, random.random())
        if self._n_failed >= self._policy.attempts_max or monotonic() + pause_seconds >= self._deadline:
            error.message = f"{error.message} (attempt {self._n_failed} of {self._policy.attempts_max})"
            raise error
        return pause_seconds
