"""Writing the report of a sweep into its folder: one page without scripts, its figures and its tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import polars as pl
from markupsafe import Markup

from isocost.report.sweep.cells import Setting
from isocost.report.sweep.charts import Chart, contest_chart, few_shot_chart, frontier_chart, mix_chart, money
from isocost.report.sweep.contests import Contest
from isocost.report.sweep.files import file_name, write_figure, write_table, write_text
from isocost.report.sweep.findings import SettingFindings, SweepFindings, find
from isocost.report.sweep.latex_tables import frame_latex, methods_latex
from isocost.report.sweep.measures import MEASURES
from isocost.report.sweep.rows import (
    BestCell,
    best_cell,
    method_tables,
    mix_text,
    percent,
    regime_table,
    scope_title,
)

__all__ = ["write_sweep_report"]

_MIX_NOTE = (
    "Each line is a budget: from human labels only (left) to weak labels only (right), with its 95 % band. A diamond is"
    " the best point of its line. Filled points are told apart from it by the paired test, adjusted for all pairs of"
    " the line; hollow ones are not. A point may cost up to 10 % more than its budget where the few-shot block needs a"
    " label that the mix does not have."
)
_FRONTIER_NOTE = (
    "No other mix of the same method is both cheaper and more accurate than a point of its line. A point is filled"
    " where it is proven better than the last filled one before it (paired test, adjusted); hollow ones may be luck."
)
_FEW_SHOT_NOTE = (
    "Labelled examples in the prompt, their number and whose labels they show, against the kind of label that was"
    " fine-tuned on. At 0 stands prompting alone."
)


@dataclass(frozen=True, slots=True)
class _Figure:
    title: str
    note: str = ""
    svg: Markup = field(default_factory=Markup)
    more_title: str = ""
    more: list[_Figure] = field(default_factory=list)


class _Folder:
    """Where figures and tables are written, and what was written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.paths: list[Path] = []

    def figure(self, name: str, chart: Chart, title: str, note: str = "") -> _Figure:
        svg, paths = write_figure(self._folder / "figures", name, chart)
        self.paths += paths
        # The charts are our own SVG; everything else on the page is escaped.
        return _Figure(title, note, Markup(svg))

    def table(self, name: str, table: pl.DataFrame, latex: str) -> None:
        self.paths += write_table(self._folder / "tables", name, table, latex)

    def page(self, html: str) -> None:
        self.paths.insert(0, write_text(self._folder / "report.html", html))


