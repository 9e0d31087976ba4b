"""Something done again and again beside other work, in a thread: written by hand, as threads are not tasks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Self

__all__ = ["Heartbeat"]


class Heartbeat:
    """Calls `beat` after `pause_seconds`, again and again, until it returns False or the block ends.

    The end of the block waits for a `beat` that is under way.
    """

    def __init__(self, beat: Callable[[], bool], pause_seconds: float) -> None:
        self._beat = beat
        self._pause_seconds = pause_seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="isocost-heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._pause_seconds):
            if not self._beat():
                return
