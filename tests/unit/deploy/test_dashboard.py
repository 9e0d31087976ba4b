"""The dashboard shows metrics that exist: what a real scrape has."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from isocost.budget.database import Database
from isocost.budget.metrics import BudgetCollector
from isocost.core.metrics import MetricsServer
from isocost.core.server_settings import ServerSettings
from isocost.labeler.tally import Tally, make_collector
from tests.unit.deploy.manifests import ROOT

_PATH = ROOT / "deploy" / "dashboards" / "isocost.json"


def _queries() -> list[str]:
    board = json.loads(_PATH.read_text())
    shown = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    return shown + [one["query"] for one in board["templating"]["list"] if one["type"] == "query"]


@pytest.fixture
def scraped(tmp_path: Path) -> set[str]:
    """Names of all samples, of all services."""
    database = Database(f"sqlite:///{tmp_path / 'budget.db'}")
    database.migrate()
    collector = make_collector(Tally())
    assert collector is not None
    with MetricsServer(ServerSettings(metrics_address="127.0.0.1:0")) as metrics:
        metrics.add(BudgetCollector(database))
        metrics.add(collector)
        metrics.observe("/isocost.v1.BudgetService/GetCampaign", "OK", 0.1)
        with urlopen(f"http://{metrics.address}/metrics") as answer:
            text = answer.read().decode()
    database.close()
    names = set()
    for family in text_string_to_metric_families(text):
        # A family without samples yet has the samples of its type.
        names |= {sample.name for sample in family.samples} or {
            f"{family.name}_total" if family.type == "counter" else family.name
        }
    return names


def test_every_metric_of_the_dashboard_is_one_of_the_codes(scraped: set[str]) -> None:
    shown = {name for query in _queries() for name in re.findall(r"isocost_\w+", query)}
    assert len(shown) > 10
    assert shown <= scraped


def test_panels_are_whole() -> None:
    board = json.loads(_PATH.read_text())
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    areas: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & areas, panel["title"]
        areas |= cells
        if panel["type"] != "row":
            assert panel["description"]
            assert panel["targets"]


def test_brackets_of_the_queries_close() -> None:
    for query in _queries():
        for left, right in ("()", "{}", "[]"):
            assert query.count(left) == query.count(right), query
