"""The `isocost` command."""

from __future__ import annotations

import sys

import typer

from isocost.cli import commands
from isocost.cli.console import print_error
from isocost.core.errors import InvalidArgumentError, IsocostError

__all__ = ["EXIT_BAD_INPUT", "EXIT_FAILED", "app", "main"]

#: Exit codes: the input is wrong and nothing was done; a service or a run failed and what was bought is kept.
EXIT_BAD_INPUT = 2
EXIT_FAILED = 1

app = typer.Typer(
    name="isocost",
    help="The most accuracy out of a labelling budget.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("run")(commands.run)
app.command("label")(commands.label)
app.command("predict")(commands.predict)
app.command("sweep")(commands.sweep)
app.command("replay")(commands.replay)
app.command("serve")(commands.serve)
app.command("doctor")(commands.doctor)
app.command("status")(commands.status)
app.command("plan")(commands.plan)
app.command("annotate")(commands.annotate)
app.command("web")(commands.web)
app.command("label-studio")(commands.label_studio)
app.command("report")(commands.report)
app.command("export")(commands.export)
app.add_typer(commands.ledger, name="ledger")
app.add_typer(commands.microworld, name="microworld")
app.add_typer(commands.queue, name="queue")
app.add_typer(commands.token, name="token")


def main() -> None:
    """Entry point: errors that isocost knows are one message, never a traceback."""
    try:
        app()
    except IsocostError as error:
        print_error(str(error))
        sys.exit(EXIT_BAD_INPUT if isinstance(error, InvalidArgumentError) else EXIT_FAILED)
