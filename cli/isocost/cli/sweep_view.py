"""What a person sees of a sweep's findings in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import polars as pl
from rich.markup import escape
from rich.table import Table

from isocost.cli.console import console
from isocost.report.sweep.findings import SettingFindings, SweepFindings
from isocost.report.sweep.rows import method_tables, regime_table, scope_title

__all__ = ["print_sweep", "print_written"]


def print_sweep(findings: SweepFindings) -> None:
    """The methods' table and the regimes of each setting, and how many runs did not succeed."""
    source = findings.source
    console.print()
    console.rule(f"[bold]{escape(source.name)}[/]")
    for finding in findings.settings:
        console.print(f"[bold]{escape(finding.setting.title)}[/], {escape(scope_title(finding.scopes[0]))}")
        _print_methods(finding, source.currency)
        _print_regimes(finding, source.currency)
    console.print("[dim]* the best of its column   ≈ not told apart from it   below: weak share of the cost[/]")
    if not findings.failed.is_empty():
        n_runs = source.results.height
        console.print(f"{findings.failed.height:,} of {n_runs:,} runs did not succeed and are left out", style="yellow")


def _print_methods(finding: SettingFindings, currency: str) -> None:
    best = finding.best.filter(pl.col("task") == finding.scopes[0])
    for priced in method_tables(best, list(finding.lines), currency):
        table = Table(
            title=f"best accuracy within a budget in %, a weak label at {priced.price}",
            title_justify="left",
            box=None,
            padding=(0, 1),
        )
        table.add_column("method", no_wrap=True)
        for budget in priced.budgets:
            table.add_column(budget, justify="right", no_wrap=True)
        for method, cells in priced.rows:
            shown = []
            for cell in cells:
                if cell is None:
                    shown.append("-")
                    continue
                mark = "*" if cell.is_best else cell.mark
                text = f"{mark}{cell.accuracy}\n{cell.weak_share}%"
                shown.append(f"[bold]{text}[/]" if cell.is_best else text)
            table.add_row(escape(method), *shown)
        console.print(table)


def _print_regimes(finding: SettingFindings, currency: str) -> None:
    own = finding.regimes.filter(pl.col("task") == finding.scopes[0], pl.col("method") == finding.method)
    if own.is_empty():
        return
    budgets, rows = regime_table(own, currency)
    table = Table(title=f"regimes of {escape(finding.method)}", title_justify="left", box=None, padding=(0, 1))
    table.add_column("weak label")
    for budget in budgets:
        table.add_column(budget)
    for price, cells in rows:
        table.add_row(price, *(f"{cell.kind} {cell.probability} %" if cell else "-" for cell in cells))
    console.print(table)


def print_written(paths: Sequence[Path], folder: Path) -> None:
    """The page, and how many files each folder beside it has now."""
    for name, group in groupby(sorted(paths), key=lambda path: path.relative_to(folder).parts[0]):
        files = list(group)
        note = f"  {len(files)} files" if files[0].parent != folder else ""
        console.print(f"[dim]written[/]  {escape(str(folder / name))}{note}")
