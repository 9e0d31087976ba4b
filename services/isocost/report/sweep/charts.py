"""The charts of a sweep's report: pure functions of its tables (see `isocost.report.sweep.tables`).

A chart is a Vega-Lite specification with its rows. The rows join it last: altair refuses more than 5,000.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import altair as alt
import polars as pl

from isocost.core.money import MICROS_PER_UNIT, Money

__all__ = ["Chart", "contest_chart", "few_shot_chart", "frontier_chart", "mix_chart", "money"]

Chart: TypeAlias = dict[str, Any]

_ROWS = "rows"

#: Width of all panels of a row together, and height of one, in pixels.
_ROW_WIDTH, _HEIGHT = 840, 250


def money(amount: float, currency: str) -> str:
    """An amount as it is printed everywhere, such as $0.10 or $1,024."""
    text = str(Money(round(amount * MICROS_PER_UNIT), currency))
    return text.replace(".00", "") if float(amount).is_integer() else text


def _panel_width(n_panels: int) -> int:
    return min(_ROW_WIDTH // max(n_panels, 1) - 40, 560)


def _legend() -> alt.Legend:
    # Below the chart: beside it, long titles are cut off.
    return alt.Legend(orient="bottom", symbolOpacity=1, symbolType="stroke", titleLimit=0, labelLimit=0, columns=8)


def _accuracy(field: str = "accuracy:Q") -> alt.Y:
    return alt.Y(field, title="accuracy", scale=alt.Scale(zero=False), axis=alt.Axis(format=".0%", tickCount=6))


def _money_axis(field: str, title: str, values: Sequence[float]) -> alt.X:
    """A logarithmic axis with lines at these values only: a line at each digit would hide the points."""
    return alt.X(
        field,
        title=title,
        scale=alt.Scale(type="log", nice=False),
        axis=alt.Axis(values=list(values), format=",~r", labelOverlap="greedy"),
    )


def _powers_of_ten(low: float, high: float) -> list[float]:
    return [10.0**power for power in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]


def _hollow(base: alt.Chart, size: int) -> alt.Chart:
    chart: alt.Chart = base.mark_point(filled=False, fill="white", strokeWidth=1.6, opacity=1, size=size)
    return chart


def _filled(base: alt.Chart, size: int) -> alt.Chart:
    chart: alt.Chart = base.mark_point(filled=True, opacity=1, size=size)
    return chart


def _layers(*charts: alt.Chart) -> alt.LayerChart:
    layers = alt.layer(*charts, data=alt.NamedData(_ROWS))
    assert isinstance(layers, alt.LayerChart)
    return layers


def _with_rows(chart: alt.FacetChart, frame: pl.DataFrame) -> Chart:
    specification = dict(chart.to_dict(validate=False))
    specification["datasets"] = {_ROWS: frame.to_dicts()}
    return specification


def _panels(chart: alt.LayerChart, frame: pl.DataFrame, currency: str) -> Chart:
    """One column a weak price, one row a task where there are several."""
    prices = sorted(frame["weak_price"].unique(), reverse=True)
    tasks = sorted(frame["task"].unique())
    header = alt.Header(title=None, labelFontSize=12, labelFontWeight="bold", labelLimit=0)
    column = alt.Column("price:N", sort=[_price(price, currency) for price in prices], header=header)
    row = alt.Row("task:N", header=alt.Header(title=None, labelFontSize=12, labelLimit=0))
    sized = chart.properties(width=_panel_width(len(prices)), height=_HEIGHT if len(tasks) == 1 else _HEIGHT * 2 // 3)
    faceted = sized.facet(column=column) if len(tasks) == 1 else sized.facet(column=column, row=row)
    return _with_rows(faceted.resolve_scale(y="shared" if len(tasks) == 1 else "independent"), frame)


def _price(price: float, currency: str) -> str:
    return f"weak label {money(price, currency)}"


def _drawn(frame: pl.DataFrame, currency: str) -> pl.DataFrame:
    """Without what is not drawn, and with the panel's title."""
    prices = pl.col("weak_price").map_elements(lambda price: _price(price, currency), return_dtype=pl.String)
    return frame.drop("run_ids", strict=False).with_columns(price=prices)


