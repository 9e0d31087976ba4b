"""A sweep's tables in LaTeX."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from isocost.report.sweep.latex import escape_latex, latex_table
from isocost.report.sweep.rows import PriceTable

__all__ = ["frame_latex", "methods_latex"]

#: Rows that a table on paper may have; the whole is in the CSV.
_ROWS_MAX = 60


def methods_latex(title: str, scope: str, tables: Sequence[PriceTable], label: str = "") -> str:
    """The methods' tables, one a weak price: accuracy in percent and, in brackets, the weak share of the cost."""
    labels = [f"tab:methods{label and '-'}{label}-{number}" for number in range(1, len(tables) + 1)]
    return "\n".join(_price_latex(title, scope, *numbered) for numbered in zip(tables, labels, strict=True))


def _price_latex(title: str, scope: str, table: PriceTable, label: str) -> str:
    rows = []
    for method, cells in table.rows:
        row = [escape_latex(method)]
        for cell in cells:
            if cell is None:
                row.append("--")
                continue
            accuracy = rf"\textbf{{{cell.accuracy}}}" if cell.is_best else cell.accuracy
            mark = r"$\approx$" if cell.mark else ""
            row.append(f"{mark}{accuracy} ({int(cell.weak_share) / 100:.2f})")
        rows.append(row)
    caption = (
        f"{escape_latex(title)}, {escape_latex(scope)}: best accuracy (\\%) within each budget, and the share of its"
        f" cost that was spent on weak labels, at {escape_latex(table.price)} a weak label. Bold: the best of its"
        r" column; $\approx$: not separable from it (paired test, Holm)."
    )
    return latex_table(
        ["method", *(escape_latex(budget) for budget in table.budgets)],
        rows,
        caption=caption,
        label=label,
    )


def frame_latex(frame: pl.DataFrame, *, caption: str, label: str) -> str:
    """Any table, columns as they are called; lists of run ids and rows beyond the sixtieth are left out."""
    shown = frame.drop("run_ids", strict=False)
    text = [name for name, kind in shown.schema.items() if kind == pl.String]
    shown = shown.select(*text, *(name for name in shown.columns if name not in text))
    rows = [[escape_latex(_text(value)) for value in row] for row in shown.head(_ROWS_MAX).iter_rows()]
    left_out = f" {shown.height - _ROWS_MAX} more rows are in the CSV." if shown.height > _ROWS_MAX else ""
    return latex_table(
        [escape_latex(name.replace("_", " ")) for name in shown.columns],
        rows,
        caption=escape_latex(caption + left_out),
        label=label,
        n_text_columns=len(text),
    )


def _text(value: object) -> str:
    if value is None:
        return "--"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and not (value.is_integer() or abs(value) >= 1000):
        return f"{value:.4g}"
    return f"{value:,.0f}" if isinstance(value, float | int) else str(value)
