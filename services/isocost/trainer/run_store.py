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


class RunStore:
    """Finished and begun runs by id."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, run_id: str) -> Run | None:
        """The run as it was last stored, or None where there is none."""
        path = self._folder / run_id / "run.json"
        if not _RUN_ID.match(run_id) or not path.is_file():
            return None
        message = json_format.Parse(path.read_bytes(), trainer_service_pb2.Run(), ignore_unknown_fields=True)
        return Run.from_proto(message)

    def put(self, run: Run) -> None:
        """Stores a run in place of what was stored under its id."""
        write_file(self._folder / run.run_id / "run.json", json_format.MessageToJson(run.to_proto()).encode())
