"""The report's charts, as SVG: they open anywhere, without a network and without scripts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import altair as alt
import polars as pl
import vl_convert

from isocost.core.money import MICROS_PER_UNIT
from isocost.economics.frontier import CostedPoint
from isocost.report.evidence import Evidence
from isocost.resources.campaign import EntryKind
from isocost.resources.plan import PlanExplanation

__all__ = ["budget_tiers", "frontier_svg", "line_svg", "mix_svg", "spending_svg"]

WIDTH, HEIGHT = 640, 320
#: As in the page.
_ACCENT = "#21618c"


@dataclass(frozen=True, slots=True)
class TierPoint:
    """A point, the budget tier it falls within, and the share of its cost that went to weak labels."""

    point: CostedPoint
    tier_micros: int
    weak_fraction: float


def budget_tiers(points: Sequence[CostedPoint], human_price_micros: int, n_tiers: int = 4) -> list[TierPoint]:
    """Sorts points into budgets that double from tier to tier, the last one the cost of the dearest point.

    A point belongs to the smallest budget that pays for it; points cheaper than half the smallest belong to it as well.
    """
    dearest = max(point.cost_micros for point in points)
    tiers = [dearest >> shift for shift in range(n_tiers - 1, -1, -1)]
    return [
        TierPoint(
            point,
            next(tier for tier in tiers if point.cost_micros <= tier),
            1 - point.n_human * human_price_micros / point.cost_micros if point.cost_micros else 0.0,
        )
        for point in points
    ]


def _svg(chart: alt.LayerChart | alt.FacetChart | alt.Chart) -> str:
    return str(vl_convert.vegalite_to_svg(chart.to_dict()))


def _frame(points: Sequence[CostedPoint]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "cost": [point.cost_micros / MICROS_PER_UNIT for point in points],
            "accuracy": [point.accuracy for point in points],
            "low": [point.accuracy_low for point in points],
            "high": [point.accuracy_high for point in points],
            "n_weak": [point.n_weak for point in points],
            "n_human": [point.n_human for point in points],
        }
    )


def _accuracy(field: str) -> alt.Y:
    return alt.Y(
        field,
        title="accuracy on the evaluation labels",
        scale=alt.Scale(zero=False),
        axis=alt.Axis(format=".0%"),
    )


def _legend() -> alt.Legend:
    # Below the chart: beside it, long titles are cut off.
    return alt.Legend(orient="bottom", symbolOpacity=1, titleLimit=0, labelLimit=0)


def mix_svg(evidence: Evidence) -> str:
    """Accuracy against the weak spending fraction, one line for each budget."""
    tiered = budget_tiers(evidence.points, evidence.human_price_micros)
    currency = evidence.status.balance.budget.currency_code
    frame = _frame([tier.point for tier in tiered]).with_columns(
        pl.Series("weak_fraction", [tier.weak_fraction for tier in tiered]),
        pl.Series("tier", [f"{tier.tier_micros / MICROS_PER_UNIT:,.2f}" for tier in tiered]),
    )
    # Of several mixes of one budget with (nearly) the same fraction, the line follows the best.
    best = (
        frame.with_columns(bin=(pl.col("weak_fraction") * 20).round())
        .sort("accuracy", descending=True)
        .unique(["tier", "bin"], keep="first", maintain_order=True)
        .sort("tier", "weak_fraction")
    )
    order = sorted(frame["tier"].unique().to_list(), key=lambda tier: float(tier.replace(",", "")))
    colour = alt.Color(
        "tier:N",
        sort=order,
        title=f"label cost up to ({currency})",
        scale=alt.Scale(scheme="viridis"),
        legend=_legend(),
    )
    x = alt.X(
        "weak_fraction:Q",
        title="share of the label cost spent on weak labels",
        scale=alt.Scale(domain=[0, 1]),
        axis=alt.Axis(format=".0%", tickCount=5),
    )
    y = _accuracy("accuracy:Q")
    base = alt.Chart(best).encode(x=x, color=colour)
    chart = alt.layer(
        base.mark_rule(opacity=0.35).encode(y=_accuracy("low:Q"), y2="high:Q"),
        base.mark_line().encode(y=y),
        base.mark_point(filled=True, size=55).encode(y=y),
    ).properties(width=WIDTH, height=HEIGHT)
    return _svg(chart)


def frontier_svg(evidence: Evidence) -> str:
    """Every point with its cost, and the frontier through the best of them with 95 % intervals."""
    currency = evidence.status.balance.budget.currency_code
    frame = _frame(evidence.points).with_columns(
        kind=pl.when(pl.col("n_human") == 0)
        .then(pl.lit("weak only"))
        .when(pl.col("n_weak") == 0)
        .then(pl.lit("human only"))
        .otherwise(pl.lit("both"))
    )
    frontier = pl.DataFrame(
        {
            "cost": [point.cost.units for point in evidence.frontier],
            "accuracy": [point.accuracy for point in evidence.frontier],
            "low": [point.accuracy_low for point in evidence.frontier],
            "high": [point.accuracy_high for point in evidence.frontier],
        }
    )
    # The last point's accuracy holds for every larger budget as well: the line goes on to the dearest mix.
    last = frontier.tail(1).with_columns(cost=pl.lit(frame["cost"].max(), dtype=pl.Float64))
    frontier = pl.concat([frontier, last])
    x = alt.X("cost:Q", title=f"cost of the labels trained on ({currency}, logarithmic)", scale=alt.Scale(type="log"))
    y = _accuracy("accuracy:Q")
    line = alt.Chart(frontier).encode(x=x)
    chart = alt.layer(
        line.mark_area(opacity=0.15, interpolate="step-after", color="#444").encode(y=_accuracy("low:Q"), y2="high:Q"),
        line.mark_line(interpolate="step-after", color="#444").encode(y=y),
        alt.Chart(frame)
        .mark_point(filled=True, size=60)
        .encode(
            x=x,
            y=y,
            color=alt.Color("kind:N", title="labels", scale=alt.Scale(scheme="tableau10"), legend=_legend()),
            shape=alt.Shape("kind:N", title="labels", legend=_legend()),
        ),
    ).properties(width=WIDTH, height=HEIGHT)
    return _svg(chart)


def line_svg(explanation: PlanExplanation) -> str:
    """Accuracy along the isocost line: posterior mean, and 5 % to 95 %; the larger a point, the more probably the best.

    The mix that is expected to be the most accurate is named.

    Args:
        explanation: With one mix or more.
    """
    line = explanation.line
    best = max(range(len(line)), key=lambda index: line[index].accuracy)
    frame = pl.DataFrame(
        {
            "weak_share": [forecast.weak_share for forecast in line],
            "accuracy": [forecast.accuracy for forecast in line],
            "low": [forecast.accuracy_low for forecast in line],
            "high": [forecast.accuracy_high for forecast in line],
            "probability_best": [forecast.probability_best for forecast in line],
            "mix": [f"{forecast.n_weak:,} weak + {forecast.n_human:,} human" for forecast in line],
            "is_best": [index == best for index in range(len(line))],
        }
    )
    x = alt.X(
        "weak_share:Q",
        title="share of the label cost spent on weak labels",
        scale=alt.Scale(domain=[0, 1]),
        axis=alt.Axis(format=".0%", tickCount=5),
    )

    def y(field: str) -> alt.Y:
        return alt.Y(
            field, title="expected accuracy", scale=alt.Scale(zero=False), axis=alt.Axis(format=".0%", tickCount=6)
        )

    base = alt.Chart(frame).encode(x=x)
    # Its words grow away from the edge that is near.
    share = line[best].weak_share
    align: Literal["left", "center", "right"] = "left" if share < 0.2 else "right" if share > 0.8 else "center"
    chart = alt.layer(
        base.mark_area(opacity=0.15, color=_ACCENT).encode(y=y("low:Q"), y2="high:Q"),
        base.mark_rule(opacity=0.45, color=_ACCENT).encode(y=y("low:Q"), y2="high:Q"),
        base.mark_line(color=_ACCENT).encode(y=y("accuracy:Q")),
        base.mark_point(filled=True, opacity=1, color=_ACCENT).encode(
            y=y("accuracy:Q"),
            size=alt.Size(
                "probability_best:Q",
                title="probability that no other mix is better",
                scale=alt.Scale(domain=[0, 1], range=[20, 420]),
                legend=alt.Legend(orient="bottom", format=".0%", values=[0.05, 0.25, 0.5, 1], titleLimit=0),
            ),
        ),
        base.transform_filter("datum.is_best")
        .mark_text(dy=-22, fontWeight="bold", align=align)
        .encode(y=y("accuracy:Q"), text="mix:N"),
    ).properties(width=WIDTH, height=HEIGHT)
    return _svg(chart)


def spending_svg(evidence: Evidence) -> str:
    """Money settled, label by label, by source."""
    currency = evidence.status.balance.budget.currency_code
    settled = [entry for entry in evidence.entries if entry.kind is EntryKind.SETTLE]
    frame = (
        pl.DataFrame(
            {
                "label": range(1, len(settled) + 1),
                "source": [entry.source_id for entry in settled],
                "micros": [entry.amount.micros for entry in settled],
            },
            schema={"label": pl.Int64, "source": pl.String, "micros": pl.Int64},
        )
        .with_columns(spent=pl.col("micros").cum_sum().over("source") / MICROS_PER_UNIT)
        # A step chart of at most some hundred corners draws the same picture as one of a million.
        .gather_every(max(1, len(settled) // 400))
    )
    chart = (
        alt.Chart(frame)
        .mark_line(interpolate="step-after")
        .encode(
            x=alt.X("label:Q", title="labels bought, in sequence"),
            y=alt.Y("spent:Q", title=f"spent on the source ({currency})"),
            color=alt.Color("source:N", title="source", legend=_legend()),
        )
        .properties(width=WIDTH, height=HEIGHT // 2)
    )
    return _svg(chart)
