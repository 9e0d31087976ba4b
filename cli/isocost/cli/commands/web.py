"""`isocost web`: the web page in front of a campaign folder or of a budget service elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import Annotated

import typer

from isocost.cli.connection import (
    AddressOption,
    CaFileOption,
    CertFileOption,
    KeyFileOption,
    OutOption,
    channel_settings,
    serve_folder,
)
from isocost.cli.console import console
from isocost.core.channel import ChannelSettings
from isocost.core.errors import InvalidArgumentError
from isocost.core.server_settings import check_exposure, read_server_settings

__all__ = ["WEB_PORT", "web"]

#: Where no other is given.
WEB_PORT = 7611


def web(
    out: OutOption = None,
    address: AddressOption = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port of the page; 0 picks a free one.")] = WEB_PORT,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen beyond loopback without encryption or tokens.")
    ] = False,
    ca_file: CaFileOption = None,
    cert_file: CertFileOption = None,
    key_file: KeyFileOption = None,
) -> None:
    """Serves the page on which people label and owners follow a campaign, until Ctrl-C; visitors sign in themselves."""
    if (out is None) == (address is None):
        raise InvalidArgumentError("--out", "give either --out DIR or --address HOST:PORT")
    from isocost.web.server import WebServer  # noqa: PLC0415 - an extra
    from isocost.web.visit import BudgetAddress, requires_tokens  # noqa: PLC0415

    settings = read_server_settings()

    async def serve() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with contextlib.AsyncExitStack() as stack:
            if out is not None:
                # Beside `isocost run`, which may come and go while people label: both go through the database.
                served = await stack.enter_async_context(serve_folder(out, exclusively=False))
                budget = BudgetAddress(served, ChannelSettings())
            else:
                assert address is not None
                budget = BudgetAddress(address, channel_settings("", ca_file, cert_file, key_file))
            with_tokens = await requires_tokens(budget)
            check_exposure("page", host, settings, requires_tokens=with_tokens, insecure=insecure)
            try:
                page = await stack.enter_async_context(WebServer(f"{host}:{port}", budget, settings))
            except InvalidArgumentError as error:
                raise InvalidArgumentError("--port", error.message) if error.field == "web_address" else error from None
            console.print(f"the page is at {page.url}")
            await stop.wait()
            console.print("stopping")

    asyncio.run(serve())
