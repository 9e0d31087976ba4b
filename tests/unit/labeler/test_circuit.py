"""The circuit breaker, on a clock that the tests move."""

import pytest

from isocost.core.errors import UnavailableError
from isocost.labeler.circuit import Circuit


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def circuit(clock: Clock) -> Circuit:
    return Circuit("the server", clock)


def fail(circuit: Circuit) -> None:
    circuit.enter()
    circuit.failed("no answer")


def test_calls_pass_while_they_succeed(circuit: Circuit) -> None:
    for _ in range(3):
        circuit.enter()
        circuit.succeeded()
    assert not circuit.is_open


def test_calls_are_refused_at_once_after_a_failure(circuit: Circuit) -> None:
    fail(circuit)
    with pytest.raises(UnavailableError, match=r"the server is away \(no answer\); it is tried again in 2 s"):
        circuit.enter()
    assert circuit.is_open


def test_one_call_tries_when_it_has_cooled_down(circuit: Circuit, clock: Clock) -> None:
    fail(circuit)
    clock.seconds += 2
    circuit.enter()
    with pytest.raises(UnavailableError, match="in a moment"):
        circuit.enter()
    circuit.succeeded()
    assert not circuit.is_open
    circuit.enter()


def test_it_waits_twice_as_long_each_time_up_to_a_minute(circuit: Circuit, clock: Clock) -> None:
    waits = []
    for _ in range(8):
        fail(circuit)
        start = clock.seconds
        while True:
            clock.seconds += 1
            try:
                circuit.enter()
                circuit.left()
                break
            except UnavailableError:
                continue
        waits.append(clock.seconds - start)
    assert waits == [2, 4, 8, 16, 32, 60, 60, 60]


def test_calls_that_fail_together_count_once(circuit: Circuit, clock: Clock) -> None:
    for _ in range(5):
        circuit.enter()
    for _ in range(5):
        circuit.failed("no answer")
    clock.seconds += 2
    circuit.enter()


def test_caller_that_gives_up_leaves_the_trial_to_another(circuit: Circuit, clock: Clock) -> None:
    fail(circuit)
    clock.seconds += 2
    circuit.enter()
    circuit.left()
    circuit.enter()
    circuit.succeeded()
    assert not circuit.is_open
