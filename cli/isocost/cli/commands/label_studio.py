"""`isocost label-studio`: a campaign's items as tasks of a Label Studio project, and the annotations back as labels."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack
from typing import Annotated

import typer
from rich.markup import escape

from isocost.cli.connection import (
    AddressOption,
    CaFileOption,
    CertFileOption,
    KeyFileOption,
    TokenOption,
    channel_settings,
)
from isocost.cli.console import console
from isocost.client import BudgetClient, QueueClient
from isocost.core.channel import ChannelSettings
from isocost.core.errors import InvalidArgumentError, IsocostError, PermissionDeniedError

__all__ = ["label_studio"]

#: What errors' fields are called here.
_OPTIONS = {
    "campaign_id": "CAMPAIGN",
    "source_id": "--source",
    "label_studio_url": "--url",
    "label_studio_api_key": "--api-key",
    "label_studio_project": "--project",
    "webhook_address": "--webhook-address",
}


def _say(text: str) -> None:
    console.print(escape(text))


async def _sync(
    address: str,
    channel: ChannelSettings,
    *,
    campaign: str,
    source: str,
    url: str,
    api_key: str,
    title: str,
    n_items: int,
    webhook_address: str,
    webhook_url: str,
    poll_seconds: float,
    once: bool,
) -> None:
    """Syncs until a signal, until the campaign is finished, or once."""
    from isocost.label_studio.project import check_title, default_title  # noqa: PLC0415 - needs an extra
    from isocost.label_studio.server import LabelStudioServer  # noqa: PLC0415
    from isocost.label_studio.sync import LabelStudioSync  # noqa: PLC0415
    from isocost.label_studio.watch import line, watch  # noqa: PLC0415
    from isocost.label_studio.webhook import Webhook  # noqa: PLC0415

    title = check_title(title or default_title(campaign, source))
    async with AsyncExitStack() as stack:
        budget = await stack.enter_async_context(BudgetClient(address, channel=channel))
        queue = await stack.enter_async_context(QueueClient(address, channel=channel))
        server = await stack.enter_async_context(LabelStudioServer(url, api_key))
        webhook = None
        if webhook_address and not once:
            webhook = Webhook(f"{campaign}/{source}", webhook_address, webhook_url)
            await stack.enter_async_context(webhook)
        sync = LabelStudioSync(
            budget, queue, server, campaign, source, title=title, n_items=n_items, webhook=webhook, say=_say
        )
        if once:
            _say(line(await sync.run_once()) or "nothing to do")
            return
        called = webhook.called if webhook is not None else asyncio.Event()
        watching = asyncio.create_task(watch(sync, called, poll_seconds, _say))
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, watching.cancel)
        try:
            await watching
        except asyncio.CancelledError:
            _say("stopped; the same command goes on")


def label_studio(
    campaign: Annotated[str, typer.Argument(help="Campaign id.")],
    url: Annotated[str, typer.Option(help="Base URL of Label Studio.", envvar="ISOCOST_LABEL_STUDIO_URL")],
    address: AddressOption = None,
    source: Annotated[str, typer.Option(help="The HUMAN source to answer for.")] = "human",
    api_key: Annotated[
        str,
        typer.Option(
            help="Label Studio's personal access token, or a legacy token; better in the variable.",
            envvar="ISOCOST_LABEL_STUDIO_API_KEY",
        ),
    ] = "",
    project: Annotated[
        str, typer.Option(help="Title of the project, which is made where there is none; else CAMPAIGN / SOURCE.")
    ] = "",
    items: Annotated[int, typer.Option(min=1, max=1_000, help="Items in Label Studio's hands at a time.")] = 100,
    webhook_address: Annotated[
        str, typer.Option(help="host:port where Label Studio's webhook is taken; empty for none.")
    ] = "127.0.0.1:7605",
    webhook_url: Annotated[
        str, typer.Option(help="How Label Studio reaches --webhook-address; else the address itself.")
    ] = "",
    poll_seconds: Annotated[
        float, typer.Option(min=1, max=1_200, help="Between two looks, where no webhook comes.")
    ] = 30,
    once: Annotated[bool, typer.Option("--once", help="One pass in both directions, without webhook.")] = False,
    token: TokenOption = None,
    ca_file: CaFileOption = None,
    cert_file: CertFileOption = None,
    key_file: KeyFileOption = None,
) -> None:
    """Keeps a Label Studio project in step with a campaign, until Ctrl-C or SIGTERM. May be killed at any time.

    Items that await an answer become tasks; annotations become labels in the name of the user's email address, each
    paid once.
    """
    channel = channel_settings(token, ca_file, cert_file, key_file)
    if address is None:
        raise InvalidArgumentError("--address", "not given; name the budget service, HOST:PORT")
    try:
        asyncio.run(
            _sync(
                address,
                channel,
                campaign=campaign,
                source=source,
                url=url,
                api_key=api_key,
                title=project,
                n_items=items,
                webhook_address=webhook_address,
                webhook_url=webhook_url,
                poll_seconds=poll_seconds,
                once=once,
            )
        )
    except IsocostError as error:
        if isinstance(error, PermissionDeniedError) and error.field not in _OPTIONS:
            raise PermissionDeniedError(f"{error.message}; give a pipeline's token", field="--token") from None
        error.field = _OPTIONS.get(error.field, error.field)
        raise
