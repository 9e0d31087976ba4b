"""How often a caller may call."""

from __future__ import annotations

from datetime import timedelta

import pytest

from isocost.core import limits
from isocost.core.errors import LimitExceededError
from isocost.core.limits import RateLimiter


class Clock:
    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


def n_admitted(limiter: RateLimiter, key: str, n_calls: int) -> int:
    count = 0
    for _ in range(n_calls):
        try:
            limiter.admit(key)
            count += 1
        except LimitExceededError:
            pass
    return count


def test_a_burst_and_then_the_rate() -> None:
    clock = Clock()
    limiter = RateLimiter(10.0, 5, clock=clock)
    assert n_admitted(limiter, "a", 100) == 5
    clock.seconds += 0.35
    assert n_admitted(limiter, "a", 100) == 3
    clock.seconds += 3_600
    assert n_admitted(limiter, "a", 100) == 5
    assert n_admitted(limiter, "b", 100) == 5


def test_the_time_it_tells_is_the_time_it_takes() -> None:
    clock = Clock()
    limiter = RateLimiter(4.0, 1, clock=clock)
    limiter.admit("a")
    clock.seconds += 0.05
    with pytest.raises(LimitExceededError) as caught:
        limiter.admit("a")
    assert caught.value.retry_after == timedelta(seconds=0.2)
    clock.seconds += 0.2
    limiter.admit("a")


def test_callers_that_come_and_go_take_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_CALLERS_MAX", 4)
    clock = Clock()
    limiter = RateLimiter(1.0, 2, clock=clock)
    assert n_admitted(limiter, "busy", 2) == 2
    clock.seconds += 1.5
    for number in range(50):
        limiter.admit(f"guest-{number}")
        clock.seconds += 0.001
        assert len(limiter._full_at) <= 4
