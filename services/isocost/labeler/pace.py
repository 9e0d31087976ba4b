"""How hard a server is driven: prompts in one request and requests in flight, measured and chosen while it works."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable

__all__ = ["LEVELS", "Pace"]

#: Prompts in one request, and requests in flight. On two CPU cores the fifth measured best; a GPU wants more.
LEVELS = ((8, 1), (16, 1), (16, 2), (32, 4), (64, 4), (64, 8), (128, 8), (128, 16), (256, 16), (256, 32))
_LEVEL_START = 4
#: A level is kept where it answers so many times as many prompts a second as the one below.
_GAIN_MIN = 1.05
#: A window of measurement is at least so long, and two rounds of requests.
_WINDOW_SECONDS = 1.0
_WINDOW_ROUNDS = 2
#: A request that takes longer holds too many prompts for this server: a time-out, or a kill, would cost them all.
_SLOW_SECONDS = 15.0


class Pace:
    """Bounds the requests in flight, and looks for the smallest bounds that keep the server busy.

    It begins in the middle of `LEVELS` and goes up as long as more prompts are answered a second; where a request takes
    too long it goes down, and stays below. It measures only while requests wait for their turn: a slow caller says
    nothing about the server.

    Args:
        prompts_per_request: Fixed where it is not 0.
        requests_in_flight: Fixed where it is not 0.
        clock: Seconds, monotonic.
    """

    def __init__(
        self, prompts_per_request: int = 0, requests_in_flight: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._fixed = (prompts_per_request, requests_in_flight)
        self._clock = clock
        self._n_busy = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._level_max = len(LEVELS) - 1
        self.restart()

    @property
    def prompts_per_request(self) -> int:
        """Prompts to put into one request now."""
        return self._fixed[0] or LEVELS[self._level][0]

    @property
    def requests_in_flight(self) -> int:
        """Requests that may be in flight now."""
        return self._fixed[1] or LEVELS[self._level][1]

    def restart(self) -> None:
        """Begins anew, for another server."""
        self._level = min(_LEVEL_START, self._level_max)
        self._is_settled = all(self._fixed)
        self._rates: dict[int, float] = {}
        self._open_window()

    @contextlib.asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Waits for its turn, first come first served, and holds it."""
        if self._n_busy >= self.requests_in_flight or self._waiting:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    # It was given the turn and cannot use it.
                    self._n_busy -= 1
                    self._wake()
                else:
                    self._waiting.remove(turn)
                raise
        else:
            self._n_busy += 1
        try:
            yield
        finally:
            self._n_busy -= 1
            self._wake()

    def answered(self, n_prompts: int, seconds: float) -> None:
        """Counts a request that was answered; called while its slot is held."""
        if seconds > _SLOW_SECONDS and not all(self._fixed) and self._level > 0:
            self._level_max = self._level = self._level - 1
            self._is_settled = True
            return
        if self._is_settled:
            return
        if not self._waiting:
            self._open_window()
            return
        if self._n_skipped < self.requests_in_flight:
            # Requests of the level before.
            self._n_skipped += 1
            self._window_start = self._clock()
            return
        self._n_prompts += n_prompts
        self._n_requests += 1
        elapsed_seconds = self._clock() - self._window_start
        if self._n_requests >= _WINDOW_ROUNDS * self.requests_in_flight and elapsed_seconds >= _WINDOW_SECONDS:
            self._judge(self._n_prompts / elapsed_seconds)

    def _judge(self, prompts_per_second: float) -> None:
        below = self._rates.get(self._level - 1)
        self._rates[self._level] = prompts_per_second
        if below is not None and prompts_per_second < _GAIN_MIN * below:
            self._level -= 1
            self._is_settled = True
        elif self._level < self._level_max:
            self._level += 1
            self._wake()
        else:
            self._is_settled = True
        self._open_window()

    def _open_window(self) -> None:
        self._window_start = self._clock()
        self._n_skipped: int = 0
        self._n_prompts: int = 0
        self._n_requests: int = 0

    def _wake(self) -> None:
        while self._waiting and self._n_busy < self.requests_in_flight:
            turn = self._waiting.popleft()
            if not turn.done():
                self._n_busy += 1
                turn.set_result(None)
