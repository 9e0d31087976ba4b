"""A sweep that is killed or stopped goes on, and ends as if nothing had been."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

from tests.integration.sweep.sweeps import results, start, write_spec

DEADLINE_SECONDS = 300


def _finish(spec: Path, out: Path, *arguments: str) -> str:
    process = start(spec, out, *arguments)
    said, _ = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 0, said
    return said


def _end_when_some_are_done(spec: Path, out: Path, how: signal.Signals) -> tuple[int, str]:
    process = start(spec, out)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while len(list((out / "predictions").glob("run-*.parquet"))) < 2 and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(how)
    said, _ = process.communicate(timeout=DEADLINE_SECONDS)
    return process.returncode, said


def test_killed_in_the_middle_it_ends_with_equal_results(tmp_path: Path) -> None:
    spec = write_spec(tmp_path)
    said = _finish(spec, tmp_path / "whole")
    assert "runs             7, of 5 different stages at most" in said
    assert (tmp_path / "whole" / "report.html").is_file()
    out = tmp_path / "killed"
    returncode, _ = _end_when_some_are_done(spec, out, signal.SIGKILL)
    assert returncode == -signal.SIGKILL
    assert len(list((out / "predictions").glob("run-*.parquet"))) < 7
    _finish(spec, out)
    assert_frame_equal(results(out), results(tmp_path / "whole"))


def test_ctrl_c_stops_cleanly_and_says_how_to_go_on(tmp_path: Path) -> None:
    spec, out = write_spec(tmp_path), tmp_path / "out"
    returncode, said = _end_when_some_are_done(spec, out, signal.SIGINT)
    assert returncode == 130, said
    assert "Traceback" not in said
    assert f"sweep {spec} --out {out}" in said
    # What is done is there for a report.
    assert 2 <= results(out).height < 7


@pytest.mark.parametrize("n_workers", ["2"])
def test_workers_side_by_side_give_the_same_results(tmp_path: Path, n_workers: str) -> None:
    spec = write_spec(tmp_path, methods=["sequential_sft"])
    one, two = tmp_path / "one", tmp_path / "two"
    _finish(spec, one)
    _finish(spec, two, "--n-workers", n_workers)
    assert_frame_equal(results(one), results(two))
