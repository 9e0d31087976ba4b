"""`isocost serve`: the services for other processes."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from isocost.cli.console import console
from isocost.core.environment import read_environment
from isocost.core.errors import InvalidArgumentError
from isocost.core.grpc_server import Service, ServiceHost
from isocost.core.logs import configure_logs
from isocost.core.server_settings import (
    ServerSettings,
    check_exposure,
    check_metrics_exposure,
    read_server_settings,
)

__all__ = ["ServiceName", "serve"]


class ServiceName(StrEnum):
    """What to serve."""

    BUDGET = "budget"
    LABELER = "labeler"
    TRAINER = "trainer"
    ALL = "all"


_WEB_ADDRESS = "ISOCOST_BUDGET_WEB_ADDRESS"
#: Ports of the services, where no other is given.
PORTS = {ServiceName.BUDGET: 7601, ServiceName.LABELER: 7602, ServiceName.TRAINER: 7603}


def _service(name: ServiceName) -> tuple[Service, bool | None]:
    """A service with settings from the environment, and whether it asks for tokens; None where it keeps none.

    Only its own dependencies are imported.
    """
    if name is ServiceName.BUDGET:
        from isocost.budget.service import BudgetService  # noqa: PLC0415
        from isocost.budget.settings import BudgetSettings  # noqa: PLC0415

        settings = read_environment(BudgetSettings)
        return BudgetService(settings), settings.require_tokens
    if name is ServiceName.LABELER:
        from isocost.labeler.service import LabelerService  # noqa: PLC0415
        from isocost.labeler.settings import LabelerSettings  # noqa: PLC0415

        return LabelerService(read_environment(LabelerSettings)), None
    from isocost.trainer.service import TrainerService  # noqa: PLC0415
    from isocost.trainer.settings import TrainerSettings  # noqa: PLC0415

    return TrainerService(read_environment(TrainerSettings)), None


def _web_address(settings: ServerSettings, *, requires_tokens: bool | None, insecure: bool) -> str:
    """Where the budget service's page is to be served; "" for nowhere.

    Raises:
        InvalidArgumentError: where strangers could open it.
    """
    from isocost.budget.settings import BudgetSettings  # noqa: PLC0415

    address = read_environment(BudgetSettings).web_address
    if not address:
        return ""
    host, _, port = address.rpartition(":")
    if not host or not port:
        raise InvalidArgumentError(_WEB_ADDRESS, f"{address!r} is not HOST:PORT; give for example 127.0.0.1:7611")
    check_exposure("page", host, settings, requires_tokens=requires_tokens, insecure=insecure, field=_WEB_ADDRESS)
    return address


@contextlib.asynccontextmanager
async def _page(web_address: str, socket_path: Path, settings: ServerSettings) -> AsyncIterator[None]:
    """Serves the page in front of the budget service of this process."""
    from isocost.core.channel import ChannelSettings  # noqa: PLC0415
    from isocost.web.server import WebServer  # noqa: PLC0415 - an extra
    from isocost.web.visit import BudgetAddress  # noqa: PLC0415

    async with contextlib.AsyncExitStack() as stack:
        budget = BudgetAddress(f"unix:{socket_path}", ChannelSettings())
        try:
            page = await stack.enter_async_context(WebServer(web_address, budget, settings))
        except InvalidArgumentError as error:
            raise InvalidArgumentError(_WEB_ADDRESS, error.message) if error.field == "web_address" else error from None
        console.print(f"the page is at {page.url}")
        yield


async def _run(
    name: str, services: dict[str, tuple[Service, str]], settings: ServerSettings, *, web_address: str
) -> None:
    """Serves until a signal; services by their names, each with its address, and the budget service's page."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        from isocost.core.metrics import MetricsServer  # noqa: PLC0415
        from isocost.core.tracing import Tracing  # noqa: PLC0415

        tracing = Tracing(name, ratio=settings.trace_ratio)
        stack.push_async_callback(tracing.close)
        metrics = None
        if settings.metrics_address:
            metrics = stack.enter_context(MetricsServer(settings))
            console.print(f"metrics on {metrics.address}")
        hosts = []
        socket_path = None
        if web_address:
            # The page calls the service as any client does, but has no certificate of a client to show.
            socket_path = Path(stack.enter_context(TemporaryDirectory(prefix="isocost-"))) / "budget.sock"
        for service_name, (service, address) in services.items():
            host = ServiceHost(
                service,
                address,
                settings,
                metrics=metrics,
                tracing=tracing,
                socket_path=socket_path if service_name == ServiceName.BUDGET else None,
            )
            hosts.append(await stack.enter_async_context(host))
            console.print(f"{service_name} listens on {host.address}")
        if socket_path is not None:
            await stack.enter_async_context(_page(web_address, socket_path, settings))
        await stop.wait()
        console.print("stopping")
        # All at once: each may take its whole time to drain.
        await asyncio.gather(*(host.drain() for host in hosts))


def serve(
    service: Annotated[ServiceName, typer.Argument(help="Which service.")] = ServiceName.ALL,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="Port, for a single service; 0 picks a free one.")] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen beyond loopback without encryption or authentication.")
    ] = False,
) -> None:
    """Serves until SIGINT or SIGTERM; settings come from ISOCOST_SERVER_*, _BUDGET_*, _LABELER_* and _TRAINER_*."""
    names = list(PORTS) if service is ServiceName.ALL else [service]
    if port is not None and len(names) > 1:
        raise InvalidArgumentError("--port", "names one port, but several services are served; name one service")
    settings = read_server_settings()
    check_metrics_exposure(settings)
    services = {}
    web_address = ""
    for name in names:
        made, requires_tokens = _service(name)
        if name is ServiceName.BUDGET:
            web_address = _web_address(settings, requires_tokens=requires_tokens, insecure=insecure)
        check_exposure(name.value, host, settings, requires_tokens=requires_tokens, insecure=insecure)
        services[name.value] = (made, f"{host}:{PORTS[name] if port is None else port}")
    configure_logs(sys.stderr, level=settings.log_level)
    process = "isocost" if service is ServiceName.ALL else f"isocost-{service.value}"
    asyncio.run(_run(process, services, settings, web_address=web_address))
