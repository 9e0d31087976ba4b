"""A plan on a terminal: what it says, and the numbers behind it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from isocost.cli.console import console
from isocost.economics.policy.decision import LineForecast
from isocost.report.plan_table import decision_words, line_rows, regime_words, source_rows, tranche_rows
from isocost.resources.plan import Plan

__all__ = ["interval_bars", "print_explanation", "print_plan"]

#: With it, a table of counts below a million fits into 80 columns.
_BAR_WIDTH = 18


def interval_bars(line: Sequence[LineForecast], width: int = _BAR_WIDTH) -> list[str]:
    """One bar for each mix, all on one scale: from its 5 % to its 95 % quantile, with a mark at its mean."""
    left = min((forecast.accuracy_low for forecast in line), default=0.0)
    right = max((forecast.accuracy_high for forecast in line), default=1.0)

    def place(accuracy: float) -> int:
        return round((accuracy - left) / (right - left) * (width - 1)) if right > left else 0

    bars = []
    for forecast in line:
        low, high = place(forecast.accuracy_low), place(forecast.accuracy_high)
        cells = [" "] * low + ["─"] * (high - low + 1) + [" "] * (width - 1 - high)
        cells[place(forecast.accuracy)] = "●"
        bars.append("".join(cells))
    return bars


def print_plan(plan: Plan) -> None:
    """The decision and its reason."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim")
    facts.add_column(overflow="fold")
    facts.add_row("decision", f"[bold]{escape(decision_words(plan))}[/]")
    facts.add_row("reason", escape(plan.reason))
    made = f" at {plan.create_time:%Y-%m-%d %H:%M:%S} UTC" if plan.create_time else ""
    facts.add_row("plan", escape(f"{plan.plan_id} by {plan.policy}{made}"))
    console.print(facts)


def print_explanation(plan: Plan) -> None:
    """The numbers behind a plan: the isocost line, the regime, the next tranche, the sources."""
    explanation = plan.explanation
    if explanation is None:
        console.print(
            f"[dim]regime[/]  {escape(regime_words(plan))}; policy {escape(plan.policy)} gave no numbers for it"
        )
    else:
        _print_line(plan, explanation.line)
        console.print(f"[dim]regime[/]  {escape(regime_words(plan))}")
        now, final = 100 * explanation.accuracy_now, 100 * explanation.accuracy_final
        console.print(f"[dim]expected accuracy[/]  {now:.1f} % now, {final:.1f} % once everything is spent as planned")
        _print_tranches(plan)
    _print_sources(plan)


def _table(title: str, *headings: str, left: Sequence[str] = ("source",)) -> Table:
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, justify="left" if heading in left else "right", no_wrap=True)
    return table


def _print_line(plan: Plan, line: Sequence[LineForecast]) -> None:
    bars = interval_bars(line)
    table = _table(
        "isocost line: weak share of the cost, labels in all, accuracy, probability of being the best",
        "share",
        "weak",
        "human",
        "accuracy",
        "90 % interval",
        "",
        "best",
        left=("",),
    )
    for row, bar in zip(line_rows(plan), bars, strict=True):
        cells = (row.weak_share, row.n_weak, row.n_human, row.accuracy, row.interval, bar, row.probability_best)
        table.add_row(*cells, style="bold" if row.is_best else None)
    console.print(table)


def _print_tranches(plan: Plan) -> None:
    table = _table("next tranche, if all of it went to", "source", "labels", "cost", "gain", "gain at the end")
    for row in tranche_rows(plan):
        table.add_row(escape(row.source), row.n_labels, row.cost, row.gain, row.final_gain)
    console.print(table)
    console.print("[dim]gains in points of accuracy, over stopping now[/]")


def _print_sources(plan: Plan) -> None:
    table = _table(
        "sources",
        "source",
        "kind",
        "price",
        "bought",
        "accuracy",
        "95 % interval",
        "measured on",
        left=("source", "kind"),
    )
    rows = source_rows(plan)
    for row in rows:
        cells = (row.kind, row.price, row.n_bought, row.accuracy, row.interval, row.n_measured)
        table.add_row(escape(row.source), *cells)
    if rows:
        console.print(table)
