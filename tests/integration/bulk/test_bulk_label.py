"""`isocost label` and `isocost predict` on a real model."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from isocost.microworld.claims import TASK_CHOICES, TASK_TEMPLATE, pool_frame
from isocost.tasks.model_path import resolve_model

LABEL = ("label", "--input", "claims.csv", "--model", "microworld:weak", "--task", "claims.yaml")
_SERVER = Path(__file__).parents[1] / "labeler" / "serve_labeler.py"


def n_stored(state: Path) -> int:
    try:
        with sqlite3.connect(f"file:{state}/labels.sqlite?mode=ro", uri=True) as connection:
            return int(connection.execute("SELECT count(*) FROM labels").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def test_every_row_has_its_label(folder: Any, read: Any) -> None:
    pool_frame(2_400, 0).write_parquet(folder.path / "claims.parquet")
    done = folder.isocost(*LABEL, "--id-column", "id", "--output", "out.parquet", "--unit-price", "0.01")
    assert done.returncode == 0, done.stderr
    assert "2,400 of 2,400 rows" in done.stdout
    assert "$24.00" in done.stdout
    labels = pl.read_parquet(folder.path / "out.parquet")
    claims = pl.read_csv(folder.path / "claims.csv")
    assert labels["id"].to_list() == claims["id"].to_list()
    assert labels["error"].null_count() == labels["error_reason"].null_count() == 2_400
    assert not labels["stored"].any()
    assert labels["prompt_tokens"].min() == 10
    for row in labels.head(50).iter_rows(named=True):
        assert sum(row["probabilities"]) == pytest.approx(1)
        assert row["choice"] == TASK_CHOICES[row["probabilities"].index(max(row["probabilities"]))]
        assert 0.5 < row["choices_mass"] <= 1
        assert "transformers" in row["engine_fingerprint"]
    # The other formats say the same, from the store; without an id column rows are numbered.
    arguments = [part.replace(".csv", ".parquet") for part in LABEL]
    done = folder.isocost(*arguments, "--output", "out.jsonl")
    assert "2,400 of them made earlier" in done.stdout, done.stderr
    numbered = read(folder.path / "out.jsonl")
    assert numbered["row"].to_list() == list(range(2_400))
    assert numbered["choice"].to_list() == labels["choice"].to_list()
    assert sorted(path.name for path in folder.path.iterdir() if not path.name.startswith("claims")) == [
        ".isocost",
        "out.jsonl",
        "out.parquet",
    ]


def test_bad_rows_are_in_the_file_with_their_errors(folder: Any) -> None:
    rows = [{"entity": "batin", "relation": "colour", "value": "red"}] * 3
    lines = [json.dumps(row) for row in rows]
    lines[1] = json.dumps(rows[1] | {"value": "red " * 5_000})
    lines.append("broken")
    (folder.path / "few.jsonl").write_text("\n".join(lines))
    done = folder.isocost("label", "--input", "few.jsonl", *LABEL[3:], "--output", "out.jsonl")
    assert done.returncode == 0, done.stderr
    assert "2 rows have no label" in done.stdout
    out = [json.loads(line) for line in (folder.path / "out.jsonl").read_text().splitlines()]
    assert [row["error_reason"] for row in out] == [None, "prompt_too_long", None, "invalid_item"]
    assert out[0]["choice"] == out[2]["choice"]
    assert (out[1]["choice"], out[3]["stored"]) == (None, None)
    assert "not JSON" in out[3]["error"]


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)])
def test_a_stopped_job_goes_on_from_the_store(
    folder: Any, read: Any, whole: pl.DataFrame, number: signal.Signals, exit_code: int
) -> None:
    process = folder.start(*LABEL, "--output", "out.parquet", "--state", "state")
    wait_for(lambda: n_stored(folder.path / "state") >= 256, process)
    process.send_signal(number)
    stdout, _ = process.communicate()
    assert process.returncode == exit_code
    assert not (folder.path / "out.parquet").exists()
    if number is signal.SIGINT:
        assert "Stopped. To go on:" in stdout
    n_made = n_stored(folder.path / "state")
    assert 256 <= n_made < 2_400
    again = folder.isocost(*LABEL, "--output", "out.parquet", "--state", "state")
    assert f"{n_made:,} of them made earlier" in again.stdout, again.stderr
    assert_frame_equal(read(folder.path / "out.parquet"), whole, abs_tol=1e-6)
    assert n_stored(folder.path / "state") == 2_400
    assert not list(folder.path.glob(".*.partial"))


def test_a_metered_budget_stops_the_job_and_keeps_the_labels(folder: Any) -> None:
    arguments = (*LABEL, "--output", "out.parquet", "--price-per-million-tokens", "1000")
    # A label of ten tokens costs a cent.
    done = folder.isocost(*arguments, "--budget", "15")
    assert done.returncode == 1
    assert "--budget: $1" in done.stderr
    assert not (folder.path / "out.parquet").exists()
    kept = pl.read_parquet(folder.path / "out.partial.parquet")
    assert 1_480 <= kept.height <= 1_500
    assert kept["row"].to_list() == list(range(kept.height))
    done = folder.isocost(*arguments, "--budget", "30")
    assert done.returncode == 0, done.stderr
    assert "$24.00, $9." in done.stdout
    assert f"{kept.height:,} of them made earlier" in done.stdout
    assert not (folder.path / "out.partial.parquet").exists()


def test_a_finished_run_predicts_without_a_task(folder: Any, read: Any) -> None:
    model = folder.path / "adapter"
    shutil.copytree(resolve_model("microworld:weak"), model)
    fields = {"entity": "batin", "relation": "colour", "value": "red"}
    example = {"fields": fields, "choice": 1}
    task = {"name": "claims", "template": TASK_TEMPLATE, "choices": list(TASK_CHOICES)}
    card = {"task": task, "head": "LANGUAGE_MODEL", "few_shot_examples": [example]}
    (model / "isocost.json").write_text(json.dumps(card))
    pl.read_csv(folder.path / "claims.csv").head(300).write_csv(folder.path / "few.csv")
    arguments = ("--input", "few.csv", "--model", "adapter", "--id-column", "id", "--state", "state")
    done = folder.isocost("predict", *arguments, "--output", "out.parquet")
    assert done.returncode == 0, done.stderr
    assert n_stored(folder.path / "state") == 0
    predicted = read(folder.path / "out.parquet")
    assert predicted.height == 300
    assert predicted["prompt_tokens"].min() == 20, "the card's example stands before the item"
    # The same model, task and block by options, labels this time.
    (folder.path / "block.jsonl").write_text(json.dumps({**fields, "label": "yes"}))
    arguments = ("--input", "few.csv", "--model", "microworld:weak", "--id-column", "id", "--task", "claims.yaml")
    done = folder.isocost("label", *arguments, "--examples", "block.jsonl", "--output", "same.parquet")
    assert done.returncode == 0, done.stderr
    assert read(folder.path / "same.parquet")["choice"].to_list() == predicted["choice"].to_list()


def test_a_mistake_costs_nothing(folder: Any) -> None:
    for changed, message in (
        (("--model", "nowhere/at/all"), "--model: 'nowhere/at/all' is not a folder"),
        (("--model", "microworld:weak", "--runner", "classify"), "--runner: classify needs a sequence-class"),
        (("--input", "none.csv"), "error: --input: there is no file 'none.csv'"),
    ):
        done = folder.isocost(*LABEL, *changed, "--output", "out.parquet")
        assert done.returncode == 2, done.stderr
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    assert not list(folder.path.glob("*out*"))


def test_a_labeler_that_is_restarted_is_asked_again(folder: Any, read: Any) -> None:
    def serve(address: str) -> subprocess.Popen[bytes]:
        path = folder.path / "address"
        path.unlink(missing_ok=True)
        environment = {**folder.environment, "ISOCOST_LABELER_STATE_DIR": str(folder.path / "state")}
        code = f"import sys; sys.argv = ['', {str(path)!r}]\n" + _SERVER.read_text().replace("127.0.0.1:0", address)
        started = subprocess.Popen([sys.executable, "-c", code], env=environment)
        while not path.exists():
            assert started.poll() is None
            time.sleep(0.02)
        return started

    server = serve("127.0.0.1:0")
    address = (folder.path / "address").read_text()
    try:
        process = folder.start(*LABEL, "--output", "out.parquet", "--address", address)
        wait_for(lambda: n_stored(folder.path / "state") >= 256, process)
        server.kill()
        server.wait()
        n_made = n_stored(folder.path / "state")
        assert n_made < 2_400
        server = serve(address)
        _, stderr = process.communicate()
        assert process.returncode == 0, stderr
        assert read(folder.path / "out.parquet")["choice"].null_count() == 0
        # What had been answered before the kill was not asked for again, and nothing was made twice.
        assert n_stored(folder.path / "state") == 2_400
    finally:
        server.kill()
        server.wait()
