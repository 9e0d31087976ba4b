"""Time as the database keeps it: whole microseconds since 1970 UTC, exact on every database.

Callers write `clock.now_us()`, not `now_us()`: a test that sets the time sets it in one place.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

__all__ = ["now_us", "time_from_us", "us_from_delta"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def now_us() -> int:
    """The present, in microseconds since 1970 UTC."""
    return time.time_ns() // 1_000


def time_from_us(time_us: int) -> datetime:
    """An aware UTC time."""
    return _EPOCH + timedelta(microseconds=time_us)


def us_from_delta(delta: timedelta) -> int:
    """Whole microseconds of a duration."""
    return delta // timedelta(microseconds=1)
