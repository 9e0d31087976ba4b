"""When the next pass is made, and what is said where a side is away."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest

from isocost.core.errors import UnauthenticatedError, UnavailableError
from isocost.label_studio import watch as watch_module
from isocost.label_studio.sync import LabelStudioSync, Tally
from isocost.label_studio.watch import watch

FINISHED = Tally(is_finished=True)


class Script:
    """Passes that go as they are told to."""

    def __init__(self, *results: Tally | Exception) -> None:
        self._results = list(results)
        self.called = asyncio.Event()

    async def run_once(self) -> Tally:
        result = self._results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result


async def said(script: Script, poll_seconds: float = 600) -> Sequence[str]:
    lines: list[str] = []
    await asyncio.wait_for(watch(cast(LabelStudioSync, script), script.called, poll_seconds, lines.append), 30)
    return lines


async def test_a_side_that_is_away_is_tried_again_and_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "_PAUSE_SECONDS_FIRST", 0.0)
    script = Script(UnavailableError("it is away"), UnavailableError("it is away"), UnavailableError("still"), FINISHED)
    lines = await said(script)
    assert lines == [
        "it is away; trying again until it answers",
        "it answers again",
        "the campaign is finished: nothing is asked any more",
    ]


async def test_what_a_repeat_does_not_help_against_ends_it() -> None:
    with pytest.raises(UnauthenticatedError):
        await said(Script(UnauthenticatedError("who?")))


async def test_a_pass_follows_a_call_at_once_and_the_pause_otherwise() -> None:
    by_poll = Script(Tally(n_paid=1), FINISHED)
    assert (await said(by_poll, poll_seconds=0.01))[0] == "1 paid"

    class Called(Script):
        async def run_once(self) -> Tally:
            # Somebody answers while the pass is made: it has not seen that.
            self.called.set()
            return await super().run_once()

    assert (await said(Called(Tally(n_added=2, n_removed=1), FINISHED)))[0] == "2 tasks added, 1 tasks deleted"