def mix_chart(lines: pl.DataFrame, currency: str) -> Chart:
    """Accuracy against the weak spending fraction, a line a budget with its 95 % band, a panel a weak price.

    The best point of a line is a diamond; of the others, those that the paired test tells from it are filled.

    Args:
        lines: As of `budget_lines`; several tasks become rows of panels.
        currency: Of prices and budgets.
    """
    budgets = sorted(lines["budget"].unique())
    frame = _drawn(lines, currency).with_columns(
        pl.col("budget").map_elements(lambda budget: money(budget, currency), return_dtype=pl.String).alias("budget")
    )
    names = [money(budget, currency) for budget in budgets]
    colour = alt.Color(
        "budget:N", sort=names, title="budget", scale=alt.Scale(scheme="viridis", domain=names), legend=_legend()
    )
    x = alt.X(
        "weak_fraction:Q",
        title="share of the budget for weak labels",
        scale=alt.Scale(domain=[0, 1]),
        axis=alt.Axis(format=".0%", values=[0, 0.25, 0.5, 0.75, 1]),
    )
    base = alt.Chart().encode(x=x, y=_accuracy(), color=colour)
    band = alt.Chart().mark_area(opacity=0.12).encode(x=x, y=_accuracy("accuracy_low:Q"), y2="accuracy_high:Q")
    chart = _layers(
        band.encode(color=colour),
        base.mark_line(strokeWidth=1.6),
        _hollow(base, 34).transform_filter("!datum.is_separable && !datum.is_best"),
        _filled(base, 38).transform_filter("datum.is_separable"),
        base.mark_point(filled=True, size=95, shape="diamond", opacity=1).transform_filter("datum.is_best"),
    )
    return _panels(chart, frame, currency)


def frontier_chart(frontier: pl.DataFrame, currency: str) -> Chart:
    """Cost, logarithmic, against accuracy: the frontier of each method, a panel a weak price.

    Points that the paired test does not tell from the next cheaper one of their frontier are hollow. Points that cost
    nothing stand at half the lowest cost.

    Args:
        frontier: As of `frontier_rows`.
        currency: Of prices and costs.
    """
    positive = frontier.filter(pl.col("cost") > 0)["cost"].to_list() or [1.0]
    left, right = min(positive), max(positive)
    frame = _drawn(frontier, currency).with_columns(cost=pl.col("cost").clip(lower_bound=left / 2))
    # The last point's accuracy holds for every larger budget as well: the line goes on to the dearest point.
    ends = (
        frame.sort("cost")
        .group_by("task", "price", "method", maintain_order=True)
        .last()
        .with_columns(cost=pl.lit(float(right)), is_end=pl.lit(True))
        .select(*frame.columns, "is_end")
    )
    frame = pl.concat([frame.with_columns(is_end=pl.lit(False)), ends]).sort("method", "price", "cost", "is_end")
    methods = sorted(frame["method"].unique())
    legend = alt.Legend(orient="bottom", symbolOpacity=1, titleLimit=0, labelLimit=0, columns=4, symbolType="stroke")
    colour = alt.Color(
        "method:N", sort=methods, title="method", scale=alt.Scale(scheme=_scheme(methods)), legend=legend
    )
    x = _money_axis("cost:Q", f"cost of the labels ({currency})", _powers_of_ten(left / 2, right))
    base = alt.Chart().encode(x=x, color=colour)
    y = _accuracy()
    points = base.encode(y=y)
    chart = _layers(
        base.mark_rule(opacity=0.35)
        .encode(y=_accuracy("accuracy_low:Q"), y2="accuracy_high:Q")
        .transform_filter("!datum.is_end"),
        points.mark_line(interpolate="step-after", strokeWidth=1.6),
        _hollow(points, 42).transform_filter("!datum.is_separable && !datum.is_end"),
        _filled(points, 46).transform_filter("datum.is_separable && !datum.is_end"),
    )
    return _panels(chart, frame, currency)


