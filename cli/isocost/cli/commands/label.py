"""`isocost label`: weak labels for a whole file."""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import Coroutine
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.markup import escape

from isocost.bulk.job import Job, check_id_column, check_output, run_job
from isocost.bulk.labeler_link import LabelerPlace
from isocost.bulk.price import form_price
from isocost.bulk.question import TaskFile, form_question, load_task
from isocost.bulk.ray_job import RayJob, RayPlace, run_ray_job
from isocost.bulk.rows import RowFile
from isocost.cli.bulk_view import BulkProgress, print_outcome
from isocost.cli.commands.run import EXIT_INTERRUPTED
from isocost.cli.connection import CaFileOption, CertFileOption, KeyFileOption, TokenOption, channel_settings
from isocost.cli.console import console
from isocost.core.errors import InvalidArgumentError
from isocost.core.money import Money
from isocost.embedded.signals import cancelled_by_signals

__all__ = [
    "ExamplesOption",
    "IdColumnOption",
    "InputOption",
    "LabelerAddressOption",
    "LabelerRunner",
    "RunnerOption",
    "StateOption",
    "TaskOption",
    "id_column_of",
    "label",
    "labeler_place",
    "run_interruptible",
]

_Result = TypeVar("_Result")


class LabelerRunner(StrEnum):
    """How the model is asked."""

    GENERATE = "generate"
    CLASSIFY = "classify"


InputOption = Annotated[Path, typer.Option("--input", help="Rows to label: a .csv, .jsonl or .parquet file.")]
TaskOption = Annotated[
    Path | None,
    typer.Option(
        "--task",
        help="YAML file with name, template and choices, or a campaign file; a finished run's model brings its own.",
    ),
]
RunnerOption = Annotated[
    LabelerRunner | None,
    typer.Option(
        "--runner",
        help="How the model is asked: generate prompts a language model (the default), classify reads a "
        "classification model.",
    ),
]
ExamplesOption = Annotated[
    Path | None,
    typer.Option("--examples", help="Few-shot block: a table with the task's columns and a column label, order kept."),
]
IdColumnOption = Annotated[
    str | None, typer.Option("--id-column", help="Column of ids to copy to the output; else rows are numbered.")
]
LabelerAddressOption = Annotated[
    str | None,
    typer.Option("--address", help="host:port of a labeler that runs; else one is started in this process."),
]
StateOption = Annotated[
    Path | None,
    typer.Option("--state", help="Folder of the started labeler's store and logs [default: .isocost/labeler]."),
]


def run_interruptible(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Runs until done; Ctrl-C and SIGTERM close everything and tell how to go on.

    Raises:
        typer.Exit: with the exit code of a stopped command.
    """

    async def run() -> _Result:
        with cancelled_by_signals():
            return await work

    try:
        return asyncio.run(run())
    except (asyncio.CancelledError, KeyboardInterrupt):
        raise _stopped() from None


def _stopped() -> typer.Exit:
    """Tells how to go on."""
    console.print("Stopped. To go on:")
    console.print(f"  {escape(shlex.join(['isocost', *sys.argv[1:]]))}")
    return typer.Exit(EXIT_INTERRUPTED)


def id_column_of(option: str | None, file: TaskFile) -> str | None:
    """The column of ids: the option's, or else the campaign file's."""
    return file.id_column if option is None else option


def labeler_place(
    address: str | None,
    state: Path | None,
    token: str | None,
    ca_file: Path | None,
    cert_file: Path | None,
    key_file: Path | None,
) -> LabelerPlace:
    """Where the labeler is.

    Raises:
        InvalidArgumentError: where the options contradict each other.
    """
    if address is None:
        return LabelerPlace(state_dir=state)
    if state is not None:
        raise InvalidArgumentError("--state", "a labeler at --address keeps its own; leave one of them out")
    return LabelerPlace(address, channel_settings(token, ca_file, cert_file, key_file))


def _budget(amount: str | None, currency: str) -> Money | None:
    if amount is None:
        return None
    budget = Money.parse(amount, currency, field="--budget")
    if budget.micros <= 0:
        raise InvalidArgumentError("--budget", f"{budget} buys nothing; give an amount greater than zero")
    return budget


def label(
    input_path: InputOption,
    output: Annotated[
        Path,
        typer.Option("--output", help="File to write, .parquet or .jsonl; with --ray, a folder of .parquet parts."),
    ],
    model: Annotated[
        str, typer.Option("--model", help="Folder, hub name, microworld:weak, or a finished run's adapter folder.")
    ],
    task: TaskOption = None,
    runner: RunnerOption = None,
    examples: ExamplesOption = None,
    id_column: IdColumnOption = None,
    unit_price: Annotated[str | None, typer.Option("--unit-price", help="Price of one label.")] = None,
    price_per_million_tokens: Annotated[
        str | None,
        typer.Option("--price-per-million-tokens", help="Price of a million prompt tokens, instead of --unit-price."),
    ] = None,
    budget: Annotated[
        str | None, typer.Option("--budget", help="The most that all labels of the file may cost; needs a price.")
    ] = None,
    state: StateOption = None,
    address: LabelerAddressOption = None,
    token: TokenOption = None,
    ca_file: CaFileOption = None,
    cert_file: CertFileOption = None,
    key_file: KeyFileOption = None,
    ray: Annotated[
        str | None,
        typer.Option("--ray", help="Label on a Ray cluster: its address, auto, or local for one on this machine."),
    ] = None,
    ray_workers: Annotated[int, typer.Option("--ray-workers", min=1, help="Labelers on the cluster.")] = 2,
    ray_gpus: Annotated[float, typer.Option("--ray-gpus", min=0, help="GPUs of each labeler.")] = 0.0,
    ray_cpus: Annotated[float, typer.Option("--ray-cpus", min=0, help="CPU cores of each labeler.")] = 1.0,
    ray_part_rows: Annotated[
        int, typer.Option("--ray-part-rows", min=1, help="Rows of one part of the output.")
    ] = 5000,
) -> None:
    """Labels every row of a file with a model. The same command again goes on where it stopped."""
    file = load_task(task) if task is not None else None
    question, file = form_question(model, file, None if runner is None else runner.value, examples)
    price = form_price(unit_price, price_per_million_tokens, file.currency)
    most = _budget(budget, file.currency)
    place = labeler_place(address, state, token, ca_file, cert_file, key_file)
    if ray is None:
        check_output(output, id_column_of(id_column, file))
        rows = RowFile(input_path, file, id_column_of(id_column, file))
        job = Job(question, rows, output, place, price, most)
        with BulkProgress("labelling") as progress:
            outcome = run_interruptible(run_job(job, progress.show))
        print_outcome(outcome.tally, str(outcome.path), progress.rate.elapsed_seconds, outcome.served)
        return
    check_id_column(id_column_of(id_column, file))
    rows = RowFile(input_path, file, id_column_of(id_column, file))
    ray_job = RayJob(
        question, rows, output, place, RayPlace(ray, ray_workers, ray_cpus, ray_gpus, ray_part_rows), price, most
    )
    with BulkProgress("labelling") as progress:
        try:
            tally = run_ray_job(ray_job, progress.show)
        except KeyboardInterrupt:
            raise _stopped() from None
    print_outcome(tally, str(output), progress.rate.elapsed_seconds)
