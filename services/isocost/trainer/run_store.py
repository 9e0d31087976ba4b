"""Runs on disk, one JSON file each, in the wire form's own JSON."""

from __future__ import annotations

import re
from pathlib import Path

from google.protobuf import json_format

from isocost.resources.run import Run
from isocost.trainer.storage import write_file
from isocost.v1 import trainer_service_pb2

__all__ = ["RunStore"]

_RUN_ID = re.compile(r"run-[0-9a-f]{32}\Z")
_CANCELLED = "cancelled"


class RunStore:
    """Finished and begun runs by id."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, run_id: str) -> Run | None:
        """The run as it was last stored, or None where there is none."""
        path = self._folder / run_id / "run.json"
        if not _RUN_ID.match(run_id) or not path.is_file():
            return None
        try:
            message = json_format.Parse(path.read_bytes(), trainer_service_pb2.Run(), ignore_unknown_fields=True)
        except json_format.ParseError:
            # One that was not flushed, after a loss of power.
            return None
        return Run.from_proto(message)

    def mark_cancelled(self, run_id: str) -> None:
        """Notes that somebody cancelled the run, so that whoever executes it tells that from the service's end."""
        write_file(self._folder / run_id / _CANCELLED, b"")

    def unmark_cancelled(self, run_id: str) -> None:
        """Forgets it: the run is asked for again."""
        (self._folder / run_id / _CANCELLED).unlink(missing_ok=True)

    def is_marked_cancelled(self, run_id: str) -> bool:
        """Whether somebody cancelled the run."""
        return (self._folder / run_id / _CANCELLED).is_file()

    def put(self, run: Run, *, flush: bool = True) -> None:
        """Stores a run in place of what was stored under its id; not flushed, a loss of power may take it."""
        content = json_format.MessageToJson(run.to_proto()).encode()
        write_file(self._folder / run.run_id / "run.json", content, flush=flush)
