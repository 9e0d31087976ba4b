"""`isocost label --ray` on a local cluster of two workers."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import psutil
from polars.testing import assert_frame_equal

from tests.ray_cluster import RAY_MARKS

OUT = "out"
LABEL = ("label", "--input", "claims.csv", "--model", "microworld:weak", "--task", "claims.yaml", "--output", OUT)
pytestmark = RAY_MARKS


def options(cluster: str, *, part_rows: int = 200) -> tuple[str, ...]:
    return ("--ray", cluster, "--ray-workers", "2", "--ray-cpus", "1", "--ray-part-rows", str(part_rows))


def parts(folder: Any) -> list[Path]:
    return sorted((folder.path / OUT).glob("part-*.parquet"))


def read_parts(folder: Any) -> pl.DataFrame:
    """All rows by number, each once, in the columns of a single file."""
    frame = pl.concat(pl.read_parquet(part) for part in parts(folder)).sort("row")
    assert frame["row"].to_list() == list(range(2_400))
    return frame.drop("stored")


def workers() -> list[psutil.Process]:
    """Processes of the cluster's actors that label."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "LabelWorker" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_for(condition: Callable[[], bool], process: Any) -> None:
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def test_two_workers_label_what_one_does(cluster: str, folder: Any, whole: pl.DataFrame) -> None:
    done = folder.isocost(*LABEL, *options(cluster), "--unit-price", "0.01")
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) <= 1, "one line of Ray about its log, at most"
    assert "2,400 of 2,400 rows" in done.stdout
    assert "$24.00" in done.stdout
    assert len(parts(folder)) > 2
    # The batches are other ones, and with them the last digits.
    assert_frame_equal(read_parts(folder), whole, abs_tol=1e-6)
    before = [part.read_bytes() for part in parts(folder)]
    again = folder.isocost(*LABEL, *options(cluster))
    assert "2,400 of them made earlier" in again.stdout, again.stderr
    assert [part.read_bytes() for part in parts(folder)] == before, "nothing is made again"
    other = folder.isocost(*LABEL, "--model", "microworld:strong", *options(cluster))
    assert other.returncode == 2
    assert "holds labels of another model" in other.stderr


def test_a_worker_that_dies_costs_no_row(cluster: str, folder: Any, whole: pl.DataFrame) -> None:
    process = folder.start(*LABEL, *options(cluster, part_rows=100))
    wait_for(lambda: len(parts(folder)) >= 3, process)
    os.kill(workers()[0].pid, signal.SIGKILL)
    _, stderr = process.communicate()
    assert process.returncode == 0, stderr
    # The batches are other ones, and with them the last digits.
    assert_frame_equal(read_parts(folder), whole, abs_tol=1e-6)


def test_a_killed_job_goes_on_with_the_rest(cluster: str, folder: Any, whole: pl.DataFrame) -> None:
    process = folder.start(*LABEL, *options(cluster, part_rows=100), "--state", "state")
    wait_for(lambda: len(parts(folder)) >= 3 and len(workers()) == 2, process)
    labelling = workers()
    process.kill()
    process.communicate()
    # The cluster ends the workers of a driver that is gone.
    psutil.wait_procs(labelling)
    before = {part: part.read_bytes() for part in parts(folder)}
    n_made = sum(pl.read_parquet(part).height for part in before)
    assert 0 < n_made < 2_400
    again = folder.isocost(*LABEL, *options(cluster, part_rows=100), "--state", "state")
    assert again.returncode == 0, again.stderr
    found = re.search(r"([\d,]+) of them made earlier", again.stdout)
    assert found is not None
    # A worker may have stored more of a batch than is in any part yet.
    assert n_made <= int(found[1].replace(",", "")) < 2_400
    assert {part: part.read_bytes() for part in before} == before
    # The batches are other ones, and with them the last digits.
    assert_frame_equal(read_parts(folder), whole, abs_tol=1e-6)


def test_what_a_worker_is_refused_is_the_commands_error(cluster: str, folder: Any) -> None:
    done = folder.isocost(*LABEL, "--model", "nowhere/at/all", *options(cluster))
    assert done.returncode == 2, done.stderr
    assert "error: --model: 'nowhere/at/all' is not a folder" in done.stderr
    assert "Traceback" not in done.stderr
