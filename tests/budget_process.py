"""The budget service in a process of its own: `python -m tests.budget_process DATABASE_URL` serves until killed."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from isocost.budget.service import BudgetService
from isocost.budget.settings import BudgetSettings
from isocost.core.grpc_server import ServiceHost, open_channel

__all__ = ["BudgetProcess", "running_budget", "start_process"]

_REPOSITORY = Path(__file__).parents[1]


@dataclass
class BudgetProcess:
    """A running service: its process, its address, and a channel to it."""

    process: asyncio.subprocess.Process
    address: str
    channel: grpc.aio.Channel

    def kill(self) -> None:
        """SIGKILL: the process ends where it stands."""
        if self.process.returncode is None:
            self.process.kill()

    @property
    def held_mib(self) -> float:
        """Memory that the process itself holds now, without the pages of files that it has mapped."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii").splitlines()
        (kib,) = [int(line.split()[1]) for line in lines if line.startswith("RssAnon:")]
        return kib / 1024


async def start_process(module: str, *arguments: str) -> tuple[asyncio.subprocess.Process, str]:
    """Starts a module that prints the address it serves at, and waits for that.

    Raises:
        RuntimeError: where the process ends instead.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, stdout=asyncio.subprocess.PIPE, cwd=_REPOSITORY
    )
    assert process.stdout is not None
    address = (await process.stdout.readline()).decode().strip()
    if not address:
        raise RuntimeError(f"{module} ended with {await process.wait()} before it served")
    return process, address


@asynccontextmanager
async def running_budget(database_url: str) -> AsyncIterator[BudgetProcess]:
    """A budget service in a process of its own; stopped by SIGTERM at the end where it is not killed before."""
    process, address = await start_process("tests.budget_process", database_url)
    try:
        async with open_channel(address) as channel:
            yield BudgetProcess(process, address, channel)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()


async def _serve(database_url: str) -> None:
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    service = BudgetService(BudgetSettings(database_url=database_url))
    async with ServiceHost(service, "127.0.0.1:0") as host:
        print(host.address, flush=True)
        await stopping.wait()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
