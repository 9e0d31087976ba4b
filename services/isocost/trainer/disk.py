"""Keeps the trainer's folder within bounds: what can be made again goes, what was used longest ago first."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

from isocost.core.ids import new_id

__all__ = ["prune"]

#: Stages are trained again, checkpoints lost without harm, features computed again. Outputs of runs are results.
_CACHES = ("stages", "checkpoints", "features")


def prune(state_dir: Path, bytes_max: int, in_use: Collection[str]) -> list[str]:
    """Removes cached results until at most so many bytes of them are left.

    Args:
        state_dir: The trainer's folder.
        bytes_max: Of stages, checkpoints and features together.
        in_use: Stages that waiting or running runs need; these stay, whatever their size.

    Returns:
        The names of what was removed, the one used longest ago first.
    """
    entries = [
        (path.stat().st_mtime_ns, _size_bytes(path), path)
        for cache in _CACHES
        for path in (state_dir / cache).glob("[!.]*")
    ]
    total = sum(size for _, size, _ in entries)
    removed = []
    for _, size, path in sorted(entries):
        if total <= bytes_max:
            break
        if path.name in in_use or (path.parent.name == "features" and in_use):
            continue
        # Out of the way first: whoever looks for it finds it whole or not at all.
        doomed = path.rename(path.with_name(new_id(".tmp")))
        shutil.rmtree(doomed) if doomed.is_dir() else doomed.unlink()
        total -= size
        removed.append(path.name)
    return removed


def _size_bytes(path: Path) -> int:
    return (
        sum(part.stat().st_size for part in path.rglob("*") if part.is_file()) if path.is_dir() else path.stat().st_size
    )
