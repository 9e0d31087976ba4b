"""Something done again and again beside other work, in an asyncio task."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Self

__all__ = ["Heartbeat"]


class Heartbeat:
    """Awaits `beat` after `pause_seconds`, again and again, until it returns False or the block ends."""

    def __init__(self, beat: Callable[[], Awaitable[bool]], pause_seconds: float) -> None:
        self._beat = beat
        self._pause_seconds = pause_seconds
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._pause_seconds)
            if not await self._beat():
                return
