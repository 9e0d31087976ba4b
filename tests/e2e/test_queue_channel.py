"""A campaign whose people answer through the queue: run, annotate, run again, to the end."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.e2e.campaigns import command, environment, isocost, read_result, small_campaign, write_campaign

pytestmark = pytest.mark.e2e


def _campaign() -> dict[str, Any]:
    raw = small_campaign()
    raw["budget"] = 45
    raw["evaluation"]["n_labels"] = 20
    raw["n_tranches"] = 1
    raw["n_seeds"] = 1
    raw["data"]["n_items_max"] = 300
    raw["sources"][1]["channel"] = {"kind": "queue"}
    for recipe in ("weak_recipe", "human_recipe"):
        raw["method"][recipe]["max_examples"] = 160
    return raw


def _gold_by_question() -> dict[str, str]:
    from isocost.microworld.claims import pool_frame

    return {
        f"question : has {row['entity']} {row['relation']} {row['value']} ? answer :": row["label"]
        for row in pool_frame(300, 0).iter_rows(named=True)
    }


def _annotate(out: Path, gold: dict[str, str], n_answers: int) -> tuple[int, str]:
    """Somebody who reads each question and presses the first letter of the right answer, n_answers times at most."""
    process = subprocess.Popen(
        command("annotate", "--out", out, "--annotator", "ann", "--batch", "7"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**environment(), "PYTHONUNBUFFERED": "1"},
    )
    said = []
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if line.strip() not in gold:
                continue
            process.stdin.write(f"{gold[line.strip()][0] if n_answers else 'q'}\n")
            process.stdin.flush()
            n_answers -= 1
        return process.wait(timeout=60), "".join(said)
    finally:
        process.kill()
        process.communicate()


def test_a_campaign_waits_for_its_annotator_and_goes_on(tmp_path: Path) -> None:
    path, out = write_campaign(tmp_path, _campaign()), tmp_path / "out"
    gold = _gold_by_question()
    awaited = []
    # The evaluation labels in two sittings; then all that is asked for, until nothing is.
    for n_answers in (12, *[1_000] * 6):
        done = isocost("run", path, "--out", out, "--engine", "transformers")
        if done.returncode == 0:
            break
        assert done.returncode == 3, done.stdout + done.stderr
        assert f"isocost annotate --out {out} microworld --source human" in done.stdout
        (line,) = [line for line in done.stdout.splitlines() if "human labels are awaited" in line]
        awaited.append(int(line.split()[0]))
        returncode, said = _annotate(out, gold, n_answers)
        assert returncode == 0, said
    assert done.returncode == 0, done.stdout + done.stderr
    assert awaited[:3] == [20, 8, 12]
    bought = read_result(out)["labels_bought"]["human"]
    assert bought == sum(awaited) - 8
    paid = pl.read_parquet(out / "ledger.parquet").filter(kind="settle", source_id="human")
    assert paid["label_id"].n_unique() == len(paid) == bought
    proof = isocost("ledger", "verify", "--out", out)
    assert proof.returncode == 0, proof.stdout + proof.stderr
