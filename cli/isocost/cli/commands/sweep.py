"""`isocost sweep`: a whole grid of training runs, and the report of what it found."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from isocost.cli.commands.run import EXIT_INTERRUPTED, Engine
from isocost.cli.connection import channel_settings
from isocost.cli.console import RichProgress, console
from isocost.cli.sweep_view import print_sweep, print_written
from isocost.core.errors import InvalidArgumentError
from isocost.sweep.config_file import load_config
from isocost.sweep.plan import SweepPlan, make_plan
from isocost.sweep.preflight import check_models
from isocost.sweep.runner import SweepOutcome

__all__ = ["EXIT_RUNS_FAILED", "sweep"]

#: Runs failed; the others are in the report, and the same command tries them again.
EXIT_RUNS_FAILED = 1
_STATE = "state"


def sweep(
    spec: Annotated[Path, typer.Argument(help="Spec of the sweep (YAML).", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results, the report and the services' state.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the tasks' data instead of what the spec names.")] = None,
    trainer: Annotated[
        str | None, typer.Option(help="host:port of a running trainer, instead of one in this process.")
    ] = None,
    labeler: Annotated[
        str | None, typer.Option(help="host:port of a running labeler, instead of one in this process.")
    ] = None,
    n_workers: Annotated[int | None, typer.Option(min=1, help="Runs trained side by side, each in a process.")] = None,
    engine: Annotated[
        Engine, typer.Option(help="What makes weak labels; auto is vLLM where it is installed.")
    ] = Engine.AUTO,
    vllm_url: Annotated[
        str | None, typer.Option(help="Use the vLLM server at this URL instead of starting one.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say how large the sweep is, and do nothing.")] = False,
) -> None:
    """Runs methods x budgets x weak fractions x weak prices x seeds x tasks, and reports.

    The same command again goes on where it stopped, and tries again what failed.
    """
    if out is None and not dry_run:
        raise InvalidArgumentError("--out", "missing; give the folder to write to, or --dry-run")
    if trainer is not None and n_workers is not None:
        raise InvalidArgumentError("--n-workers", "is for the trainer in this process; leave it out with --trainer")
    config = load_config(spec, data=data)
    if not dry_run:
        check_models(config, trains_here=trainer is None, labels_here=labeler is None)
    with console.status("reading the data"):
        plan = make_plan(config)
    _print_plan(plan)
    if dry_run or out is None:
        return
    with RichProgress() as progress:
        try:
            outcome = asyncio.run(
                _run(
                    plan,
                    out,
                    progress,
                    addresses=(labeler, trainer),
                    n_workers=n_workers,
                    engine=engine,
                    vllm_url=vllm_url or "",
                )
            )
        except (asyncio.CancelledError, KeyboardInterrupt):
            outcome = None
    if outcome is None:
        console.print("Stopped. All labels, and all stages that are trained, are kept. To go on:")
        console.print(f"  {escape(shlex.join(['isocost', *sys.argv[1:]]))}")
        raise typer.Exit(EXIT_INTERRUPTED)
    _report(out, outcome)
    if outcome.n_failed:
        raise typer.Exit(EXIT_RUNS_FAILED)


def _print_plan(plan: SweepPlan) -> None:
    counts = plan.counts()
    capped = f" ({counts.n_capped:,} with fewer items than the money would buy)" if counts.n_capped else ""
    console.print(f"grid points      {counts.n_points:,}{capped}")
    console.print(f"runs             {counts.n_runs:,}, of {counts.n_stages:,} different stages at most")
    for name, n_labels in counts.n_weak_labels.items():
        n_gold = counts.n_gold_labels[name]
        made = f"; made with {n_gold:,} gold labels beside the cost axis" if n_gold else ""
        console.print(f"weak labels      {n_labels:,} by {escape(name)}{made}")
    console.print(f"human labels     {counts.n_human_labels:,}")


async def _run(
    plan: SweepPlan,
    out: Path,
    progress: RichProgress,
    *,
    addresses: tuple[str | None, str | None],
    n_workers: int | None,
    engine: Engine,
    vllm_url: str,
) -> SweepOutcome:
    """Runs the sweep on services in this process, but for those whose addresses are given."""
    # Torch and transformers take seconds to import: only after the spec is known to be right.
    from isocost.client import LabelerClient, TrainerClient  # noqa: PLC0415
    from isocost.embedded.launcher import EmbeddedServices  # noqa: PLC0415
    from isocost.embedded.signals import cancelled_by_signals  # noqa: PLC0415
    from isocost.labeler.settings import LabelerSettings  # noqa: PLC0415
    from isocost.sweep.runner import run_sweep  # noqa: PLC0415
    from isocost.trainer.settings import TrainerSettings  # noqa: PLC0415

    labeler_address, trainer_address = addresses
    state_dir = (out / _STATE).resolve()
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(cancelled_by_signals())
        labeler = trainer = None
        if labeler_address:
            labeler = await stack.enter_async_context(LabelerClient(labeler_address, channel=channel_settings()))
        if trainer_address:
            trainer = await stack.enter_async_context(TrainerClient(trainer_address, channel=channel_settings()))
        if labeler is None or trainer is None:
            trainer_settings = TrainerSettings(state_dir=state_dir / "trainer")
            if n_workers is not None:
                trainer_settings = trainer_settings.model_copy(update={"n_workers": n_workers})
            services = await stack.enter_async_context(
                EmbeddedServices(
                    state_dir,
                    labeler_settings=LabelerSettings(
                        state_dir=state_dir / "labeler", engine=engine.value, vllm_url=vllm_url
                    ),
                    trainer_settings=trainer_settings,
                )
            )
            labeler, trainer = labeler or services.labeler, trainer or services.trainer
        return await run_sweep(plan, out, labeler, trainer, progress)


def _report(out: Path, outcome: SweepOutcome) -> None:
    from isocost.report.sweep.findings import find  # noqa: PLC0415 - draws charts
    from isocost.report.sweep.page import write_sweep_report  # noqa: PLC0415

    if not outcome.n_succeeded:
        console.print(f"No run succeeded; {escape(str(out / 'results.parquet'))} says why.", style="bold red")
        return
    findings = find(out)
    print_sweep(findings)
    print_written(write_sweep_report(out, findings), out)
