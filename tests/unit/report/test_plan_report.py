"""Plans in the report: the decision, and the numbers behind the last one."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

from isocost.report.chart import line_svg
from isocost.report.page import write_report
from isocost.report.plan_table import (
    decision_words,
    line_rows,
    plan_result,
    regime_words,
    source_rows,
    tranche_rows,
)
from isocost.resources.plan import Plan
from tests.unit.report.planned import explained_plan
from tests.unit.report.test_report import complete_evidence


def _page(plans: tuple[Plan, ...], out: Path) -> str:
    write_report(dataclasses.replace(complete_evidence(), plans=plans), out)
    return (out / "report.html").read_text(encoding="utf-8")


def test_a_decision_is_said_in_words() -> None:
    plan = explained_plan()
    assert decision_words(plan) == "buy 20 human labels for $20.00 and 1 weak label for $0.10"
    assert decision_words(dataclasses.replace(plan, purchases=())) == "stop"
    assert regime_words(plan) == "mixed, probability 72 %"
    assert regime_words(dataclasses.replace(plan, explanation=None)) == "mixed"


def test_the_line_is_a_table_with_its_best_mix_marked() -> None:
    rows = line_rows(explained_plan())
    assert len(rows) == 11
    (best,) = [row for row in rows if row.is_best]
    assert (best.weak_share, best.n_weak, best.n_human) == ("40 %", "800", "120")
    assert (best.accuracy, best.interval) == ("82.0 %", "77.0 to 86.0")
    assert (rows[0].n_weak, rows[-1].n_weak, rows[-1].n_human) == ("0", "2,000", "0")


def test_the_value_of_each_source_is_in_points() -> None:
    rows = {row.source: row for row in tranche_rows(explained_plan())}
    assert (rows["human"].n_labels, rows["human"].cost) == ("30", "$30.00")
    assert (rows["human"].gain, rows["human"].final_gain) == ("+1.2", "+4.0")
    assert rows["weak<2>"].gain == "-0.1"
    assert (rows["crowd"].n_labels, rows["crowd"].cost, rows["crowd"].gain) == ("0", "$0.00", "+0.0")


def test_what_was_measured_of_each_source_is_shown() -> None:
    weak, few, reference, crowd = source_rows(explained_plan())
    assert (weak.kind, weak.price, weak.n_bought) == ("weak", "$0.10", "800")
    assert (weak.accuracy, weak.interval, weak.n_measured) == ("75.0 %", "59.8 to 85.8", "40")
    assert (few.price, few.accuracy, few.interval, few.n_measured) == ("$0.000376", "-", "-", "7")
    assert (reference.kind, reference.accuracy, reference.n_measured) == ("human", "-", "0")
    assert crowd.accuracy == "90.0 %"
    assert source_rows(dataclasses.replace(explained_plan(), inputs_json="{}")) == []


def test_the_page_explains_the_last_plan(tmp_path: Path) -> None:
    html = _page((dataclasses.replace(explained_plan("p0"), explanation=None), explained_plan()), tmp_path)
    words = re.sub(r"\s+", " ", html)
    assert words.count("Buy 20 human labels for $20.00 and 1 weak label for $0.10.") == 2
    assert words.count("weak labels have stopped helping: a &lt; b") == 2
    assert "Regime: mixed, probability 72 %." in words
    assert "<strong>78.1 %</strong>, and of <strong>82.2 %</strong> once everything is spent" in words
    assert "800 weak + 120 human" in words, "the best mix is named in the chart"
    assert "weak&lt;2&gt;" in words
    assert "weak<2>" not in words
    assert "<script" not in words
    assert words.count("<svg") == 4


def test_a_page_without_explanation_shows_the_decision_alone(tmp_path: Path) -> None:
    html = _page((dataclasses.replace(explained_plan(), explanation=None, inputs_json="{}"),), tmp_path)
    assert "Buy 20 human labels" in html
    assert "The last decision in numbers" not in html
    assert "What was known of the sources" not in html
    assert html.count("<svg") == 3


def test_an_explanation_with_a_single_mix_or_none_has_a_page(tmp_path: Path) -> None:
    plan = explained_plan()
    assert plan.explanation is not None
    for line in (plan.explanation.line[:1], ()):
        explanation = dataclasses.replace(plan.explanation, line=line)
        html = _page((dataclasses.replace(plan, explanation=explanation),), tmp_path)
        assert html.count("<svg") == (4 if line else 3)
        assert "The last decision in numbers" in html


def test_a_larger_point_is_more_probably_the_best() -> None:
    explanation = explained_plan().explanation
    assert explanation is not None
    flat = dataclasses.replace(
        explanation, line=tuple(dataclasses.replace(one, probability_best=0.5) for one in explanation.line)
    )
    assert line_svg(explanation) != line_svg(flat)
    assert line_svg(explanation) == line_svg(explanation)


def test_programs_read_the_same_numbers(tmp_path: Path) -> None:
    plan = explained_plan()
    _page((plan, dataclasses.replace(plan, purchases=(), explanation=None)), tmp_path)
    first, second = json.loads((tmp_path / "result.json").read_text())["plans"]
    assert first == json.loads(json.dumps(plan_result(plan)))
    assert first["reason"] == plan.reason
    explanation = first["explanation"]
    assert (explanation["regime_probability"], explanation["accuracy_now"]) == (0.724, 0.7812)
    assert explanation["line"][4]["n_human"] == 120
    assert explanation["line"][4]["accuracy_interval"] == [0.77, 0.86]
    assert explanation["tranches"][0] == {
        "source": "weak",
        "n_labels": 300,
        "cost": 30.0,
        "gain": 0.0021,
        "final_gain": 0.0312,
    }
    assert second["explanation"] is None
