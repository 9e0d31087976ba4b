"""Writing a report into a folder."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from isocost.core.money import Money
from isocost.report.chart import frontier_svg, line_svg, mix_svg, spending_svg
from isocost.report.evidence import Evidence
from isocost.report.plan_table import decision_words, line_rows, regime_words, source_rows, tranche_rows
from isocost.report.table import ledger_frame, observations_frame, result
from isocost.report.weak_table import weak_source_rows
from isocost.resources.campaign import EntryKind
from isocost.resources.observation import Evaluation

__all__ = ["REPORT_FILES", "page_environment", "page_parts", "write_report"]

#: What `write_report` writes.
REPORT_FILES = ("report.html", "result.json", "observations.parquet", "ledger.parquet")


def _accuracy(value: float) -> str:
    return f"{100 * value:.1f} %"


def _interval(evaluation: Evaluation) -> str:
    low, high = _accuracy(evaluation.accuracy_low), _accuracy(evaluation.accuracy_high)
    return f"{low} to {high}, on {evaluation.n_eval:,}"


def _spending_rows(evidence: Evidence) -> Iterable[dict[str, object]]:
    for (source, purpose), n_labels in sorted(evidence.labels_by_purpose.items()):
        yield {
            "source": source,
            "purpose": purpose,
            "n_labels": n_labels,
            "mean_price": evidence.mean_price(source, purpose),
            "cost": evidence.paid[source, purpose],
        }


def page_environment() -> jinja2.Environment:
    """The templates of a campaign's pages: the report, and its parts `frontier.html.j2` and `plans.html.j2`."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("isocost.report", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["accuracy"] = _accuracy
    environment.filters["interval"] = _interval
    environment.filters["decision"] = decision_words
    environment.filters["regime"] = regime_words
    return environment


def page_parts(evidence: Evidence) -> dict[str, Any]:
    """What the templates of the frontier and of the plans show."""
    last_plan = evidence.plans[-1] if evidence.plans else None
    explanation = last_plan.explanation if last_plan else None
    return {
        "evidence": evidence,
        "shipped": evidence.shipped,
        "shipped_point": evidence.shipped_point,
        "explanation": explanation,
        "line": line_rows(last_plan) if last_plan else [],
        "tranches": tranche_rows(last_plan) if last_plan else [],
        "plan_sources": source_rows(last_plan) if last_plan else [],
        # The charts are our own SVG; everything else is escaped.
        "frontier_chart": Markup(frontier_svg(evidence)),
        "line_chart": Markup(line_svg(explanation)) if explanation and explanation.line else "",
    }


def write_report(evidence: Evidence, out: Path) -> list[Path]:
    """Writes report.html, result.json, observations.parquet and ledger.parquet; returns their paths.

    Each file is whole or not there: it is written beside its place and moved.
    """
    out.mkdir(parents=True, exist_ok=True)
    html = (
        page_environment()
        .get_template("report.html.j2")
        .render(
            **page_parts(evidence),
            campaign=evidence.status.campaign,
            balance=evidence.status.balance,
            spending=list(_spending_rows(evidence)),
            weak_rows=weak_source_rows(evidence),
            released=Money(
                sum(entry.amount.micros for entry in evidence.entries if entry.kind is EntryKind.RELEASE),
                evidence.status.balance.budget.currency_code,
            ),
            mix_chart=Markup(mix_svg(evidence)),
            spending_chart=Markup(spending_svg(evidence)),
        )
    )
    content = json.dumps(result(evidence), indent=2, ensure_ascii=False) + "\n"
    frames = {"observations.parquet": observations_frame(evidence), "ledger.parquet": ledger_frame(evidence)}
    paths = []
    for name in REPORT_FILES:
        path, partial = out / name, out / f".{name}.partial"
        if name in frames:
            frames[name].write_parquet(partial)
        else:
            partial.write_text(html if name == "report.html" else content, encoding="utf-8")
        partial.replace(path)
        paths.append(path)
    return paths
