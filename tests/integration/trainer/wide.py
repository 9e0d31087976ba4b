"""A trainer with several workers, and a sweep to give it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from isocost.client.trainer import TrainerClient
from isocost.resources.run import Run, RunSpec, RunState, SweepNews
from tests.integration.trainer.test_service import make_spec
from tests.integration.trainer.weather import Server


def wide(state_dir: Path, **changes: Any) -> Server:
    """Two workers, unless another number is given."""
    server = Server(state_dir)
    server.settings = server.settings.model_copy(update={"n_workers": 2, **changes})
    return server


async def make_sweep(client: TrainerClient, model: Path) -> list[RunSpec]:
    """Six runs on two sets of weak labels: their first stages are two, their second ones six."""
    spec = await make_spec(client, model)
    return [replace(spec, n_weak=n_weak, n_human=n_human) for n_weak in (16, 32) for n_human in (8, 12, 16)]


async def ended(client: TrainerClient, specs: Sequence[RunSpec]) -> list[Run]:
    """The runs of a sweep in the sequence of their specifications."""
    news = [news async for news in client.sweep(specs)]
    by_spec = [run for run in (part.run for part in news) if run is not None]
    assert (news[-1].n_runs, news[-1].n_succeeded + news[-1].n_failed) == (len(specs), len(specs))
    return [next(run for run in by_spec if run.spec == spec) for spec in specs]


async def succeeded(client: TrainerClient, specs: Sequence[RunSpec]) -> list[Run]:
    runs = await ended(client, specs)
    assert [(run.state, run.error) for run in runs] == [(RunState.SUCCEEDED, "")] * len(runs)
    return runs


def facts(runs: Sequence[Run]) -> list[object]:
    """All that a run showed, but for how long it took and who trained its stages; and its weights."""
    return [
        (
            run.run_id,
            [replace(stage, seconds=0, reused=False) for stage in run.stages],
            run.evaluations,
            Path(run.output_path, "adapter_model.safetensors").read_bytes(),
        )
        for run in runs
    ]


def n_trained(runs: Sequence[Run]) -> int:
    return sum(not stage.reused for run in runs for stage in run.stages)


def n_stages(runs: Sequence[Run]) -> int:
    return len({stage.stage_id for run in runs for stage in run.stages})


def counts(news: SweepNews) -> tuple[int, int, int]:
    return news.n_runs, news.n_succeeded, news.n_failed


def worker_processes(parent: int | None = None) -> list[psutil.Process]:
    """Processes of workers below a process, or below this one."""
    found = []
    for process in psutil.Process(parent).children(recursive=True):
        try:
            if "isocost.trainer.workers.worker_main" in process.cmdline():
                found.append(process)
        except psutil.Error:
            continue
    return found
