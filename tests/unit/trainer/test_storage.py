from __future__ import annotations

from pathlib import Path

import pytest

from isocost.core.errors import FailedPreconditionError
from isocost.trainer.storage import FolderLock, new_folder, remove_leftovers, write_file


class _FaultError(Exception):
    pass


def _fill_and_fail(target: Path) -> None:
    with new_folder(target) as folder:
        (folder / "weights").write_text("half")
        assert not target.exists()
        raise _FaultError


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "stages" / "s"
    with pytest.raises(_FaultError):
        _fill_and_fail(target)
    assert list(target.parent.iterdir()) == []
    with new_folder(target) as folder:
        (folder / "weights").write_text("whole")
    assert [path.name for path in target.parent.iterdir()] == ["s"]
    assert (target / "weights").read_text() == "whole"


def test_a_folder_replaces_what_was_there(tmp_path: Path) -> None:
    for content in ("first", "second"):
        with new_folder(tmp_path / "s") as folder:
            (folder / content).touch()
    assert [path.name for path in tmp_path.iterdir()] == ["s"]
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["second"]


def test_a_file_is_replaced_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    for content in (b"first", b"second"):
        write_file(tmp_path / "a" / "run.json", content)
    assert [path.read_bytes() for path in (tmp_path / "a").iterdir()] == [b"second"]


def test_leftovers_of_a_killed_process_are_removed_and_nothing_else(tmp_path: Path) -> None:
    kept = tmp_path / "runs" / "r" / "run.json"
    write_file(kept, b"{}")
    (tmp_path / "runs" / "r" / ".tmp-1").write_text("half a file")
    (tmp_path / "stages" / ".tmp-2").mkdir(parents=True)
    (tmp_path / "stages" / ".tmp-2" / "weights").touch()
    remove_leftovers(tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [kept]


def test_a_folder_has_one_holder_at_a_time(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path / "state")
    with pytest.raises(FailedPreconditionError, match="another trainer works in"):
        FolderLock(tmp_path / "state")
    lock.release()
    FolderLock(tmp_path / "state").release()
