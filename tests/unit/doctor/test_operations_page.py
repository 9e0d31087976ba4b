"""docs/operations.md tells of every metric, every revision and every check that there is."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path

import yaml
from alembic.script import ScriptDirectory
from prometheus_client import CollectorRegistry

import isocost.budget
from isocost.budget.database import Database
from isocost.budget.metrics import BudgetCollector
from isocost.core.metrics import MetricsServer
from isocost.core.server_settings import ServerSettings
from isocost.labeler.tally import Tally, make_collector

REPOSITORY = Path(__file__).parents[3]
PAGE = (REPOSITORY / "docs" / "operations.md").read_text(encoding="utf-8")
#: The modules that make metrics: one more has metrics that this test does not know.
MODULES = {"budget/metrics.py", "core/metrics.py", "labeler/tally.py"}


def section(heading: str) -> str:
    return PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def metrics_of_the_code(folder: Path) -> dict[str, set[str]]:
    """The labels of each metric, by its name as Prometheus shows it."""
    tally = Tally(n_computed=1)
    tally.n_errors["TOO_LONG"] = 1
    labeler = make_collector(tally)
    assert labeler is not None
    found: dict[str, set[str]] = {}
    with closing(Database(f"sqlite:///{folder}/budget.db")) as database:
        database.migrate()
        for family in BudgetCollector(database).collect():
            # Families of gauges have their labels' names before they have any sample.
            found[family.name] = set(family._labelnames)  # type: ignore[attr-defined]
    for family in labeler.collect():
        found[f"{family.name}_total"] = {name for sample in family.samples for name in sample.labels}
    with MetricsServer(ServerSettings(metrics_address="127.0.0.1:0")) as server:
        server.observe("/isocost.v1.BudgetService/Plan", "OK", 0.1)
        registry: CollectorRegistry = server._registry
        for family in registry.collect():
            names = {name for sample in family.samples for name in sample.labels}
            found[family.name] = names - {"le"}
    return found


def test_every_metric_and_its_labels_are_told(tmp_path: Path) -> None:
    rows = re.findall(r"^\| `(isocost_\w+)` \|([^|]*)\|", section("Metrics"), re.MULTILINE)
    told = {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}
    assert told == metrics_of_the_code(tmp_path)
    assert len(rows) == len(told)


def test_no_other_module_makes_metrics() -> None:
    services = REPOSITORY / "services" / "isocost"
    makers = {
        str(path.relative_to(services))
        for path in services.rglob("*.py")
        if re.search(r"MetricFamily\(|prometheus_client\.(Counter|Gauge|Histogram|Summary)\(", path.read_text("utf-8"))
    }
    assert makers == MODULES


def test_alerts_are_rules_of_known_metrics_and_each_is_explained(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", section("Alerts"), re.DOTALL)
    rules = yaml.safe_load(block)["groups"][0]["rules"]
    known = metrics_of_the_code(tmp_path).keys()
    for rule in rules:
        assert rule.keys() <= {"alert", "expr", "for"}
        named = {
            re.sub(r"(?<=_seconds)_(count|bucket)$", "", name) for name in re.findall(r"isocost_\w+", rule["expr"])
        }
        assert named
        assert named <= known
        assert rule["expr"].count("(") == rule["expr"].count(")")
    assert re.findall(r"^\| `(\w+)` \|", section("Alerts"), re.MULTILINE) == [rule["alert"] for rule in rules]


def test_every_revision_is_told() -> None:
    scripts = ScriptDirectory(str(Path(isocost.budget.__path__[0]) / "migrations"))
    told = re.findall(r"^\| (\d{4}) \|", section("Upgrading"), re.MULTILINE)
    assert told == sorted(script.revision for script in scripts.walk_revisions())
