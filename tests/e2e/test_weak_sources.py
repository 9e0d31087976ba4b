"""A campaign with two weak sources, both metered and calibrated: docs/examples/two_weak_sources.yaml."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import polars as pl
import pytest

from tests.e2e.campaigns import TWO_WEAK_SOURCES, bought, isocost, read_result, signal_at

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of the example, run to its end."""
    folder = tmp_path_factory.mktemp("two_weak_sources") / "out"
    done = isocost("run", TWO_WEAK_SOURCES, "--out", folder, "--engine", "transformers")
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "said.txt").write_text(done.stdout)
    return folder


def test_labels_are_bought_from_the_source_that_promises_the_higher_accuracy(out: Path) -> None:
    result = read_result(out)
    small, few_shot = result["weak_sources"]
    assert (small["source"], small["chosen"], few_shot["chosen"]) == ("small", True, False)
    assert small["n_measured"] == few_shot["n_measured"] == 20
    assert small["accuracy"] > few_shot["accuracy"]
    # The other one is measured, and nothing else is bought from it.
    assert result["labels_bought"]["few_shot"] == 20
    assert result["labels_bought"]["small"] >= 80
    assert {row["purpose"] for row in result["labels_by_purpose"] if row["source"] == "few_shot"} == {"evaluation"}
    reason = result["weak_source_choice"]["reason"]
    expected = r"with an expected accuracy of \.\d{3} once all is spent; \.\d{3} with few_shot: "
    assert re.match(r"small: \.\d\d \(.*\) at 0\.09 USD, " + expected, reason)
    assert small["calibration"]["method"] == "temperature"
    assert few_shot["calibration"]["method"] == "isotonic"
    # People's labels alone measure models.
    assert result["n_eval"] == 30


def test_metered_labels_cost_what_their_tokens_do_and_the_rest_is_released(out: Path) -> None:
    ledger, result = pl.read_parquet(out / "ledger.parquet"), read_result(out)
    few_shot = result["weak_sources"][1]
    settled = ledger.filter(source_id="few_shot", kind="settle")["amount_micros"]
    # 200 micros a token; 45 tokens: four examples and the item.
    assert settled.to_list() == [9_000] * 20
    assert few_shot["mean_price_paid"] == pytest.approx(0.009)
    assert few_shot["unit_price"] > 0.009
    reserved = ledger.filter(source_id="few_shot", kind="reserve")["amount_micros"].sum()
    released = ledger.filter(source_id="few_shot", kind="release")["amount_micros"].sum()
    assert reserved == round(20 * few_shot["unit_price"] * 1e6)
    assert sum(settled.to_list()) + released == reserved
    assert result["reserved"] == 0
    assert ledger.filter(kind="settle")["amount_micros"].sum() == round(result["spent"] * 1e6)
    # The frontier's costs are those of the labels: 0.09 each, and 1.00 for people's.
    for point in result["frontier"]:
        assert point["cost"] == pytest.approx(0.09 * point["n_weak"] + point["n_human"])


def test_the_sources_are_shown_to_people(out: Path) -> None:
    said, html = (out / "said.txt").read_text(), (out / "report.html").read_text()
    assert "$200.00/M tokens" in said
    assert "$200.00 per million tokens, at most $0.0106" in html
    for text in (said, html):
        assert "once all is spent" in " ".join(text.split())
        assert "temperature" in text
    assert "* small" in said
    assert "small (chosen)" in html


def test_killed_while_it_measures_and_after_it_chose_it_ends_as_the_undisturbed_one(tmp_path: Path, out: Path) -> None:
    killed = tmp_path / "out"
    for words in ("weak labels: measure-few_shot:", "weak labels: pilot-weak: done"):
        returncode, _ = signal_at(TWO_WEAK_SOURCES, killed, words, signal.SIGKILL)
        assert returncode == -signal.SIGKILL
    done = isocost("run", TWO_WEAK_SOURCES, "--out", killed, "--engine", "transformers")
    assert done.returncode == 0, done.stdout + done.stderr
    assert bought(killed) == bought(out)
    assert read_result(killed)["weak_sources"] == read_result(out)["weak_sources"]
