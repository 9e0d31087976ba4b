"""The commands of docs/label_studio.md, run as a person would."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["Command", "block", "start"]

_PAGE = Path(__file__).parents[3] / "docs" / "label_studio.md"


def block(mark: str) -> str:
    """The page's commands that contain a text."""
    blocks = re.findall(r"```bash\n(.*?)```", _PAGE.read_text("utf-8"), re.DOTALL)
    found: str
    (found,) = [text for text in blocks if mark in text]
    return found


class Command:
    """Commands that run in a process group of their own, and what they said."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def said(self) -> str:
        """All that it printed until now."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    @property
    def has_ended(self) -> bool:
        """Whether it is over."""
        return self._process.poll() is not None

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Sends a signal to the group; returns the exit code."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
        return await self.ended()

    async def ended(self) -> int:
        """The exit code, when it is over."""
        return await asyncio.to_thread(self._process.wait, 60)


def start(commands: str, log: Path, variables: Mapping[str, str], *, path: Sequence[Path] = ()) -> Command:
    """Starts commands, with this Python's programs on the path; what they print goes into a file."""
    folders = [str(Path(sys.executable).parent), *map(str, path), os.environ["PATH"]]
    plain = {name: value for name, value in os.environ.items() if not name.startswith("ISOCOST_")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", commands],
            env={**plain, "PATH": os.pathsep.join(folders), "PYTHONUNBUFFERED": "1", **variables},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Command(process, log)
