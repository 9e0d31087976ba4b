"""What a person sees of a bulk job: how far it is, and what came of it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table

from isocost.bulk.tally import Tally
from isocost.cli.console import console
from isocost.client.labeler import ServedModel

__all__ = ["BulkProgress", "Rate", "print_outcome"]

#: Seconds between two lines where there is no terminal.
_LINE_SECONDS = 10.0
#: Seconds between two updates of the bar.
_BAR_SECONDS = 0.2
#: Seconds that the speed is measured over: stored labels pass at another speed than new ones.
_RATE_SECONDS = 30.0


class Rate:
    """Rows a second, lately, from the first that is noted: what a model takes to load says nothing.

    Args:
        clock: Seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start = clock()
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, n_done: int) -> None:
        """So many rows are done now."""
        now = self._clock()
        self._seen.append((now, n_done))
        while len(self._seen) > 2 and now - self._seen[1][0] > _RATE_SECONDS:
            self._seen.popleft()

    @property
    def per_second(self) -> float:
        """Rows a second over the last half minute; 0 before any time has passed."""
        if not self._seen:
            return 0.0
        (first, n_first), (last, n_last) = self._seen[0], self._seen[-1]
        return (n_last - n_first) / (last - first) if last > first else 0.0

    @property
    def elapsed_seconds(self) -> float:
        """Since this rate began."""
        return self._clock() - self._start


def _describe(tally: Tally, rate: Rate) -> str:
    """How far a job is, without the count itself."""
    parts = [f"{rate.per_second:,.0f} labels/s"]
    if rate.per_second > 0:
        parts.append(f"{_duration((tally.n_rows - tally.n_done) / rate.per_second)} left")
    if tally.cost is not None:
        parts.append(f"{tally.cost} so far")
    if tally.n_stored:
        parts.append(f"{tally.n_stored / tally.n_done:.0%} stored")
    if tally.n_errors:
        parts.append(f"{tally.n_errors:,} errors")
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"


class BulkProgress:
    """A bar on a terminal; elsewhere a line every ten seconds.

    Usage::

        with BulkProgress("labelling") as progress:
            await run_job(job, progress.show)

    Args:
        description: What is done.
        output: Where to write; the default is standard output.
        clock: Seconds, monotonic.
    """

    def __init__(
        self, description: str, *, output: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._description = description
        self._console = output or console
        self._clock = clock
        self._shown: float | None = None
        self.rate = Rate(clock)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("[dim]{task.fields[note]}[/]"),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
        )
        self._bar = self._progress.add_task(description, total=None, note="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, tally: Tally) -> None:
        """Shows the counts, not more often than is of use."""
        now = self._clock()
        on_terminal = self._console.is_terminal
        if self._shown is None:
            self._shown = now
            self.rate.note(tally.n_done)
        if now - self._shown < (_BAR_SECONDS if on_terminal else _LINE_SECONDS):
            return
        self._shown = now
        self.rate.note(tally.n_done)
        note = _describe(tally, self.rate)
        if on_terminal:
            self._progress.update(self._bar, completed=tally.n_done, total=tally.n_rows, note=note)
        else:
            done = f"{tally.n_done:,} of {tally.n_rows:,}"
            self._console.print(escape(f"{self._description}: {done}, {note}"))


def print_outcome(tally: Tally, written: str, seconds: float, served: ServedModel | None = None) -> None:
    """What came of a job.

    Args:
        tally: The counts.
        written: Name of the file or folder.
        seconds: How long it took.
        served: How the model is served, where that is known.
    """
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim")
    facts.add_column()
    stored = f", {tally.n_stored:,} of them made earlier" if tally.n_stored else ""
    facts.add_row("labels", f"{tally.n_labels:,} of {tally.n_rows:,} rows{stored}")
    for reason, count in tally.errors.most_common():
        facts.add_row("[red]errors[/]", escape(f"{count:,} {reason}"))
    facts.add_row("time", f"{_duration(seconds)}, {tally.n_done / max(seconds, 1e-9):,.0f} rows/s")
    if tally.cost is not None:
        new = f", {tally.new_cost} of it for labels made now" if tally.n_stored else ""
        facts.add_row("cost", f"{tally.cost}{new}")
    facts.add_row("prompt tokens", f"{tally.prompt_tokens:,}")
    if served is not None and served.prefix_cache_hit_rate is not None:
        facts.add_row("prefix cache", f"{served.prefix_cache_hit_rate:.0%} of the tokens sent to the server")
    facts.add_row("written", escape(written))
    console.print(facts)
    if tally.n_errors:
        console.print(
            f"{tally.n_errors:,} rows have no label: their columns error and error_reason say why", style="yellow"
        )
