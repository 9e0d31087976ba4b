"""Files that are either whole or not there, whatever kills the process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from isocost.core.errors import FailedPreconditionError
from isocost.core.ids import new_id

__all__ = ["FolderLock", "new_folder", "remove_leftovers", "write_file"]

_TEMPORARY = ".tmp"


def write_file(path: Path, content: bytes, *, flush: bool = True) -> None:
    """Writes a file beside its place, flushes it to disk and renames it: readers see the old or the new content.

    Without the flush that holds for a kill of the process, but not for a loss of power.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(new_id(_TEMPORARY))
    temporary.write_bytes(content)
    if flush:
        _flush(temporary)
    temporary.rename(path)
    if flush:
        _flush(path.parent)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yields an empty folder to fill; on success it is flushed to disk and becomes `path`, else it is removed.

    A folder that is at `path` already is replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(new_id(_TEMPORARY))
    temporary.mkdir()
    try:
        yield temporary
        for part in sorted(temporary.rglob("*")):
            _flush(part)
        _flush(temporary)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    replaced = path.with_name(new_id(_TEMPORARY))
    if path.exists():
        path.rename(replaced)
    try:
        temporary.rename(path)
    except OSError:
        # Another process was faster: folders are named by their content, so theirs is as good.
        shutil.rmtree(temporary, ignore_errors=True)
        if not path.is_dir():
            raise
    _flush(path.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Removes what a killed process left half-written, at any depth below `folder`."""
    for path in list(folder.rglob(f"{_TEMPORARY}-*")):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class FolderLock:
    """Holds a folder for this process; the system lets go of it when the process ends, however it ends."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._descriptor)
            raise FailedPreconditionError(
                f"another trainer works in {str(folder)!r}; stop it, or give this one another state_dir"
            ) from None

    def release(self) -> None:
        """Lets go of the folder."""
        os.close(self._descriptor)
