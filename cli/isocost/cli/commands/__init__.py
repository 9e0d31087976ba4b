"""One module a command."""

from isocost.cli.commands.annotate import annotate
from isocost.cli.commands.doctor import doctor
from isocost.cli.commands.export import export
from isocost.cli.commands.label import label
from isocost.cli.commands.label_studio import label_studio
from isocost.cli.commands.ledger import ledger
from isocost.cli.commands.microworld import microworld
from isocost.cli.commands.plan import plan
from isocost.cli.commands.predict import predict
from isocost.cli.commands.queue import queue
from isocost.cli.commands.replay import replay
from isocost.cli.commands.report import report
from isocost.cli.commands.run import run
from isocost.cli.commands.serve import serve
from isocost.cli.commands.status import status
from isocost.cli.commands.sweep import sweep
from isocost.cli.commands.token import token
from isocost.cli.commands.web import web

__all__ = [
    "annotate",
    "doctor",
    "export",
    "label",
    "label_studio",
    "ledger",
    "microworld",
    "plan",
    "predict",
    "queue",
    "replay",
    "report",
    "run",
    "serve",
    "status",
    "sweep",
    "token",
    "web",
]
