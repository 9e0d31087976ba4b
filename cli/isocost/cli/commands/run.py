"""`isocost run`: a whole campaign on one machine."""

from __future__ import annotations

import asyncio
import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from isocost.campaign.channel import LabelsAwaitedError
from isocost.campaign.config_file import load_config
from isocost.cli.console import RichProgress, console, print_summary

__all__ = ["EXIT_AWAITING_LABELS", "EXIT_INTERRUPTED", "Engine", "run"]

#: People have work to do; run the same command again when they have done it.
EXIT_AWAITING_LABELS = 3
#: Stopped by Ctrl-C or SIGTERM.
EXIT_INTERRUPTED = 130


class Engine(StrEnum):
    """What makes the weak labels."""

    AUTO = "auto"
    VLLM = "vllm"
    TRANSFORMERS = "transformers"


def run(
    campaign: Annotated[Path, typer.Argument(help="Campaign file (YAML).", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for the report, the adapter and the campaign's state.")],
    data: Annotated[
        Path | None, typer.Option(help="Read items from this file instead of what the campaign file names.")
    ] = None,
    strong_model: Annotated[
        str | None, typer.Option(help="Model folder to use instead of the strong model that the file names.")
    ] = None,
    engine: Annotated[
        Engine, typer.Option(help="What makes weak labels; auto is vLLM where it is installed.")
    ] = Engine.AUTO,
    vllm_url: Annotated[
        str | None, typer.Option(help="Use the vLLM server at this URL instead of starting one.")
    ] = None,
) -> None:
    """Runs a campaign: buys labels, trains, decides, and reports. The same command again goes on where it stopped."""
    config = load_config(campaign, data=data, strong_model=strong_model)
    with console.status("loading the services"):
        # Torch and transformers take seconds to import: only after the file is known to be right.
        from isocost.embedded.run import run_embedded  # noqa: PLC0415

    with RichProgress() as progress:
        try:
            outcome = asyncio.run(run_embedded(config, out, progress, engine=engine.value, vllm_url=vllm_url or ""))
        except (asyncio.CancelledError, KeyboardInterrupt):
            outcome = None
        except LabelsAwaitedError as error:
            progress.say(str(error))
            raise typer.Exit(EXIT_AWAITING_LABELS) from None
    if outcome is None:
        console.print("Stopped. Everything bought and trained is kept. To go on:")
        console.print(f"  {escape(shlex.join(['isocost', *sys.argv[1:]]))}")
        raise typer.Exit(EXIT_INTERRUPTED)
    print_summary(outcome.evidence)
    for path in outcome.paths:
        console.print(f"[dim]written[/]  {escape(str(path))}")
