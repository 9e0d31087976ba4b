"""`isocost queue`: the items that wait for people, as a file, and the file with their answers."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

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
from isocost.client.answer_import import AnswerImport, ImportTally
from isocost.client.item_export import ExportedItems, export_items
from isocost.core.errors import InvalidArgumentError, IsocostError, NotFoundError

__all__ = ["EXIT_REFUSED", "queue"]

#: Some answers were not taken; the others are stored.
EXIT_REFUSED = 1
#: Refused rows that are listed.
_LISTED_MAX = 10
#: What the service and the client name, as it is called here.
_OPTIONS = {"source_id": "--source", "annotator": "--annotator", "file": "FILE"}

queue = typer.Typer(help="Labels by people, in files: .csv, .jsonl or .parquet.", no_args_is_help=True)


@contextmanager
def _named(campaign: str) -> Iterator[None]:
    """Calls what is wrong by the names of this command's own options."""
    try:
        yield
    except (InvalidArgumentError, NotFoundError) as error:
        name = campaign if error.field == "campaign_id" else _OPTIONS.get(error.field)
        if name is None:
            raise
        raise InvalidArgumentError(name, error.message) from None


@queue.command("export")
def export(
    campaign: Annotated[str, typer.Argument(help="Campaign id.", show_default=False)],
    file: Annotated[Path, typer.Argument(help="File to write: .csv, .jsonl or .parquet.", show_default=False)],
    source: Annotated[str, typer.Option(help="The HUMAN source to answer for.")] = "human",
    annotator: Annotated[
        str | None, typer.Option(help="Who answers; else whom the token names, or the user of this machine.")
    ] = None,
    n_items: Annotated[int, typer.Option(min=1, max=1_000_000, help="At most so many items.")] = 100,
    duration_hours: Annotated[
        float, typer.Option(min=0.001, max=24, help="How long nobody else is handed the items.")
    ] = 24,
    out: OutOption = None,
    address: AddressOption = None,
    token: TokenOption = None,
    ca_file: CaFileOption = None,
    cert_file: CertFileOption = None,
    key_file: KeyFileOption = None,
) -> None:
    """Leases items that wait for people and writes them as a file to be filled in. A second call leases others."""
    channel = channel_settings(token, ca_file, cert_file, key_file)

    async def work() -> ExportedItems:
        async with open_queue(out, address, channel) as (_, client):
            who = annotator_name(annotator, channel.token if out is None else "")
            duration = timedelta(hours=duration_hours)
            return await export_items(client, file, campaign, source, who, n_items, duration=duration)

    with _named("CAMPAIGN"):
        exported = asyncio.run(work())
    if exported.task is None:
        console.print("Nothing waits for this annotator; no file is written.")
        return
    lease = exported.leases[0]
    until = f" until {lease.expire_time:%Y-%m-%d %H:%M} UTC" if lease.expire_time else ""
    choices = " or ".join(repr(choice.strip()) for choice in exported.task.choices)
    console.print(f"[dim]leased[/]   {exported.n_items:,} items to {escape(lease.annotator)}{until}")
    console.print(f"[dim]written[/]  {escape(str(file))}; put {escape(choices)} into the column label, then")
    where = ["--out", str(out)] if out is not None else ["--address", str(address)]
    words = ["isocost", "queue", "import", str(file), "--campaign", campaign, "--source", source, *where]
    console.print(f"         {escape(shlex.join(words))}", soft_wrap=True)


@queue.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="File to read: .csv, .jsonl or .parquet.", show_default=False)],
    campaign: Annotated[str, typer.Option(help="Campaign id.")],
    source: Annotated[str, typer.Option(help="The HUMAN source whose labels they are.")] = "human",
    release: Annotated[
        bool, typer.Option("--release", help="Give the items that are not answered back to the queue.")
    ] = False,
    out: OutOption = None,
    address: AddressOption = None,
    token: TokenOption = None,
    ca_file: CaFileOption = None,
    cert_file: CertFileOption = None,
    key_file: KeyFileOption = None,
) -> None:
    """Stores the answers of a file and pays each once, however often it is imported.

    Takes what `isocost queue export` and `isocost export labels` write. Every row is checked before one is stored.
    """
    channel = channel_settings(token, ca_file, cert_file, key_file)

    async def work() -> ImportTally:
        async with open_queue(out, address, channel) as (budget, client):
            answers = AnswerImport(budget, client, campaign, source, file)
            try:
                return await answers.run(release=release)
            except IsocostError:
                if answers.tally.n_accepted or answers.tally.n_duplicate:
                    _print_tally(answers.tally)
                    console.print("The rest is not stored yet; the same command goes on.")
                raise

    with _named("--campaign"):
        tally = asyncio.run(work())
    _print_tally(tally)
    if tally.refused:
        raise typer.Exit(EXIT_REFUSED)


def _print_tally(tally: ImportTally) -> None:
    paid = "" if tally.paid is None else f"  ({tally.paid} settled)"
    lines = [f"[dim]accepted[/]    {tally.n_accepted:,}{paid}", f"[dim]duplicate[/]   {tally.n_duplicate:,}"]
    lines.append(f"[dim]unanswered[/]  {tally.n_unanswered:,}")
    if tally.n_returned:
        lines.append(f"[dim]given back[/]  {tally.n_returned:,}")
    if tally.n_others:
        lines.append(f"[dim]left out[/]    {tally.n_others:,} labels of other sources")
    lines.append(f"[dim]refused[/]     {len(tally.refused):,}")
    for line in [*lines, *_refusals(tally)]:
        console.print(line)


def _refusals(tally: ImportTally) -> Sequence[str]:
    listed = [
        f"  row {refusal.row}, item {escape(refusal.item_id)}: {escape(refusal.reason)}"
        for refusal in tally.refused[:_LISTED_MAX]
    ]
    n_more = len(tally.refused) - len(listed)
    return [*listed, f"  and {n_more:,} more"] if n_more else listed
