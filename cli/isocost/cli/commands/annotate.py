"""`isocost annotate`: answering a campaign's items in the terminal."""

from __future__ import annotations

import asyncio
import fcntl
import getpass
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
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
    channel_settings,
    state_database,
)
from isocost.cli.console import console
from isocost.cli.keyboard import End, Keyboard
from isocost.client import BudgetClient, QueueClient
from isocost.core.channel import ChannelSettings
from isocost.core.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError, PermissionDeniedError
from isocost.resources.queue import LeaseState

__all__ = ["EXIT_INTERRUPTED", "annotate"]

#: Stopped by Ctrl-C or SIGTERM, in order.
EXIT_INTERRUPTED = 130
#: What the service's names of what is wrong are called here.
_OPTIONS = {"campaign_id": "CAMPAIGN", "source_id": "--source", "annotator": "--annotator"}


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Holds an output folder for this process, as `isocost run` does.

    Raises:
        FailedPreconditionError: where another process holds it.
    """
    with (out / "state" / "lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FailedPreconditionError(
                f"another isocost process is running in {out}; wait for it or end it (for several annotators at once, "
                "let `isocost serve budget` serve the campaign, and give each --address)",
                field="--out",
            ) from None
        yield


@asynccontextmanager
async def _open(
    out: Path | None, address: str | None, channel: ChannelSettings
) -> AsyncIterator[tuple[BudgetClient, QueueClient]]:
    if (out is None) == (address is None):
        raise InvalidArgumentError("--out", "give either --out DIR or --address HOST:PORT")
    if address is not None:
        async with BudgetClient(address, channel=channel) as budget, QueueClient(address, channel=channel) as queue:
            yield budget, queue
        return
    assert out is not None
    database = state_database(out)
    from isocost.budget.service import BudgetService  # noqa: PLC0415 - only for a local folder
    from isocost.budget.settings import BudgetSettings  # noqa: PLC0415
    from isocost.core.grpc_server import ServiceHost  # noqa: PLC0415

    with _locked(out):
        service = BudgetService(BudgetSettings(database_url=f"sqlite:///{database}"))
        async with (
            ServiceHost(service, "127.0.0.1:0") as host,
            BudgetClient(host.address) as budget,
            QueueClient(host.address) as queue,
        ):
            yield budget, queue


async def _campaign_id(budget: BudgetClient, named: str | None) -> str:
    """The named campaign, or the only one.

    Raises:
        InvalidArgumentError: where there is no such campaign, or none is named and there is not exactly one to be seen.
    """
    try:
        campaign_ids = [campaign.campaign_id for campaign in await budget.list_campaigns()]
    except PermissionDeniedError:
        if named is None:
            raise InvalidArgumentError(
                "CAMPAIGN", "not given, and this token may not list campaigns; name the one to answer for"
            ) from None
        return named
    listed = ", ".join(campaign_ids) or "none; there is no campaign"
    if named is None:
        if len(campaign_ids) != 1:
            raise InvalidArgumentError("CAMPAIGN", f"not given; name one of {listed}")
        return campaign_ids[0]
    if named not in campaign_ids:
        raise InvalidArgumentError("CAMPAIGN", f"there is no campaign {named!r}; name one of {listed}")
    return named


def _annotator(named: str | None, token: str) -> str:
    """Who answers: as named, else as the token says, else the user of this machine.

    Raises:
        InvalidArgumentError: where nobody can be told.
    """
    if named is not None or token:
        return named or ""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise InvalidArgumentError("--annotator", "not given, and this user has no name; give one") from None


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
        async with _open(out, address, channel) as (budget, queue):
            who = _annotator(annotator, channel.token if out is None else "")
            seat = Seat(await _campaign_id(budget, campaign), source, who, batch)
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
