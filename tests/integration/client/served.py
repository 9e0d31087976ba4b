"""`isocost serve budget` in a process of its own, as a platform team runs it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["environment", "isocost", "serve_budget"]


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-c", "from isocost.cli.app import main; main()", *map(str, arguments)]


def environment(**changes: str) -> dict[str, str]:
    """The environment without settings that the machine may have."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("ISOCOST_")}
    return {**plain, "COLUMNS": "200", **changes}


def isocost(*arguments: str | Path, **changes: str) -> subprocess.CompletedProcess[str]:
    """Runs the command to its end."""
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, check=False, timeout=120, env=environment(**changes)
    )


@contextmanager
def serve_budget(database: Path, **changes: str) -> Iterator[str]:
    """The address of a service on this database; ended by SIGTERM, as Kubernetes does."""
    server = subprocess.Popen(
        command("serve", "budget", "--port", "0"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment(ISOCOST_BUDGET_DATABASE_URL=f"sqlite:///{database}", **changes),
    )
    assert server.stdout is not None
    with server.stdout:
        try:
            lines = iter(server.stdout)
            found = next((match for line in lines if (match := re.search(r"listens on (\S+:\d+)", line))), None)
            assert found is not None, "the server ended before it listened"
            yield found.group(1)
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                assert server.wait(60) == 0
            finally:
                server.kill()
