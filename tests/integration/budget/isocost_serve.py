"""`isocost serve budget` in a process of its own."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

__all__ = ["COMMAND", "Served", "serving"]

COMMAND = "from isocost.cli.app import main; main()"


@dataclass
class Served:
    """The process, and what it said about where it listens."""

    process: asyncio.subprocess.Process
    address: str
    metrics_address: str


@asynccontextmanager
async def serving(
    database_url: str, *, host: str = "127.0.0.1", require_tokens: bool = False, **settings: object
) -> AsyncIterator[Served]:
    """Serves until the end, where the process is killed unless it has stopped; settings are those of the server."""
    environment = {
        "ISOCOST_BUDGET_DATABASE_URL": database_url,
        "ISOCOST_BUDGET_REQUIRE_TOKENS": str(require_tokens),
        "ISOCOST_SERVER_LOG_LEVEL": "error",
        **{f"ISOCOST_SERVER_{name}": str(value) for name, value in settings.items()},
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        COMMAND,
        *("serve", "budget", "--host", host, "--port", "0"),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},
    )
    try:
        assert process.stdout is not None
        said = {}
        while "budget" not in said:
            line = (await process.stdout.readline()).decode().split()
            assert line, "the process ended"
            said[line[0]] = line[-1]
        yield Served(process, said["budget"], said.get("metrics", ""))
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
