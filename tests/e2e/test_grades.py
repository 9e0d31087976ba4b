"""Campaigns with two grades of human labels (docs/examples/microworld_grades.yaml), and with a choice of items."""

from __future__ import annotations

import copy
import signal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from tests.e2e.campaigns import EXAMPLES, bought, isocost, read_result, signal_at, small_campaign, write_campaign

pytestmark = pytest.mark.e2e

GRADES: dict[str, Any] = yaml.safe_load((EXAMPLES / "microworld_grades.yaml").read_text())


def _run(folder: Path, raw: dict[str, Any]) -> Path:
    done = isocost("run", write_campaign(folder, raw), "--out", folder / "out", "--engine", "transformers")
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "out" / "said.txt").write_text(done.stdout)
    return folder / "out"


@pytest.fixture(scope="module")
def grades(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of the example, run to its end, items chosen by cost_aware."""
    return _run(tmp_path_factory.mktemp("grades"), {**copy.deepcopy(GRADES), "human_sampling": "cost_aware"})


def _n_labels(result: dict[str, Any], source: str) -> dict[str, int]:
    return {row["purpose"]: row["n_labels"] for row in result["labels_by_purpose"] if row["source"] == source}


def test_the_first_grade_measures_and_each_plan_says_from_which_to_buy(grades: Path) -> None:
    result = read_result(grades)
    expert, crowd = result["human_sources"]
    assert (expert["reference"], crowd["reference"]) == (True, False)
    assert crowd["n_measured"] == 20
    low, high = crowd["accuracy_interval"]
    assert low <= crowd["accuracy"] <= high
    experts, crowds = _n_labels(result, "expert"), _n_labels(result, "crowd")
    assert (experts["evaluation"], experts["pilot"], crowds["evaluation"]) == (30, 24, 20)
    assert "pilot" not in crowds
    # What the plans said was bought, whole, and nothing else.
    for source, labels in (("expert", experts), ("crowd", crowds)):
        planned = [p for plan in result["plans"] for p in plan["purchases"] if p["source"] == source]
        assert labels.get("training", 0) == sum(purchase["n_labels"] for purchase in planned)
    assert crowds.get("training", 0) + experts.get("training", 0) > 0
    # The reference's alone are evaluated on.
    assert result["n_eval"] == 30
    assert result["spent"] <= result["budget"]
    assert "human labels by expected accuracy" in result["weak_source_choice"]["reason"]
    assert "crowd: ." in (grades / "said.txt").read_text()


def test_a_mix_costs_what_its_labels_did_whatever_their_grade(grades: Path) -> None:
    observations = pl.read_parquet(grades / "observations.parquet")
    ledger = pl.read_parquet(grades / "ledger.parquet").filter(pl.col("source_id") != "weak", kind="settle")
    # In sequence: 30 to evaluate with, the pilot's 24, the 20 that the crowd is measured by, and what plans said.
    micros = ledger["amount_micros"].to_list()
    paid = [*micros[30:54], *micros[74:]]
    assert observations["n_human"].max() == len(paid) > 24
    for row in observations.iter_rows(named=True):
        assert row["cost_micros"] == row["n_weak"] * 100_000 + sum(paid[: row["n_human"]])
    costs = set(observations["cost_micros"].to_list())
    assert {round(point["cost"] * 1e6) for point in read_result(grades)["frontier"]} <= costs


def test_killed_once_the_items_are_chosen_it_takes_the_same_ones(tmp_path: Path, grades: Path) -> None:
    raw = {**copy.deepcopy(GRADES), "human_sampling": "cost_aware"}
    path, killed = write_campaign(tmp_path, raw), tmp_path / "out"
    moments = ("human labels: measure-crowd:", "choosing items: plan-0-", "human labels: plan-0-")
    for words in moments:
        returncode, _ = signal_at(path, killed, words, signal.SIGKILL)
        assert returncode == -signal.SIGKILL
    done = isocost("run", path, "--out", killed, "--engine", "transformers")
    assert done.returncode == 0, done.stdout + done.stderr
    assert bought(killed) == bought(grades)


def test_uncertain_items_go_to_people_and_a_target_ends_the_campaign(tmp_path: Path) -> None:
    raw = small_campaign()
    raw["human_sampling"] = "uncertainty"
    raw["gain_min"] = 0.0
    raw["budget"] = 90
    raw["sources"][0]["unit_price"] = 0.4
    result = read_result(out := _run(tmp_path, raw))
    said = (out / "said.txt").read_text()
    humans = _n_labels(result, "human")
    # Evaluation and pilot are at random, what the plans bought is not.
    assert (humans["evaluation"], humans["pilot"]) == (30, 12)
    n_choices = said.count("choosing items: plan-") // 2
    planned = [p for plan in result["plans"] for p in plan["purchases"] if p["source"] == "human"]
    assert n_choices == len(planned) > 0
    assert humans["training"] == sum(purchase["n_labels"] for purchase in planned)

    raw["campaign"], raw["target_accuracy"] = "with_target", 0.51
    (folder := tmp_path / "target").mkdir()
    reached = read_result(_run(folder, raw))
    assert [plan["decision"] for plan in reached["plans"]] == ["stop"]
    assert "target" in reached["plans"][0]["reason"]
    assert reached["spent"] < result["spent"]
