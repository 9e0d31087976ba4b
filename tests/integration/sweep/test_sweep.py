"""A real sweep: what it leaves, what it does not do twice, and what does not stop it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from isocost.sweep.results import read_results, read_sweep
from tests.integration.sweep.sweeps import Said, results, sweep, trained


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sweep")
    outcome = sweep(out)
    assert (outcome.n_runs, outcome.n_succeeded, outcome.n_failed) == (7, 7, 0)
    return out


def test_every_run_is_a_row(finished: Path) -> None:
    rows = pl.read_parquet(finished / "results.parquet")
    columns = ["method", "sft", "weak_labeller", "n_weak", "n_human", "seed", "state", "n_eval"]
    assert rows.select(columns).sort("sft", "n_weak").rows() == [
        ("few_shot_prompting_0shot", "none", "", 0, 0, 1, "succeeded", 20),
        ("joint_sft", "weak+human", "", 0, 8, 1, "succeeded", 20),
        ("joint_sft", "weak+human", "weak", 40, 4, 1, "succeeded", 20),
        ("joint_sft", "weak+human", "weak", 80, 0, 1, "succeeded", 20),
        ("sequential_sft", "weak>human", "", 0, 8, 1, "succeeded", 20),
        ("sequential_sft", "weak>human", "weak", 40, 4, 1, "succeeded", 20),
        ("sequential_sft", "weak>human", "weak", 80, 0, 1, "succeeded", 20),
    ]
    accuracies = rows.filter(pl.col("n_weak") > 0)["weak_label_accuracy"]
    assert accuracies.n_unique() == 1
    # The carried weak model is right on three of four claims.
    assert 0.6 < accuracies[0] < 0.9
    # Accuracies are what a sweep is for: no weights are written out.
    assert not list(finished.rglob("output"))
    assert rows.filter(pl.col("n_weak") == 0)["weak_label_accuracy"].is_null().all()


def test_measures_are_those_of_the_predictions(finished: Path) -> None:
    item_ids = set()
    for row in pl.read_parquet(finished / "results.parquet").iter_rows(named=True):
        predictions = pl.read_parquet(finished / "predictions" / f"{row['run_id']}.parquet")
        right = predictions["probabilities"].list.arg_max() == predictions["choice"]
        assert row["accuracy"] == pytest.approx(float(right.mean()))  # type: ignore[arg-type]
        assert row["accuracy_low"] <= row["accuracy"] <= row["accuracy_high"]
        item_ids.add(tuple(predictions["item_id"]))
    # The same items in the same order for all.
    assert len(item_ids) == 1
    assert len(item_ids.pop()) == 20


def test_the_grid_and_the_spec_are_there_for_a_report(finished: Path) -> None:
    grid = pl.read_parquet(finished / "grid.parquet")
    assert grid.rows() == [
        ("microworld", 0.1, 8.0, 0.0, 0, 8, False),
        ("microworld", 0.1, 8.0, 0.5, 40, 4, False),
        ("microworld", 0.1, 8.0, 1.0, 80, 0, False),
    ]
    stated = read_sweep(finished)
    assert (stated["name"], stated["currency"], stated["human_price"]) == ("small", "USD", 1.0)
    assert (stated["weak_prices"], stated["budgets"], stated["weak_fractions"]) == ([0.1], [8.0], [0.0, 0.5, 1.0])
    assert stated["spec"]["methods"][1]["method"] == "sequential_sft"
    assert stated["tasks"] == {"microworld": {"n_test": 20, "n_gold": 0, "n_human_max": 8, "n_weak_max": 80}}


def test_results_are_read_as_they_were_written(finished: Path) -> None:
    rows = read_results(finished)
    assert {row.key for row in rows} == {
        ("microworld", labeller, "microworld:strong", method, n_weak, n_human, 1)
        for method in ("sequential_sft", "joint_sft")
        for labeller, n_weak, n_human in (("", 0, 8), ("weak", 40, 4), ("weak", 80, 0))
    } | {("microworld", "", "microworld:strong", "few_shot_prompting_0shot", 0, 0, 1)}


def test_repeated_nothing_is_trained_again(finished: Path) -> None:
    before, rows = trained(finished), results(finished)
    assert before
    outcome = sweep(finished)
    assert outcome.n_succeeded == 7
    assert trained(finished) == before
    assert_frame_equal(results(finished), rows)


def test_a_wider_grid_trains_only_what_is_new(finished: Path) -> None:
    before, rows = trained(finished), results(finished)
    # Other lists, longer than before, and the old runs on their beginnings.
    sweep(finished, budgets=[8, 10])
    after, wider = trained(finished), results(finished)
    assert {path: after[path] for path in before} == before
    assert len(after) > len(before)
    # The accuracy of the weak labels is that of all that the labeller made for the seed: now of more.
    old = wider.filter(pl.col("run_id").is_in(rows["run_id"].implode()))
    assert_frame_equal(old.drop("weak_label_accuracy"), rows.drop("weak_label_accuracy"))
    assert wider.height == 7 + 6
    assert set(wider["state"]) == {"succeeded"}


def test_what_fails_stops_nothing_and_says_why(tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        # A block longer than the model's context, a model that is not there, a labeller that is not there.
        "methods": [{"method": "sequential_sft", "few_shot_counts": [0, 200]}],
        "strong_models": ["microworld:strong", "/nowhere/strong"],
        "weak_labellers": [
            {"name": "weak", "model": "microworld:weak"},
            {"name": "lost", "model": "/nowhere/weak"},
        ],
        "weak_fractions": [0, 1],
    }
    said = Said()
    outcome = sweep(tmp_path, said=said, **changes)
    rows = pl.read_parquet(tmp_path / "results.parquet")
    assert rows.height == outcome.n_runs == 2 * 2 * 3
    assert rows["run_id"].n_unique() == rows.height
    succeeded = rows.filter(pl.col("state") == "succeeded")
    assert succeeded.select("method", "strong_model", "weak_labeller").sort("weak_labeller").rows() == [
        ("sequential_sft", "microworld:strong", ""),
        ("sequential_sft", "microworld:strong", "weak"),
    ]
    failed = rows.filter(pl.col("state") == "failed")
    assert failed.height == outcome.n_failed == rows.height - 2
    assert failed["accuracy"].null_count() == failed.height
    errors = {(row["method"], row["strong_model"], row["weak_labeller"]): row["error"] for row in failed.to_dicts()}
    assert "/nowhere/weak" in errors["sequential_sft", "microworld:strong", "lost"]
    assert "/nowhere/strong" in errors["sequential_sft", "/nowhere/strong", ""]
    assert "tokens" in errors["sequential_sft_200shot_human", "microworld:strong", "weak"]
    assert any("no weak labels of lost" in line for line in said.lines)


def test_a_labeller_is_fine_tuned_on_gold_labels_first(tmp_path: Path) -> None:
    labeller = {
        "name": "tuned",
        "model": "microworld:weak",
        "fine_tune": {"n_labels": 64, "recipe": {"learning_rate": 1.0e-3, "max_examples": 640}},
    }
    changes: dict[str, Any] = {"weak_labellers": [labeller], "methods": ["weak_sft"], "weak_fractions": [1]}
    assert sweep(tmp_path, **changes).n_succeeded == 1
    before = trained(tmp_path)
    assert pl.read_parquet(tmp_path / "results.parquet")["weak_label_accuracy"][0] > 0.5
    assert sweep(tmp_path, **changes).n_succeeded == 1
    assert trained(tmp_path) == before
