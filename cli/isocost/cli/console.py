"""What a person sees: bars, lines, tables."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from isocost.client.budget import CampaignStatus
from isocost.core.progress import Bar
from isocost.report.evidence import Evidence
from isocost.report.weak_table import weak_source_rows

__all__ = ["RichProgress", "console", "print_error", "print_status", "print_summary"]

console = Console(soft_wrap=True, highlight=False)
_errors = Console(stderr=True, soft_wrap=True, highlight=False)


def print_error(message: str) -> None:
    """One error, on standard error."""
    _errors.print(f"[bold red]error:[/] {escape(message)}")


class _RichBar:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def advance(self, n_done: float = 1, *, note: str = "") -> None:
        if note:
            self._progress.update(self._task, advance=n_done, note=escape(note))
        else:
            self._progress.update(self._task, advance=n_done)


class RichProgress:
    """Bars on a terminal; elsewhere, a line when a piece of work begins and one when it ends."""

    def __init__(self) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[note]}[/]"),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        """One line above the bars."""
        self._progress.console.print(escape(text))

    def bar(self, description: str, total: float) -> AbstractContextManager[Bar]:
        """A bar of `total` units."""
        return self._bar(description, total)

    @contextmanager
    def _bar(self, description: str, total: float) -> Iterator[Bar]:
        start = time.monotonic()
        task = self._progress.add_task(description, total=total, note="")
        if not console.is_terminal:
            console.print(f"{escape(description)}: {total:g} to do ...")
        yield _RichBar(self._progress, task)
        self._progress.update(task, completed=total, note="")
        if not console.is_terminal:
            console.print(f"{escape(description)}: done in {time.monotonic() - start:.1f} s")


def _accuracy(accuracy: float, low: float, high: float) -> str:
    return f"{100 * accuracy:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def print_summary(evidence: Evidence) -> None:
    """The end of a campaign in a few lines."""
    balance, shipped = evidence.status.balance, evidence.shipped
    console.print()
    console.rule(f"[bold]{escape(evidence.status.campaign.campaign_id)}[/]")
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim")
    facts.add_column()
    facts.add_row("spent", f"{balance.settled} of {balance.budget}")
    bought = ", ".join(f"{n_labels:,} {source}" for source, n_labels in evidence.labels_bought.items())
    facts.add_row("labels bought", escape(bought))
    facts.add_row("final model", f"{shipped.method} on {shipped.n_weak:,} weak and {shipped.n_human:,} human labels")
    evaluation = shipped.evaluation
    measured = _accuracy(evaluation.accuracy, evaluation.accuracy_low, evaluation.accuracy_high)
    facts.add_row("accuracy", f"{measured} on {evaluation.n_eval:,} bought evaluation labels")
    if shipped.test:
        measured = _accuracy(shipped.test.accuracy, shipped.test.accuracy_low, shipped.test.accuracy_high)
        facts.add_row("", f"{measured} on {shipped.test.n_eval:,} benchmark answers")
    console.print(facts)
    _print_weak_sources(evidence)
    frontier = Table(title="frontier", title_justify="left", box=None, padding=(0, 2))
    for heading in ("label cost", "weak", "human", "accuracy (95 % interval)"):
        frontier.add_column(heading, justify="right")
    for point in evidence.frontier:
        accuracy = _accuracy(point.accuracy, point.accuracy_low, point.accuracy_high)
        frontier.add_row(str(point.cost), f"{point.n_weak:,}", f"{point.n_human:,}", accuracy)
    console.print(frontier)
    if evidence.plans:
        console.print(f"[dim]last decision[/]  {escape(evidence.plans[-1].reason)}")


def _print_weak_sources(evidence: Evidence) -> None:
    table = Table(title="weak sources", title_justify="left", box=None, padding=(0, 2))
    table.add_column("")
    for heading in ("price", "paid", "accuracy (95 % interval)", "mass"):
        table.add_column(heading, justify="right")
    table.add_column("calibration")
    for row in weak_source_rows(evidence):
        table.add_row(
            escape(f"{'*' if row.chosen else ' '} {row.source}"),
            row.price_in_short,
            row.mean_price,
            f"{row.accuracy} ({row.interval}) on {row.n_measured}",
            row.choices_mass,
            row.calibration,
        )
    console.print(table)
    console.print(f"[dim]weak labels from[/]  {escape(evidence.weak_sources.reason)}")


def print_status(statuses: list[CampaignStatus]) -> None:
    """One line a campaign."""
    table = Table(box=None, padding=(0, 2))
    for heading in ("campaign", "state", "settled", "reserved", "budget", "items", "free"):
        table.add_column(heading, justify="left" if heading in ("campaign", "state") else "right")
    for status in statuses:
        balance = status.balance
        table.add_row(
            escape(status.campaign.campaign_id),
            status.campaign.state.name.lower(),
            str(balance.settled),
            str(balance.reserved),
            str(balance.budget),
            f"{status.n_items:,}",
            f"{status.n_items_free:,}",
        )
    console.print(table)
