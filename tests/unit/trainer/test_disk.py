from __future__ import annotations

import os
from pathlib import Path

from isocost.trainer.disk import prune


def _write(path: Path, n_bytes: int, used: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * n_bytes)
    os.utime(path.parent if path.parent.parent.name == "stages" else path, (used, used))


def _fill(state_dir: Path) -> None:
    for used, name in enumerate("abc"):
        _write(state_dir / "stages" / f"stage-{name}" / "weights.safetensors", 100, used)
    _write(state_dir / "checkpoints" / "stage-d", 100, 3)
    _write(state_dir / "runs" / "run-1" / "output" / "adapter_model.safetensors", 1000, 0)


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    _fill(tmp_path)
    assert prune(tmp_path, 250, ()) == ["stage-a", "stage-b"]
    assert sorted(path.name for path in (tmp_path / "stages").iterdir()) == ["stage-c"]
    assert (tmp_path / "checkpoints" / "stage-d").is_file()
    # Results stay, however large.
    assert (tmp_path / "runs" / "run-1" / "output" / "adapter_model.safetensors").is_file()


def test_what_is_in_use_stays(tmp_path: Path) -> None:
    _fill(tmp_path)
    assert prune(tmp_path, 0, {"stage-a", "stage-d"}) == ["stage-b", "stage-c"]


def test_within_the_bound_nothing_goes(tmp_path: Path) -> None:
    _fill(tmp_path)
    assert prune(tmp_path, 400, ()) == []
    assert prune(tmp_path / "nothing", 0, ()) == []
