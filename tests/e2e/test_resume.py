"""A campaign that is killed or stopped goes on, and buys and trains nothing twice."""

from __future__ import annotations

import signal
from pathlib import Path

import polars as pl
import pytest

from tests.e2e.campaigns import bought, isocost, lines_until, signal_at, small_campaign, start, write_campaign

pytestmark = pytest.mark.e2e


def test_killed_again_and_again_it_ends_as_the_undisturbed_one(tmp_path: Path, undisturbed: Path) -> None:
    path, out = write_campaign(tmp_path, small_campaign()), tmp_path / "out"
    moments = ("human labels: evaluation: done", "weak labels: pilot-weak:", "training runs: round 1:", "plan 1:")
    for words in moments:
        returncode, _ = signal_at(path, out, words, signal.SIGKILL)
        assert returncode == -signal.SIGKILL
    done = isocost("run", path, "--out", out, "--engine", "transformers")
    assert done.returncode == 0, done.stdout + done.stderr
    assert bought(out) == bought(undisturbed)


def test_ctrl_c_stops_cleanly_and_says_how_to_go_on(tmp_path: Path) -> None:
    path, out = write_campaign(tmp_path, small_campaign()), tmp_path / "out"
    returncode, said = signal_at(path, out, "training runs: round 1:", signal.SIGINT)
    assert returncode == 130, said
    assert "Traceback" not in said
    assert "To go on:" in said
    assert f"run {path} --out {out}" in said
    status = isocost("status", "--out", out)
    assert "active" in status.stdout


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    path, out = write_campaign(tmp_path, small_campaign()), tmp_path / "out"
    process = start(path, out)
    try:
        list(lines_until(process, "items in the pool"))
        second = isocost("run", path, "--out", out, "--engine", "transformers")
    finally:
        process.kill()
        process.communicate()
    assert second.returncode == 1
    assert "another isocost process" in second.stderr


def test_a_changed_file_is_refused_with_the_field(tmp_path: Path, undisturbed: Path) -> None:
    raw = small_campaign()
    raw["pilot"]["n_human"] = 16
    done = isocost("run", write_campaign(tmp_path, raw), "--out", undisturbed, "--engine", "transformers")
    assert done.returncode == 2
    assert "pilot: differs from what campaign 'microworld' began with" in done.stderr


def test_people_answer_through_a_file(tmp_path: Path) -> None:
    """The campaign asks, waits, takes what is there, and goes on."""
    raw = small_campaign()
    raw["sources"][1]["channel"] = {"kind": "file", "path": "answers.csv"}
    path, out = write_campaign(tmp_path, raw), tmp_path / "out"
    gold = _gold()
    answers: list[tuple[str, str]] = []
    for n_answered in (10, None):
        done = isocost("run", path, "--out", out, "--engine", "transformers")
        assert done.returncode == 3, done.stdout + done.stderr
        assert "human labels are awaited" in done.stdout
        asked = pl.read_csv(out / "items_to_label.csv")["item_id"].to_list()
        assert not {item_id for item_id, _ in answers} & set(asked)
        answers += [(item_id, gold[item_id]) for item_id in asked[:n_answered]]
        pl.DataFrame(answers, schema=["item_id", "label"], orient="row").write_csv(tmp_path / "answers.csv")
    assert len(answers) == 30
    answers[0] = (answers[0][0], "perhaps")
    # An answer that is settled is not read again: a later change of the file does not change what was bought.
    pl.DataFrame(answers, schema=["item_id", "label"], orient="row").write_csv(tmp_path / "answers.csv")
    done = isocost("run", path, "--out", out, "--engine", "transformers")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "12 human labels are awaited" in done.stdout
    # One that is still awaited is read, and named where it is no choice.
    answers.append((pl.read_csv(out / "items_to_label.csv")["item_id"][0], "perhaps"))
    pl.DataFrame(answers, schema=["item_id", "label"], orient="row").write_csv(tmp_path / "answers.csv")
    done = isocost("run", path, "--out", out, "--engine", "transformers")
    assert done.returncode == 2
    assert f"'perhaps' for item {answers[-1][0]}" in done.stderr


def _gold() -> dict[str, str]:
    from isocost.microworld.claims import pool_frame

    frame = pool_frame(600, 0)
    return dict(zip(frame["id"], frame["label"], strict=True))
