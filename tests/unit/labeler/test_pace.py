"""How hard a server is driven: simulated servers, on a clock of their own."""

import asyncio
import heapq
from collections.abc import Callable

import pytest

from isocost.labeler.pace import LEVELS, Pace

START = (64, 4)


class Simulation:
    """A server that answers so many prompts a second, from so many at a time on; its clock is the only one."""

    def __init__(self, pace_of: Callable[[Callable[[], float]], Pace], prompts_busy: int, per_second: float) -> None:
        self.seconds = 0.0
        self.pace = pace_of(lambda: self.seconds)
        self._prompts_busy = prompts_busy
        self._per_second = per_second

    def run(self, n_requests: int, *, n_waiting: int = 1) -> None:
        """Answers requests; always as many in flight as the pace allows, and so many waiting behind them."""
        in_flight: list[tuple[float, int, float, int]] = []
        pace = self.pace
        for number in range(n_requests):
            while len(in_flight) < pace.requests_in_flight:
                n_prompts = pace.prompts_per_request
                total = n_prompts + sum(entry[3] for entry in in_flight)
                # While there are fewer prompts than it can work on, an answer takes the same time.
                share = min(1.0, total / self._prompts_busy)
                seconds = total / (self._per_second * share)
                heapq.heappush(in_flight, (self.seconds + seconds, number + len(in_flight), self.seconds, n_prompts))
            done, _, start, n_prompts = heapq.heappop(in_flight)
            self.seconds = done
            pace._waiting.extend([asyncio.Future(loop=LOOP) for _ in range(n_waiting)])
            pace.answered(n_prompts, done - start)
            pace._waiting.clear()

    @property
    def level(self) -> tuple[int, int]:
        return self.pace.prompts_per_request, self.pace.requests_in_flight


LOOP = asyncio.new_event_loop()


@pytest.fixture(scope="module", autouse=True)
def _close_loop() -> object:
    yield
    LOOP.close()


def adaptive(clock: Callable[[], float]) -> Pace:
    return Pace(clock=clock)


def test_it_stays_where_more_brings_nothing() -> None:
    simulation = Simulation(adaptive, prompts_busy=100, per_second=500)
    simulation.run(400)
    assert simulation.level == START


def test_it_goes_up_while_more_prompts_are_answered() -> None:
    simulation = Simulation(adaptive, prompts_busy=2_000, per_second=20_000)
    simulation.run(20_000)
    n_prompts, n_requests = simulation.level
    assert n_prompts * n_requests >= 2_000
    assert simulation.level != LEVELS[-1], "beyond what keeps the server busy it brings nothing"


def test_slow_server_gets_smaller_requests() -> None:
    # Requests of 64 prompts would take minutes.
    simulation = Simulation(adaptive, prompts_busy=1, per_second=2)
    simulation.run(40)
    n_prompts, n_requests = simulation.level
    assert n_prompts * n_requests <= 16 * 2


def test_slow_caller_says_nothing_about_the_server() -> None:
    simulation = Simulation(adaptive, prompts_busy=2_000, per_second=20_000)
    simulation.run(5_000, n_waiting=0)
    assert simulation.level == START


def test_what_is_set_is_kept() -> None:
    simulation = Simulation(lambda clock: Pace(16, 2, clock), prompts_busy=10_000, per_second=20_000)
    simulation.run(1_000)
    assert simulation.level == (16, 2)
    half = Simulation(lambda clock: Pace(16, 0, clock), prompts_busy=4_000, per_second=20_000)
    half.run(20_000)
    assert half.level[0] == 16
    assert half.level[1] > START[1]


async def test_no_more_than_allowed_are_in_flight_and_the_first_come_first() -> None:
    pace = Pace(4, 2)
    order: list[int] = []
    n_busy = most = 0
    release = asyncio.Event()

    async def work(number: int) -> None:
        nonlocal n_busy, most
        async with pace.slot():
            order.append(number)
            n_busy += 1
            most = max(most, n_busy)
            await release.wait()
            n_busy -= 1

    tasks = [asyncio.create_task(work(number)) for number in range(10)]
    await asyncio.sleep(0)
    assert order == [0, 1]
    release.set()
    await asyncio.gather(*tasks)
    assert order == list(range(10))
    assert most == 2


async def test_turn_of_one_that_gives_up_goes_to_the_next() -> None:
    pace = Pace(4, 1)
    entered: list[str] = []
    hold = asyncio.Event()

    async def work(name: str) -> None:
        async with pace.slot():
            entered.append(name)
            await hold.wait()

    tasks = {name: asyncio.create_task(work(name)) for name in ("a", "b", "c", "d")}
    await asyncio.sleep(0)
    tasks["b"].cancel()
    await asyncio.sleep(0)
    hold.set()
    await asyncio.sleep(0)
    # Given the turn in this very moment, and cancelled before it could use it.
    tasks["c"].cancel()
    await asyncio.gather(*tasks.values(), return_exceptions=True)
    assert entered[0] == "a"
    assert entered[-1] == "d"
    await asyncio.wait_for(work("e"), 1)
