"""Passes one after another: when Label Studio calls, when a while is over, and again where a side was away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from isocost.core.errors import DeadlineExceededError, IsocostError, LimitExceededError, UnavailableError
from isocost.label_studio.sync import LabelStudioSync, Tally

__all__ = ["line", "watch"]

_PAUSE_SECONDS_FIRST, _PAUSE_SECONDS_MAX = 1.0, 30.0


async def watch(sync: LabelStudioSync, called: asyncio.Event, poll_seconds: float, say: Callable[[str], None]) -> None:
    """Passes until the campaign is finished; cancel it to stop earlier, at any time.

    Args:
        sync: What makes a pass.
        called: Set where there is something to be looked at.
        poll_seconds: Between two looks, where nobody calls; at most 1,200, as a pass is a heartbeat of the leases too.
        say: Takes lines for a person.

    Raises:
        IsocostError: one that a repeat does not help against.
    """
    n_failed = 0
    while True:
        called.clear()
        try:
            tally = await sync.run_once()
        except IsocostError as error:
            if not _may_pass(error):
                raise
            if n_failed == 0:
                say(f"{error.message}; trying again until it answers")
            n_failed += 1
            await asyncio.sleep(min(_PAUSE_SECONDS_FIRST * 2.0 ** min(n_failed - 1, 10), _PAUSE_SECONDS_MAX))
            continue
        if n_failed:
            say("it answers again")
            n_failed = 0
        if text := line(tally):
            say(text)
        if tally.is_finished:
            say("the campaign is finished: nothing is asked any more")
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(called.wait(), poll_seconds)


def line(tally: Tally) -> str:
    """What a pass did, in a line; "" where it did nothing."""
    parts = {
        "paid": tally.n_paid,
        "refused": tally.n_refused,
        "changed after payment": tally.n_changed,
        "tasks added": tally.n_added,
        "tasks deleted": tally.n_removed,
    }
    return ", ".join(f"{count:,} {name}" for name, count in parts.items() if count)


def _may_pass(error: IsocostError) -> bool:
    """Whether the same pass may succeed later."""
    if isinstance(error, LimitExceededError):
        return error.retry_after is not None
    return isinstance(error, UnavailableError | DeadlineExceededError)
