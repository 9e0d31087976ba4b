"""What a person sees of a replay in the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from isocost.cli.console import console
from isocost.replay.results import (
    BudgetResult,
    RegretSummary,
    Skipped,
    TargetResult,
    TargetSummary,
    amount,
    regret_summary,
    target_summary,
)

__all__ = ["print_regrets", "print_skipped", "print_targets"]

_ALL = "all"


def print_regrets(results: Sequence[BudgetResult]) -> None:
    """Mean, 90 % quantile and largest regret by policy and budget."""
    table = Table(title="regret in accuracy", title_justify="left", box=None, padding=(0, 2))
    table.add_column("policy", no_wrap=True)
    for heading in ("budget", "cases", "mean", "p90", "max"):
        table.add_column(heading, justify="right")

    def add(policy: str, budget: str, summary: RegretSummary) -> None:
        figures = (f"{figure:.4f}" for figure in (summary.mean, summary.p90, summary.max))
        table.add_row(escape(policy), budget, f"{summary.n_cases}", *figures)

    names = list(dict.fromkeys(one.policy for one in results))
    ordered = sorted(results, key=lambda one: (names.index(one.policy), one.budget_micros))
    summaries = regret_summary(ordered, lambda one: (one.policy, one.budget_micros))
    for (policy, budget_micros), summary in summaries.items():
        add(policy, f"{amount(budget_micros):,}", summary)
    for policy, summary in regret_summary(results, lambda one: one.policy).items():
        add(policy, _ALL, summary)
    console.print(table)


def print_targets(results: Sequence[TargetResult]) -> None:
    """Failure rate, and cost over that of the cheapest sufficient point, by policy and target."""
    title = "cost of reaching an accuracy, over that of the cheapest point that does"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2))
    table.add_column("policy", no_wrap=True)
    for heading in ("target", "cases", "failed", "mean ratio", "p90 ratio"):
        table.add_column(heading, justify="right")

    def ratio(value: float | None) -> str:
        return "-" if value is None else f"{value:.2f}"

    def add(policy: str, target: str, summary: TargetSummary) -> None:
        table.add_row(
            escape(policy), target, f"{summary.n_cases}", f"{summary.failure_rate:.0%}",
            ratio(summary.cost_ratio_mean), ratio(summary.cost_ratio_p90),
        )  # fmt: skip

    names = list(dict.fromkeys(one.policy for one in results))
    ordered = sorted(results, key=lambda one: (names.index(one.policy), one.target))
    for (policy, target), summary in target_summary(ordered, lambda one: (one.policy, one.target)).items():
        add(policy, f"{target:g}", summary)
    for policy, summary in target_summary(results, lambda one: one.policy).items():
        add(policy, _ALL, summary)
    console.print(table)


def print_skipped(skipped: Sequence[Skipped]) -> None:
    """One line for each kind of case that could not be replayed."""

    def words(one: Skipped) -> str:
        goal = f"target {one.target:g}" if one.target is not None else f"budget {amount(one.budget_micros or 0):,}"
        return f"{one.surface}, {goal}: {one.reason}"

    for text, n_cases in Counter(words(one) for one in skipped).items():
        console.print(f"skipped  {escape(text)} ({n_cases} {'case' if n_cases == 1 else 'cases'})", style="yellow")
