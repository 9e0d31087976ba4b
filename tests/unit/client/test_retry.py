"""When a call is made again: the policy alone, with a clock of our own."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from isocost.client.retry import Attempts, RetryPolicy
from isocost.core.errors import (
    AlreadyExistsError,
    BudgetExceededError,
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    IsocostError,
    LimitExceededError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
)


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("isocost.client.retry.monotonic", clock)
    # Jitter at its upper end: pauses are exact.
    monkeypatch.setattr("isocost.client.retry.random.random", lambda: 1.0)
    return clock


def test_pauses_double_up_to_the_largest_and_are_drawn_from_zero() -> None:
    policy = RetryPolicy(delay_first=timedelta(milliseconds=100), delay_max=timedelta(seconds=1))
    assert [policy.pause_seconds(n, 1.0) for n in range(1, 7)] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])
    assert policy.pause_seconds(3, 0.5) == pytest.approx(0.2)
    assert policy.pause_seconds(3, 0.0) == 0.0
    assert policy.pause_seconds(100_000, 1.0) == 1.0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("attempts_max", 0),
        *((name, timedelta(0)) for name in ("delay_first", "delay_max", "timeout", "attempt_timeout")),
    ],
)
def test_a_policy_out_of_range_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(InvalidArgumentError) as refusal:
        RetryPolicy(**{field: value})
    assert refusal.value.field == field


@pytest.mark.parametrize(
    "error",
    [
        InvalidArgumentError("f", "m"),
        NotFoundError("m"),
        AlreadyExistsError("m"),
        FailedPreconditionError("m"),
        BudgetExceededError("m"),
        LimitExceededError("too large"),
        UnauthenticatedError("m"),
        PermissionDeniedError("m"),
        IsocostError("INTERNAL: m"),
    ],
)
def test_errors_that_a_repeat_cannot_mend_are_raised_at_once(clock: Clock, error: IsocostError) -> None:
    with pytest.raises(type(error)) as raised:
        Attempts(RetryPolicy()).pause_seconds(error)
    assert raised.value is error


def test_attempts_are_counted_and_the_last_error_says_so(clock: Clock) -> None:
    attempts = Attempts(RetryPolicy(attempts_max=3))
    assert attempts.pause_seconds(UnavailableError("away")) == pytest.approx(0.1)
    assert attempts.pause_seconds(DeadlineExceededError("late")) == pytest.approx(0.2)
    with pytest.raises(UnavailableError, match=r"away \(attempt 3 of 3\)"):
        attempts.pause_seconds(UnavailableError("away"))


def test_a_limit_is_waited_for_unless_it_lasts_longer_than_the_call_may(clock: Clock) -> None:
    attempts = Attempts(RetryPolicy(timeout=timedelta(seconds=60)))
    pause = attempts.pause_seconds(LimitExceededError("soon", retry_after=timedelta(seconds=7)))
    assert pause == pytest.approx(7.1)
    with pytest.raises(LimitExceededError, match="tomorrow"):
        attempts.pause_seconds(LimitExceededError("tomorrow", retry_after=timedelta(days=1)))


def test_the_time_of_all_attempts_together_is_bounded(clock: Clock) -> None:
    policy = RetryPolicy(attempts_max=100, timeout=timedelta(seconds=50), attempt_timeout=timedelta(seconds=20))
    attempts = Attempts(policy)
    assert attempts.timeout_seconds() == 20
    assert attempts.timeout_seconds(whole=True) == 50
    clock.now += 45
    assert attempts.timeout_seconds() == pytest.approx(5)
    attempts.pause_seconds(DeadlineExceededError("late"))
    clock.now += 5
    with pytest.raises(DeadlineExceededError):
        attempts.pause_seconds(DeadlineExceededError("late"))
    assert attempts.timeout_seconds() > 0


def test_a_stream_that_delivers_begins_to_count_anew(clock: Clock) -> None:
    attempts = Attempts(RetryPolicy(attempts_max=2, timeout=timedelta(seconds=50)))
    for _ in range(5):
        attempts.pause_seconds(UnavailableError("away"))
        clock.now += 40
        attempts.progressed()
        assert attempts.timeout_seconds(whole=True) == 50
