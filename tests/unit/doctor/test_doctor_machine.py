"""Accelerator, imports, disk, open files."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

from isocost.core.errors import FailedPreconditionError
from isocost.doctor import machine
from isocost.doctor.finding import State

GIB = 1 << 30


def test_what_an_import_dies_of_is_the_last_line_of_its_traceback() -> None:
    assert machine.run_python("print('noise'); print(41 + 1)") == "42"
    with pytest.raises(FailedPreconditionError, match=r"^ModuleNotFoundError: No module named 'nowhere'$"):
        machine.run_python("import nowhere")
    with pytest.raises(FailedPreconditionError, match="ended with -9"):
        machine.run_python("import os; os.kill(os.getpid(), 9)")


def test_nothing_heavy_is_imported_before_its_check_runs() -> None:
    heavy = "{'torch', 'transformers', 'vllm', 'ray', 'sqlalchemy', 'psycopg', 'polars'}"
    loaded = machine.run_python(f"import sys, isocost.doctor.diagnosis; print(sorted({heavy} & set(sys.modules)))")
    assert loaded == "[]"


def answer(monkeypatch: pytest.MonkeyPatch, said: str | Exception) -> None:
    def run(code: str) -> str:
        if isinstance(said, Exception):
            raise said
        return said

    monkeypatch.setattr(machine, "run_python", run)


def test_gpus_and_their_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = [["H100", 70 * GIB, 79 * GIB], ["H100", 10 * GIB, 79 * GIB]]
    answer(monkeypatch, json.dumps(["2.14.0", "12.9", devices]))
    free, full = machine.check_gpu()
    assert (free.state, full.state) == (State.OK, State.WARNING)
    assert "H100, 70.0 of 79.0 GiB free, torch 2.14.0 for CUDA 12.9" in free.message
    assert "ISOCOST_LABELER_GPU_MEMORY_FRACTION" in full.remedy


def test_a_driver_that_torch_cannot_use_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    answer(monkeypatch, json.dumps(["2.13.0+cpu", None, []]))
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(machine, "_DRIVER", tmp_path / "version")
    (finding,) = machine.check_gpu()
    assert (finding.state, finding.message) == (State.OK, "none: torch 2.13.0+cpu trains and labels on the CPU")
    (tmp_path / "version").touch()
    (finding,) = machine.check_gpu()
    assert finding.state is State.WARNING
    assert "build for the CPU" in finding.message


def test_libraries_that_break_are_failed_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, FailedPreconditionError("RuntimeError: operator torchvision::nms does not exist"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    for check in (machine.check_gpu, machine.check_transformers, machine.check_vllm):
        (finding,) = check()
        assert finding.state is State.FAILED
        assert "torchvision::nms" in finding.message
        assert finding.remedy


def test_libraries_that_are_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    states = [
        next(iter(check())).state for check in (machine.check_gpu, machine.check_transformers, machine.check_vllm)
    ]
    assert states == [State.OK, State.OK, State.WARNING]


def test_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "models"))
    free = 100 * GIB
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": free}))
    out = tmp_path / "runs" / "new"
    findings = list(machine.check_disk(out))
    assert [finding.state for finding in findings] == [State.OK] * 3
    # A folder that is not there is not made either.
    assert findings[0].message == f"100.0 GiB free in {tmp_path}"
    assert not list(tmp_path.iterdir())
    free = 3 * GIB
    assert [finding.state for finding in machine.check_disk(out)] == [State.WARNING] * 3
    free = GIB // 2
    assert [finding.state for finding in machine.check_disk(out)] == [State.FAILED] * 3
    (tmp_path / "file").touch()
    assert next(iter(machine.check_disk(tmp_path / "file"))).state is State.FAILED


def test_open_files() -> None:
    (few,), (many,) = machine.check_open_files(256), machine.check_open_files(65_536)
    assert (few.state, many.state) == (State.WARNING, State.OK)
    assert "ulimit -n" in few.remedy
    assert list(machine.check_open_files())
