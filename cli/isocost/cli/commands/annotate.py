"""`isocost annotate`: answering a campaign's items in the terminal."""

from __future__ import annotations

import asyncio
import signal
from typing import Annotated

import typer

from isocost.cli.annotate_session import AnnotateSession, Seat
from isocost.cli.connection import (
    AddressOption,
    CaFileOption,
    CertFileOption,
    KeyFileOption,
    OutOption,
    TokenOption,
    annotator_name,
    channel_settings,
    open_queue,
)
from isocost.cli.console import console
from isocost.cli.keyboard import End, Keyboard
from isocost.client import BudgetClient, QueueClient
from isocost.core.errors import InvalidArgumentError, NotFoundError, PermissionDeniedError
from isocost.resources.queue import LeaseState

__all__ = ["EXIT_INTERRUPTED", "annotate"]

#: Stopped by Ctrl-C or SIGTERM, in order.
EXIT_INTERRUPTED = 130
#: What the service's names of what is wrong are called here.
_OPTIONS = {"campaign_id": "CAMPAIGN", "source_id": "--source", "annotator": "--annotator"}


async def _campaign_id(budget: BudgetClient, queue: QueueClient, named: str | None, annotator: str) -> str:
    """The named campaign, or the only one; for an annotator's token, the only one that asks for labels.

    Raises:
        InvalidArgumentError: where there is no such campaign, or none is named and there is not exactly one to be seen.
    """
    try:
        campaign_ids = [campaign.campaign_id for campaign in await budget.list_campaigns()]
    except PermissionDeniedError:
        if named is not None:
            return named
        campaign_ids = list(dict.fromkeys(found.campaign_id for found in await queue.list_queues(annotator)))
    listed = ", ".join(campaign_ids) or "none; there is no campaign that asks for labels"
    if named is None:
        if len(campaign_ids) != 1:
            raise InvalidArgumentError("CAMPAIGN", f"not given; name one of {listed}")
        return campaign_ids[0]
    if named not in campaign_ids:
        raise InvalidArgumentError("CAMPAIGN", f"there is no campaign {named!r}; name one of {listed}")
    return named


async def _free_own(budget: BudgetClient, queue: QueueClient, seat: Seat) -> None:
    """Ends leases that a killed session left in an output folder, which this process alone holds now."""
    for lease in await budget.list_leases(seat.campaign_id, annotator=seat.annotator):
        if lease.state is LeaseState.OPEN and lease.source_id == seat.source_id:
            await queue.release_lease(f"{lease.lease_id}:release", lease.lease_id)


def annotate(
    campaign: Annotated[str | None, typer.Argument(help="Campaign id; the only one when not given.")] = None,
    out: OutOption = None,
    address: AddressOption = None,
    source: Annotated[str, typer.Option(help="The HUMAN source to answer for.")] = "human",
    annotator: Annotated[
        str | None, typer.Option(help="Who answers; else whom the token names, or the user of this machine.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=1_000, help="Items leased at a time.")] = 10,
    token: TokenOption = None,
    ca_file: CaFileOption = None,
    cert_file: CertFileOption = None,
    key_file: KeyFileOption = None,
) -> None:
    """Asks about a campaign's items, one key a label (? shows the keys). The same command goes on where it stopped."""
    channel = channel_settings(token, ca_file, cert_file, key_file)

    async def work() -> End | None:
        loop = asyncio.get_running_loop()
        async with open_queue(out, address, channel) as (budget, queue):
            who = annotator_name(annotator, channel.token if out is None else "")
            seat = Seat(await _campaign_id(budget, queue, campaign, who), source, who, batch)
            if out is not None:
                await _free_own(budget, queue, seat)
            with Keyboard() as keyboard:

                def stop() -> None:
                    # The second signal does what it does elsewhere.
                    for number in (signal.SIGINT, signal.SIGTERM):
                        loop.remove_signal_handler(number)
                    keyboard.interrupt()

                for number in (signal.SIGINT, signal.SIGTERM):
                    loop.add_signal_handler(number, stop)
                try:
                    return await AnnotateSession(budget, queue, keyboard, seat).run()
                finally:
                    for number in (signal.SIGINT, signal.SIGTERM):
                        loop.remove_signal_handler(number)

    try:
        end = asyncio.run(work())
    except (InvalidArgumentError, NotFoundError, PermissionDeniedError) as error:
        raise InvalidArgumentError(_OPTIONS[error.field], error.message) if error.field in _OPTIONS else error from None
    if end is End.INTERRUPTED:
        console.print("Stopped; the same command goes on.")
        raise typer.Exit(EXIT_INTERRUPTED)
