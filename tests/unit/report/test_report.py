from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import polars as pl
import pytest

from isocost.client.budget import CampaignStatus
from isocost.core.money import Money
from isocost.economics.frontier import CostedPoint, average_seeds
from isocost.economics.regime import Regime
from isocost.report.chart import budget_tiers
from isocost.report.evidence import Evidence
from isocost.report.page import REPORT_FILES, write_report
from isocost.resources.campaign import Balance, Campaign, EntryKind, LedgerEntry
from isocost.resources.observation import Decision, Evaluation, FrontierPoint, Observation, Plan, Purchase
from isocost.resources.task import Source, SourceKind, Task

WEAK, HUMAN = Money(100_000), Money(1_000_000)
MIXES = {(100, 0): 0.7, (0, 20): 0.6, (100, 20): 0.8, (50, 20): 0.75}


def _evidence() -> Evidence:
    task = Task("t", "{text}", ("<no>", "yes"))
    observations = tuple(
        Observation(
            f"run-{w}-{h}",
            "sequential_sft",
            w,
            h,
            0,
            Evaluation("evaluation", 50, a, a - 0.1, a + 0.1, a),
            weak_source_id="weak",
            human_source_id="human",
            cost=Money(w * WEAK.micros + h * HUMAN.micros),
        )
        for (w, h), a in MIXES.items()
    )
    points = average_seeds(
        [o.point for o in observations], weak_price_micros=WEAK.micros, human_price_micros=HUMAN.micros
    )
    frontier = (FrontierPoint(Money(10_000_000), 0.7, 0.6, 0.8, 100, 0, "sequential_sft", 1),)
    plans = (
        Plan(
            "p1", "c", Decision.BUY, (Purchase("human", 5, Money(5_000_000), 0.1),), "a < b", Regime.MIXED, "rule", "{}"
        ),
        Plan("p2", "c", Decision.STOP, (), "enough", Regime.MIXED, "rule", "{}"),
    )
    entries = (
        LedgerEntry(1, "c", "o", "human", EntryKind.RESERVE, Money(2_000_000)),
        LedgerEntry(2, "c", "o", "human", EntryKind.SETTLE, HUMAN, "l1"),
        LedgerEntry(3, "c", "o", "human", EntryKind.RELEASE, HUMAN),
    )
    campaign = Campaign("c", task, Money(100_000_000), "model")
    return Evidence(
        status=CampaignStatus(campaign, Balance(Money(100_000_000), HUMAN, Money(0)), 10, 5),
        sources=(Source("weak", SourceKind.MODEL, WEAK, "m"), Source("human", SourceKind.HUMAN, HUMAN)),
        labels_bought={"weak": 0, "human": 1},
        labels_by_purpose={("human", "pilot"): 1},
        entries=entries,
        observations=observations,
        points=tuple(points),
        frontier=frontier,
        plans=plans,
    )


def test_every_file_is_written_whole(tmp_path: Path) -> None:
    paths = write_report(_evidence(), tmp_path)
    assert [path.name for path in paths] == list(REPORT_FILES)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(REPORT_FILES)
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["n_weak"], result["n_human"], result["accuracy"]) == (100, 20, 0.8)
    assert result["accuracy_interval"] == pytest.approx([0.7, 0.9])
    assert result["test"] is None
    assert [plan["decision"] for plan in result["plans"]] == ["buy", "stop"]
    assert pl.read_parquet(tmp_path / "ledger.parquet")["kind"].to_list() == ["reserve", "settle", "release"]
    assert pl.read_parquet(tmp_path / "observations.parquet").height == len(MIXES)


def test_text_from_outside_is_escaped(tmp_path: Path) -> None:
    write_report(_evidence(), tmp_path)
    html = (tmp_path / "report.html").read_text()
    assert "a &lt; b" in html
    assert "&lt;no&gt;" in html
    assert "<no>" not in html


def test_a_campaign_that_bought_nothing_yet_has_a_report(tmp_path: Path) -> None:
    write_report(dataclasses.replace(_evidence(), entries=(), plans=(), labels_by_purpose={}), tmp_path)
    assert "No plan was made yet" in (tmp_path / "report.html").read_text()


def test_a_point_belongs_to_the_smallest_budget_that_pays_for_it() -> None:
    def point(cost: int) -> CostedPoint:
        return CostedPoint(cost, 1, 0, "m", 0.5, 0.4, 0.6, 1)

    tiers = {p.point.cost_micros: p.tier_micros for p in budget_tiers([point(c) for c in (1, 50, 51, 80, 100)], 1)}
    assert tiers == {1: 12, 50: 50, 51: 100, 80: 100, 100: 100}
