"""`isocost predict`: a model's answers to a whole file, computed anew and not stored."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from isocost.bulk.job import Job, check_output, run_job
from isocost.bulk.question import form_question, load_task
from isocost.bulk.rows import RowFile
from isocost.cli.bulk_view import BulkProgress, print_outcome
from isocost.cli.commands.label import (
    ExamplesOption,
    IdColumnOption,
    InputOption,
    LabelerAddressOption,
    RunnerOption,
    StateOption,
    TaskOption,
    id_column_of,
    labeler_place,
    run_interruptible,
)
from isocost.cli.connection import CaFileOption, CertFileOption, KeyFileOption, TokenOption

__all__ = ["predict"]


def predict(
    input_path: InputOption,
    output: Annotated[Path, typer.Option("--output", help="File to write, .parquet or .jsonl.")],
    model: Annotated[
        str,
        typer.Option("--model", help="Output folder of a finished run, such as runs/demo/adapter, or any other model."),
    ],
    task: TaskOption = None,
    runner: RunnerOption = None,
    examples: ExamplesOption = None,
    id_column: IdColumnOption = None,
    state: StateOption = None,
    address: LabelerAddressOption = None,
    token: TokenOption = None,
    ca_file: CaFileOption = None,
    cert_file: CertFileOption = None,
    key_file: KeyFileOption = None,
) -> None:
    """Predicts every row of a file with a trained model, whose folder tells the task; nothing is stored."""
    file = load_task(task) if task is not None else None
    question, file = form_question(model, file, None if runner is None else runner.value, examples)
    check_output(output, id_column_of(id_column, file))
    rows = RowFile(input_path, file, id_column_of(id_column, file))
    place = labeler_place(address, state, token, ca_file, cert_file, key_file)
    job = Job(question, rows, output, place, predicts=True)
    with BulkProgress("predicting") as progress:
        outcome = run_interruptible(run_job(job, progress.show))
    print_outcome(outcome.tally, str(outcome.path), progress.rate.elapsed_seconds, outcome.served)
