"""Items of the human queue into a file that people fill in."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from isocost.client.answer import LeasedItems
from isocost.client.queue import QueueClient
from isocost.client.table import QUEUE, QueueRow
from isocost.client.table_file import check_suffix, open_table_file
from isocost.core.errors import InvalidArgumentError, IsocostError
from isocost.core.ids import new_id
from isocost.resources.queue import Lease
from isocost.resources.task import Item, Task

__all__ = ["ExportedItems", "export_items"]

#: Items of one lease: half of what the service allows, so that long texts fit into one message.
_LEASE_ITEMS = 500


@dataclass(frozen=True, slots=True)
class ExportedItems:
    """Leases whose items were written; no lease, no task and no file where nothing waits for the annotator."""

    leases: tuple[Lease, ...]
    task: Task | None

    @property
    def n_items(self) -> int:
        """Rows of the file."""
        return sum(lease.n_items for lease in self.leases)


async def export_items(
    queue: QueueClient,
    path: Path,
    campaign_id: str,
    source_id: str,
    annotator: str,
    n_items: int,
    *,
    duration: timedelta,
) -> ExportedItems:
    """Leases up to n_items items that await a label and writes them as `QUEUE`; the suffix of the path is the format.

    The file is whole or not there, and where it is not there, nothing stays leased. A second call leases other items.

    Usage::

        await export_items(queue, Path("items.csv"), "reviews", "human", "ann", 100, duration=timedelta(hours=24))

    Raises:
        InvalidArgumentError: where the file is there already, or its suffix is none of .csv, .jsonl and .parquet.
        FailedPreconditionError: where Parquet is asked for and pyarrow is not installed.
        IsocostError: what the service said.
    """
    _check_place(path)
    leased: list[LeasedItems] = []
    try:
        while (n_missing := n_items - sum(len(part.items) for part in leased)) > 0:
            part = await queue.lease_items(
                *(new_id("export"), campaign_id, source_id, annotator, min(n_missing, _LEASE_ITEMS)), duration=duration
            )
            if part.lease is None:
                break
            leased.append(part)
        if leased:
            _write(path, leased)
    except BaseException:
        for part in leased:
            # What failed is told; a lease that cannot be given back ends by itself.
            with contextlib.suppress(IsocostError):
                if part.lease is not None:
                    await queue.release_lease(f"{part.lease.lease_id}:release", part.lease.lease_id)
        raise
    leases = tuple(part.lease for part in leased if part.lease is not None)
    return ExportedItems(leases, leased[0].task if leased else None)


def _check_place(path: Path) -> None:
    check_suffix(path)
    if path.exists():
        raise InvalidArgumentError(
            "file", f"{str(path)!r} is there already, perhaps with answers; import it and move it away, or name another"
        )


def _write(path: Path, leased: Sequence[LeasedItems]) -> None:
    with open_table_file(path, QUEUE) as file:
        for part in leased:
            assert part.lease is not None
            assert part.task is not None
            for item in part.items:
                row = QueueRow(_in_order(item, part.task), part.task.choices, part.lease.lease_id, part.lease.annotator)
                file.add(row)


def _in_order(item: Item, task: Task) -> Item:
    """The item with its texts as the question shows them, then the others by name: the wire keeps no sequence."""
    shown = {name: place for place, name in enumerate(task.fields)}
    names = sorted(item.fields, key=lambda name: (shown.get(name, len(shown)), name))
    return replace(item, fields={name: item.fields[name] for name in names})
