"""`isocost serve`: the services for other processes."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import signal
import sys
from enum import StrEnum
from typing import Annotated

import typer

from isocost.cli.console import console
from isocost.core.errors import InvalidArgumentError
from isocost.core.grpc_server import Service, ServiceHost
from isocost.core.logs import configure_logs

__all__ = ["ServiceName", "serve"]


class ServiceName(StrEnum):
    """What to serve."""

    BUDGET = "budget"
    LABELER = "labeler"
    TRAINER = "trainer"
    ALL = "all"


#: Ports of the services, where no other is given.
PORTS = {ServiceName.BUDGET: 7601, ServiceName.LABELER: 7602, ServiceName.TRAINER: 7603}


def _service(name: ServiceName) -> Service:
    """A service with settings from the environment; only its own dependencies are imported."""
    if name is ServiceName.BUDGET:
        from isocost.budget.service import BudgetService  # noqa: PLC0415
        from isocost.budget.settings import BudgetSettings  # noqa: PLC0415

        return BudgetService(BudgetSettings())
    if name is ServiceName.LABELER:
        from isocost.labeler.service import LabelerService  # noqa: PLC0415
        from isocost.labeler.settings import LabelerSettings  # noqa: PLC0415

        return LabelerService(LabelerSettings())
    from isocost.trainer.service import TrainerService  # noqa: PLC0415
    from isocost.trainer.settings import TrainerSettings  # noqa: PLC0415

    return TrainerService(TrainerSettings())


def _check_host(host: str, insecure: bool) -> None:
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback and not insecure:
        raise InvalidArgumentError(
            "--host",
            f"{host!r} is not loopback, and calls are neither encrypted nor authenticated; add --insecure to do so",
        )


def serve(
    service: Annotated[ServiceName, typer.Argument(help="Which service.")] = ServiceName.ALL,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="Port, for a single service; 0 picks a free one.")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Listen beyond loopback without encryption.")] = False,
) -> None:
    """Serves until SIGINT or SIGTERM; settings come from ISOCOST_BUDGET_*, ISOCOST_LABELER_* and ISOCOST_TRAINER_*."""
    _check_host(host, insecure)
    configure_logs(sys.stderr)
    names = list(PORTS) if service is ServiceName.ALL else [service]
    if port is not None and len(names) > 1:
        raise InvalidArgumentError("--port", "names one port, but several services are served; name one service")

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with contextlib.AsyncExitStack() as stack:
            for name in names:
                address = f"{host}:{PORTS[name] if port is None else port}"
                running = await stack.enter_async_context(ServiceHost(_service(name), address))
                console.print(f"{name.value} listens on {running.address}")
            await stop.wait()
            console.print("stopping")

    asyncio.run(run())
