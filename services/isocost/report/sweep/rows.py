"""What a person reads of a sweep's tables: numbers as text, for the page, the terminal and LaTeX alike."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from isocost.economics.regime import Regime
from isocost.report.sweep.cells import ALL_TASKS
from isocost.report.sweep.charts import money

__all__ = [
    "BestCell",
    "PriceTable",
    "RegimeCell",
    "best_cell",
    "method_tables",
    "mix_text",
    "percent",
    "regime_table",
    "scope_title",
    "separable_mark",
]


def percent(share: float, digits: int = 1) -> str:
    """A share in percent, without the sign."""
    return f"{100 * share:.{digits}f}"


def mix_text(n_weak: int, n_human: int) -> str:
    """A mix in short, such as 1,600 w + 3 h."""
    parts = [f"{count:,} {kind}" for count, kind in ((n_weak, "w"), (n_human, "h")) if count]
    return " + ".join(parts) or "no labels"


def scope_title(task: str) -> str:
    """A task's name, or what the mean is called."""
    return "mean over tasks" if task == ALL_TASKS else task


def separable_mark(row: dict[str, object]) -> str:
    """What stands beside an accuracy that is not told apart from the best one."""
    return "" if row["is_best"] or row["is_separable"] else "≈"


@dataclass(frozen=True, slots=True)
class BestCell:
    """The best mix of a method within a budget, as text.

    Attributes:
        accuracy: In percent.
        interval: 95 %, such as 80.1-85.9, in percent.
        elsewhere: Accuracy where the mix is chosen on other items than it is measured on, in percent, or "".
        mix: The labels.
        weak_share: Of the cost, in percent.
        mark: "≈" where it is not told apart from the best of its column.
        is_best: Whether it is that best.
    """

    accuracy: str
    interval: str
    elsewhere: str
    mix: str
    weak_share: str
    mark: str
    is_best: bool


@dataclass(frozen=True, slots=True)
class PriceTable:
    """The methods' table at one weak price.

    Attributes:
        price: Of a weak label, as text.
        budgets: The columns, as text.
        rows: Method, and one cell a budget; None where the method has no mix within the budget.
    """

    price: str
    budgets: tuple[str, ...]
    rows: tuple[tuple[str, tuple[BestCell | None, ...]], ...]


def method_tables(best: pl.DataFrame, first: Sequence[str], currency: str) -> list[PriceTable]:
    """The methods' table at each weak price, the highest first.

    Args:
        best: As of `best_within_budget`, of one task or the mean.
        first: Methods that stand first, in their order; others follow by name.
        currency: Of prices and budgets.
    """
    methods = [*first, *sorted(set(best["method"]) - set(first), key=_by_number)]
    tables = []
    for price in sorted(best["weak_price"].unique(), reverse=True):
        priced = best.filter(pl.col("weak_price") == price)
        budgets = sorted(best["budget"].unique())
        cells = {(row["method"], row["budget"]): best_cell(row) for row in priced.iter_rows(named=True)}
        rows = tuple((method, tuple(cells.get((method, budget)) for budget in budgets)) for method in methods)
        tables.append(
            PriceTable(
                money(price, currency),
                tuple(money(budget, currency) for budget in budgets),
                tuple(row for row in rows if any(row[1])),
            )
        )
    return tables


def _by_number(name: str) -> list[tuple[int, str]]:
    """Sorts 2 shots before 8 and 8 before 32."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]


def best_cell(row: dict[str, object]) -> BestCell:
    """One row of `best_within_budget` as text."""

    def number(name: str) -> float:
        return float(str(row[name]))

    return BestCell(
        accuracy=percent(number("accuracy")),
        interval=f"{percent(number('accuracy_low'))}\N{EN DASH}{percent(number('accuracy_high'))}",
        elsewhere="" if row["accuracy_elsewhere"] is None else percent(number("accuracy_elsewhere")),
        mix=mix_text(int(number("n_weak")), int(number("n_human"))),
        weak_share=percent(number("weak_cost_share"), 0),
        mark=separable_mark(row),
        is_best=bool(row["is_best"]),
    )


@dataclass(frozen=True, slots=True)
class RegimeCell:
    """The regime of a budget, as text.

    Attributes:
        name: Of the regime, or "unclear".
        kind: For its colour: "quantity", "mixed", "quality" or "unclear".
        probability: Of the most probable regime, in percent.
        all_three: Probabilities of all weak, mixed, all human, in percent; "-" for what was not measured.
    """

    name: str
    kind: str
    probability: str
    all_three: tuple[str, str, str]


_KINDS = {
    Regime.QUANTITY_DOMINANT.value: "quantity",
    Regime.MIXED.value: "mixed",
    Regime.QUALITY_DOMINANT.value: "quality",
}


def regime_table(
    regimes: pl.DataFrame, currency: str
) -> tuple[tuple[str, ...], list[tuple[str, tuple[RegimeCell | None, ...]]]]:
    """Regimes by weak price and budget.

    Args:
        regimes: As of `regime_rows`, of one task or the mean, and of one method.
        currency: Of prices and budgets.

    Returns:
        The budgets, and for each weak price, the highest first, its cells; None where the line was not measured.
    """
    budgets = sorted(regimes["budget"].unique())
    rows = []
    for price in sorted(regimes["weak_price"].unique(), reverse=True):
        priced = regimes.filter(pl.col("weak_price") == price)
        cells = {row["budget"]: _regime_cell(row) for row in priced.iter_rows(named=True)}
        rows.append((money(price, currency), tuple(cells.get(budget) for budget in budgets)))
    return tuple(money(budget, currency) for budget in budgets), rows


def _regime_cell(row: dict[str, object]) -> RegimeCell:
    name = str(row["regime"])
    three = [
        "-" if row[kind] is None else percent(float(str(row[kind])), 0)
        for kind in ("quantity_dominant", "mixed", "quality_dominant")
    ]
    return RegimeCell(
        name=name if name in _KINDS else "unclear",
        kind=_KINDS.get(name, "unclear"),
        probability=percent(float(str(row["probability"])), 0),
        all_three=(three[0], three[1], three[2]),
    )
