"""A whole campaign in one process: services, loop, report."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from isocost.campaign.config import CampaignConfig
from isocost.campaign.loop import CampaignLoop, Services
from isocost.core.errors import FailedPreconditionError
from isocost.core.progress import Progress
from isocost.embedded.launcher import EmbeddedServices
from isocost.embedded.signals import cancelled_by_signals
from isocost.labeler.settings import LabelerSettings
from isocost.report.evidence import Evidence, gather
from isocost.report.page import write_report

__all__ = ["ADAPTER", "STATE", "Outcome", "run_embedded"]

#: Folders below the campaign's output folder.
ADAPTER = "adapter"
STATE = "state"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished campaign and the files written about it."""

    evidence: Evidence
    paths: tuple[Path, ...]


@contextlib.contextmanager
def _locked(state_dir: Path) -> Iterator[None]:
    """Holds the state folder for this process; the lock goes with the process, however it ends.

    Raises:
        FailedPreconditionError: where another process holds it.
    """
    state_dir.mkdir(parents=True, exist_ok=True)
    with (state_dir / "lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FailedPreconditionError(
                f"another isocost process is running in {state_dir.parent}; wait for it, end it, or give another --out"
            ) from None
        yield


async def run_embedded(
    config: CampaignConfig,
    out: Path,
    progress: Progress,
    *,
    engine: Literal["auto", "vllm", "transformers"] = "auto",
    vllm_url: str = "",
) -> Outcome:
    """Runs a campaign to its end, or goes on with one that was stopped.

    Writes report.html, result.json, observations.parquet, ledger.parquet and the folder `adapter` into `out`; the
    services keep their state in `out/state`.

    Raises:
        IsocostError: as `CampaignLoop.run`; what was bought is kept.
        asyncio.CancelledError: on SIGINT or SIGTERM.
    """
    state_dir = (out / STATE).resolve()
    labeler_settings = LabelerSettings(state_dir=state_dir / "labeler", engine=engine, vllm_url=vllm_url)
    with _locked(state_dir), cancelled_by_signals():
        async with EmbeddedServices(state_dir, labeler_settings=labeler_settings) as services:
            clients = Services(services.budget, services.labeler, services.trainer)
            run = await CampaignLoop(config, clients, progress, out=out).run()
            evidence = await gather(services.budget, config.campaign)
        with progress.bar("report", 1):
            paths = await asyncio.to_thread(write_report, evidence, out)
            adapter = await asyncio.to_thread(_copy_adapter, Path(run.output_path), out)
    return Outcome(evidence, (*paths, adapter))


def _copy_adapter(source: Path, out: Path) -> Path:
    target, partial = out / ADAPTER, out / f".{ADAPTER}.partial"
    for leftover in (partial, target):
        if leftover.exists():
            shutil.rmtree(leftover)
    shutil.copytree(source, partial)
    return partial.rename(target)
