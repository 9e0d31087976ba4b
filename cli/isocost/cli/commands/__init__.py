"""One module a command."""

from isocost.cli.commands.microworld import microworld
from isocost.cli.commands.report import report
from isocost.cli.commands.run import run
from isocost.cli.commands.serve import serve
from isocost.cli.commands.status import status

__all__ = ["microworld", "report", "run", "serve", "status"]