def write_sweep_report(folder: Path, findings: SweepFindings | None = None) -> list[Path]:
    """Writes report.html, figures/ (SVG and PNG) and tables/ (CSV, Parquet and LaTeX) into a sweep's folder.

    Args:
        folder: Of the sweep.
        findings: As of `find`, where they are known already.

    Returns:
        The paths, the page first. Each file is whole or not there.

    Raises:
        InvalidArgumentError, FailedPreconditionError: as `find`.
    """
    found = findings or find(folder)
    source, out = found.source, _Folder(folder)
    parts = [_part(setting, found, out) for setting in found.settings]
    contests = [
        *(_contest(contest, "Weak labellers compared", found, out) for contest in found.labeller_contests),
        *(_contest(contest, "Strong models compared", found, out) for contest in found.model_contests),
    ]
    _write_tables(found, out)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("isocost.report.sweep", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["money"] = lambda amount: money(amount, source.currency)
    environment.filters["percent"] = percent
    html = environment.get_template("page.html.j2").render(
        findings=found,
        source=source,
        n_succeeded=source.results.height - found.failed.height,
        prices=[money(price, source.currency) for price in source.weak_prices] or ["-"],
        budgets=[money(budget, source.currency) for budget in source.budgets] or ["-"],
        parts=parts,
        contests=contests,
        measured=found.measured.to_dicts(),
        failed=found.failed.to_dicts(),
        mix_text=mix_text,
        measure_names=MEASURES,
    )
    out.page(html)
    return out.paths


def _slug(setting: Setting, found: SweepFindings) -> str:
    """What tells the files of one setting from those of another; nothing where there is but one."""
    return "" if len(found.settings) == 1 else f"{found.settings_index(setting) + 1}-{setting.title}"


def _part(finding: SettingFindings, found: SweepFindings, out: _Folder) -> dict[str, Any]:
    """One setting's part of the page."""
    currency, scope = found.source.currency, finding.scopes[0]
    slug = _slug(finding.setting, found)
    figures = _mix_figures(finding, currency, slug, out)
    frontier = finding.frontier.filter(pl.col("task") == scope)
    if not frontier.is_empty():
        title = f"The frontier, {scope_title(scope)}"
        figure = out.figure(file_name("frontier", slug), frontier_chart(frontier, currency), title, _FRONTIER_NOTE)
        if len(finding.scopes) > 1:
            chart = frontier_chart(finding.frontier.filter(pl.col("task") != scope), currency)
            other = out.figure(file_name("frontier-tasks", slug), chart, "task by task")
            figure = _with_more(figure, "task by task", [other])
        figures.append(figure)
    if finding.n_few_shot_settings > 1:
        rows = finding.few_shot.filter(pl.col("task") == scope)
        figures.append(
            out.figure(
                file_name("few-shot", slug),
                few_shot_chart(rows),
                f"Few-shot examples against fine-tuning, {scope_title(scope)}",
                _FEW_SHOT_NOTE,
            )
        )
    return {
        "title": finding.setting.title,
        "scope": scope_title(scope)[:1].upper() + scope_title(scope)[1:]
        if len(finding.scopes) > 1
        else f"Task {scope}",
        "several_tasks": len(finding.scopes) > 1,
        "methods": method_tables(finding.best.filter(pl.col("task") == scope), list(finding.lines), currency),
        "regimes": _regime_matrices(finding, currency),
        "measures": finding.measures.filter(pl.col("task") == scope).to_dicts(),
        "figures": figures,
    }


def _with_more(figure: _Figure, title: str, more: list[_Figure]) -> _Figure:
    return _Figure(figure.title, figure.note, figure.svg, title, more)


def _mix_figures(finding: SettingFindings, currency: str, slug: str, out: _Folder) -> list[_Figure]:
    """Accuracy against the weak share: the first method's on the page, the others folded away below it."""
    scope, drawn = finding.scopes[0], []
    for method, lines in finding.lines.items():
        shown = lines.filter(pl.col("task") == scope)
        if shown.is_empty():
            continue
        title = f"{method}, {scope_title(scope)}"
        drawn.append(out.figure(file_name("mix", slug, method), mix_chart(shown, currency), title))
        tasks = lines.filter(pl.col("task") != scope)
        if not tasks.is_empty():
            chart = mix_chart(tasks, currency)
            drawn.append(out.figure(file_name("mix-tasks", slug, method), chart, f"{method}, task by task"))
    if not drawn:
        return []
    first = _Figure(f"Accuracy against the weak share: {drawn[0].title}", _MIX_NOTE, drawn[0].svg)
    return [_with_more(first, "other methods and single tasks", drawn[1:])]


def _regime_matrices(finding: SettingFindings, currency: str) -> list[dict[str, Any]]:
    matrices = []
    for scope in finding.scopes:
        for method in finding.lines:
            own = finding.regimes.filter(pl.col("task") == scope, pl.col("method") == method)
            if own.is_empty():
                continue
            budgets, rows = regime_table(own, currency)
            matrices.append({"title": f"{method}, {scope_title(scope)}", "budgets": budgets, "rows": rows})
    return matrices


def _contest(contest: Contest, title: str, found: SweepFindings, out: _Folder) -> dict[str, Any]:
    currency = found.source.currency
    scope = found.settings[0].scopes[0]
    rows = contest.rows.filter(pl.col("task") == scope)
    if rows.is_empty():
        scope = str(contest.rows["task"][0])
        rows = contest.rows.filter(pl.col("task") == scope)
    what = {"weak_labeller": "weak labeller", "strong_model": "strong model"}[contest.field]
    name = file_name(what, contest.common if contest.field == "strong_model" else contest.common.rsplit("/", 1)[-1])
    figure = out.figure(name, contest_chart(rows, contest.field, what, currency), title)
    names = sorted(rows[contest.field].unique())
    lines = []
    by_line = rows.sort("weak_price", "budget", descending=[True, False]).group_by(
        "weak_price", "budget", maintain_order=True
    )
    for (price, budget), group in by_line:
        cells: dict[str, BestCell] = {row[contest.field]: best_cell(row) for row in group.iter_rows(named=True)}
        lines.append(
            {
                "price": money(float(str(price)), currency),
                "budget": money(float(str(budget)), currency),
                "cells": [cells.get(contestant) for contestant in names],
                "p_value": _p_text(group["p_value"].max()),
            }
        )
    same_price = " A weak label costs the same whoever makes it." if contest.field == "weak_labeller" else ""
    fixed = "" if not contest.common else f" with {contest.common.rsplit('/', 1)[-1]}"
    return {
        "title": f"{title}{fixed}",
        "note": f"The best mix of {contest.method} within each budget, {scope_title(scope)}.{same_price}"
        " Bold: the best; ≈ and hollow points: not told apart from it by the paired test.",
        "svg": figure.svg,
        "names": names,
        "rows": lines,
    }


def _p_text(p_value: object) -> str:
    if p_value is None:
        return "-"
    return f"{float(str(p_value)):.3f}" if float(str(p_value)) >= 0.001 else "< 0.001"


def _write_tables(found: SweepFindings, out: _Folder) -> None:
    """Every table, of all settings together and for each task; LaTeX is of the first scope of each setting."""
    latex = []
    for finding in found.settings:
        scope = finding.scopes[0]
        best = finding.best.filter(pl.col("task") == scope)
        tables = method_tables(best, list(finding.lines), found.source.currency)
        latex.append(
            methods_latex(finding.setting.title, scope_title(scope), tables, file_name(_slug(finding.setting, found)))
        )
    out.table("methods", _together(found, [finding.best for finding in found.settings]), "\n".join(latex))
    lines = [pl.concat(finding.lines.values()) if finding.lines else pl.DataFrame() for finding in found.settings]
    for name, caption, frames in (
        ("lines", "Accuracy along each budget's line.", lines),
        ("frontier", "The frontier of each method.", [finding.frontier for finding in found.settings]),
        ("regimes", "Regimes with their probabilities.", [finding.regimes for finding in found.settings]),
        ("few_shot", "Few-shot examples against fine-tuning.", [finding.few_shot for finding in found.settings]),
        (
            "measures",
            "AUROC, calibration and loss of the best mixes.",
            [finding.measures for finding in found.settings],
        ),
    ):
        _plain(out, name, caption, _together(found, frames))
    for name, caption, contests in (
        ("weak_labellers", "Weak labellers compared.", found.labeller_contests),
        ("strong_models", "Strong models compared.", found.model_contests),
    ):
        if contests:
            other = "strong_model" if contests[0].field == "weak_labeller" else "weak_labeller"
            frame = pl.concat(contest.rows.with_columns(pl.lit(contest.common).alias(other)) for contest in contests)
            _plain(out, name, caption, frame)
    _plain(out, "measured", "What was measured.", found.measured)
    if not found.failed.is_empty():
        _plain(out, "failed", "Runs that did not succeed.", found.failed)


def _plain(out: _Folder, name: str, caption: str, frame: pl.DataFrame) -> None:
    out.table(name, frame, frame_latex(frame, caption=caption, label=f"tab:{name.replace('_', '-')}"))


def _together(found: SweepFindings, frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """One frame of all settings, with the setting's names."""
    named = [
        frame.select(
            pl.lit(finding.setting.strong_model).alias("strong_model"),
            pl.lit(finding.setting.weak_labeller).alias("weak_labeller"),
            pl.all(),
        )
        for finding, frame in zip(found.settings, frames, strict=True)
        if frame.width
    ]
    return pl.concat(named) if named else pl.DataFrame({"strong_model": [], "weak_labeller": []})