def _scheme(names: Sequence[str]) -> Literal["tableau10", "tableau20"]:
    return "tableau10" if len(names) <= 10 else "tableau20"


def contest_chart(best: pl.DataFrame, field: str, title: str, currency: str) -> Chart:
    """Best accuracy within a budget, a line a contestant (a weak labeller or a strong model), a panel a weak price.

    Args:
        best: As of `contest_rows`.
        field: Column with the contestant's name.
        title: What the contestants are.
        currency: Of prices and budgets.
    """
    frame = _drawn(best, currency)
    names = sorted(frame[field].unique())
    colour = alt.Color(f"{field}:N", sort=names, title=title, scale=alt.Scale(scheme="tableau10"), legend=_legend())
    x = _money_axis("budget:Q", f"budget ({currency})", sorted(frame["budget"].unique()))
    base = alt.Chart().encode(x=x, color=colour)
    y = _accuracy()
    chart = _layers(
        base.mark_area(opacity=0.15).encode(y=_accuracy("accuracy_low:Q"), y2="accuracy_high:Q"),
        base.mark_line(strokeWidth=1.8).encode(y=y),
        _hollow(base, 42).encode(y=y).transform_filter("!datum.is_separable && !datum.is_best"),
        _filled(base, 46).encode(y=y).transform_filter("datum.is_separable || datum.is_best"),
    )
    return _panels(chart, frame, currency)


def few_shot_chart(rows: pl.DataFrame) -> Chart:
    """Accuracy against the labels fine-tuned on, a line a few-shot setting, a panel a kind of label fine-tuned on.

    Prompting alone, which fine-tunes on nothing, begins the lines of every panel.

    Args:
        rows: As of `few_shot_rows`, of one task or the mean.
    """
    kinds = [kind for kind in ("weak", "human") if kind in set(rows["sft_kind"])]
    alone = rows.filter(pl.col("sft_kind") == "none")
    panels = [rows.filter(pl.col("sft_kind") == kind) for kind in kinds]
    panels += [alone.with_columns(sft_kind=pl.lit(kind)) for kind in kinds or ["no"]]
    none = pl.col("few_shot_count") == 0
    frame = pl.concat(panels).with_columns(
        shown=pl.when(none).then(pl.lit("none")).otherwise(pl.col("few_shot_count").cast(pl.String)),
        kind=pl.when(none).then(pl.lit("none")).otherwise(pl.col("few_shot_kind")),
        panel=pl.format("fine-tuned on {} labels", "sft_kind"),
    )
    counts = ["none", *(str(count) for count in sorted(set(rows["few_shot_count"])) if count)]
    largest = max(int(str(frame["n_sft"].max())), 1)
    ticks = [0, *(4**power for power in range(2, 14) if 4**power <= largest)]
    x = alt.X(
        "n_sft:Q",
        title="labels fine-tuned on",
        scale=alt.Scale(type="symlog", constant=8, nice=False),
        axis=alt.Axis(values=ticks, format=",d", labelOverlap="greedy"),
    )
    colour = alt.Color(
        "shown:N",
        sort=counts,
        title="labelled examples in the prompt",
        scale=alt.Scale(scheme="tableau10", domain=counts),
        legend=_legend(),
    )
    dash = alt.StrokeDash(
        "kind:N",
        title="their labels",
        scale=alt.Scale(domain=["none", "weak", "human"], range=[[1, 0], [5, 4], [1, 0]]),
        legend=_legend(),
    )
    base = alt.Chart().encode(x=x, color=colour)
    chart = _layers(
        base.mark_rule(opacity=0.3).encode(y=_accuracy("accuracy_low:Q"), y2="accuracy_high:Q"),
        base.mark_line(strokeWidth=1.6).encode(y=_accuracy(), strokeDash=dash),
        _filled(base, 34).encode(y=_accuracy(), detail="kind:N"),
    ).properties(width=_panel_width(max(len(kinds), 2)), height=_HEIGHT)
    header = alt.Header(title=None, labelFontSize=12, labelFontWeight="bold")
    return _with_rows(chart.facet(column=alt.Column("panel:N", sort="descending", header=header)), frame)
