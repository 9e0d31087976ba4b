"""Runs side by side in worker processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from isocost.client.trainer import TrainerClient
from isocost.resources.method import Method, Stage
from isocost.resources.run import Example, Run, RunState
from isocost.resources.task import LabelKind
from tests.integration.trainer.test_kill import LONG
from tests.integration.trainer.test_service import ENDLESS, HUMAN, QUICK, make_spec, until_training
from tests.integration.trainer.weather import Server, finish, sequential
from tests.integration.trainer.wide import (
    ended,
    facts,
    make_sweep,
    n_stages,
    n_trained,
    succeeded,
    wide,
    worker_processes,
)

#: Put before the worker's program, it kills every worker that is given a run with this seed.
DOOMED_SEED = 666
KILLER = f"""
import os, signal, sys
if "isocost.trainer.workers.worker_main" in sys.orig_argv:
    from isocost.trainer.workers.worker import InProcessWorker
    execute = InProcessWorker.execute
    def killing(self, run_id, spec, *others):
        if spec.seed == {DOOMED_SEED}:
            os.kill(os.getpid(), signal.SIGKILL)
        return execute(self, run_id, spec, *others)
    InProcessWorker.execute = killing
"""


async def test_side_by_side_is_one_after_another_bit_for_bit(tmp_path: Path, llama_dir: Path) -> None:
    async with Server(tmp_path / "narrow") as client:
        one_by_one = await succeeded(client, await make_sweep(client, llama_dir))
    async with wide(tmp_path / "wide") as client:
        side_by_side = await succeeded(client, await make_sweep(client, llama_dir))
        assert len(worker_processes()) == 2
    assert facts(side_by_side) == facts(one_by_one)
    for runs in (side_by_side, one_by_one):
        assert n_stages(runs) == 2 + 6
        assert n_trained(runs) == 8, "each stage once"


async def test_two_train_at_the_same_time_and_end_when_cancelled(tmp_path: Path, llama_dir: Path) -> None:
    async with wide(tmp_path) as client:
        first = await client.create_run(await make_spec(client, llama_dir, ENDLESS))
        second = await client.create_run(await make_spec(client, llama_dir, ENDLESS, seed=1))
        third = await client.create_run(await make_spec(client, llama_dir))
        await until_training(client, first)
        await until_training(client, second)
        assert (await client.get_run(first.run_id)).state is RunState.RUNNING
        assert (await client.get_run(third.run_id)).state is RunState.QUEUED
        assert (await client.cancel_run(second.run_id)).state is RunState.CANCELLED
        assert (await finish(client, third)).state is RunState.SUCCEEDED
        assert (await client.get_run(first.run_id)).state is RunState.RUNNING
        assert len(worker_processes()) == 2, "the same ones"
    assert worker_processes() == []


async def test_a_run_waits_for_the_stage_that_another_trains(tmp_path: Path, llama_dir: Path) -> None:
    async with wide(tmp_path) as client:
        spec = await make_spec(client, llama_dir, ENDLESS)
        maker = await client.create_run(spec)
        waiting = await client.create_run(replace(spec, n_human=8))
        other = await client.create_run(await make_spec(client, llama_dir))
        await until_training(client, maker)
        assert (await finish(client, other)).state is RunState.SUCCEEDED, "it overtakes"
        assert (await client.get_run(waiting.run_id)).state is RunState.QUEUED
        await client.cancel_run(maker.run_id)
        await until_training(client, waiting)
        await client.cancel_run(waiting.run_id)


async def test_models_with_fewer_layers_are_made_once(tmp_path: Path, llama_dir: Path) -> None:
    async with wide(tmp_path) as client:
        spec = replace(await make_spec(client, llama_dir), method=sequential(recipe=QUICK, n_layers=1))
        await succeeded(client, [replace(spec, seed=seed) for seed in range(4)])
    assert len(list((tmp_path / "bases").iterdir())) == 1


async def until_second_stage(client: TrainerClient, run: Run) -> None:
    async for seen in client.watch_run(run.run_id):
        assert not seen.state.ended
        if seen.progress.stage_index == 1 and seen.progress.step > 2:
            return


async def test_a_worker_that_is_killed_costs_no_finished_stage(tmp_path: Path, llama_dir: Path) -> None:
    method = Method("killed", (Stage(LabelKind.WEAK, QUICK), Stage(LabelKind.HUMAN, LONG)))
    async with wide(tmp_path / "killed") as client:
        spec = replace(await make_spec(client, llama_dir), method=method)
        run = await client.create_run(spec)
        await until_second_stage(client, run)
        (process,) = worker_processes()
        process.kill()
        done = await finish(client, run)
        (other,) = worker_processes()
        assert other.pid != process.pid
    async with wide(tmp_path / "undisturbed") as client:
        await make_spec(client, llama_dir)
        undisturbed = await finish(client, await client.create_run(spec))
    assert done.state is RunState.SUCCEEDED
    assert [stage.reused for stage in done.stages] == [True, False]
    assert facts([done]) == facts([undisturbed])


async def test_a_run_that_kills_every_worker_fails_and_the_rest_succeed(
    tmp_path: Path, llama_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(KILLER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    async with wide(tmp_path / "state") as client:
        spec = await make_spec(client, llama_dir)
        specs = [replace(spec, seed=seed) for seed in (0, DOOMED_SEED, 1, 2)]
        runs = await ended(client, specs)
    assert [run.state for run in runs] == [RunState.SUCCEEDED, RunState.FAILED, *[RunState.SUCCEEDED] * 2]
    assert runs[1].error == (
        "3 workers died with the run in them; the last worker was killed by signal 9 (SIGKILL), "
        "as happens where memory runs out"
    )


async def test_a_worker_that_dies_under_a_cancelled_run_leaves_it_cancelled(tmp_path: Path, llama_dir: Path) -> None:
    async with wide(tmp_path) as client:
        run = await client.create_run(await make_spec(client, llama_dir, ENDLESS))
        await until_training(client, run)
        (process,) = worker_processes()
        process.suspend()
        cancelling = asyncio.create_task(client.cancel_run(run.run_id))
        # It is answered once the run has ended: from a stopped process no answer comes.
        await asyncio.sleep(0)
        assert not cancelling.done()
        process.kill()
        assert (await cancelling).state is RunState.CANCELLED


async def test_errors_of_a_worker_are_the_runs(tmp_path: Path, llama_dir: Path) -> None:
    async with wide(tmp_path / "state") as client:
        spec = await make_spec(client, llama_dir)
        long = await client.put_examples([Example("too-long", {"text": "w1 " * 70}, (1.0, 0.0)), *HUMAN])
        model = tmp_path / "changed"
        shutil.copytree(llama_dir, model)
        endless = await make_spec(client, llama_dir, ENDLESS)
        busy = [await client.create_run(replace(endless, seed=seed)) for seed in range(2)]
        changed = await client.create_run(replace(spec, base_model=str(model)))
        (model / "vocab.extra").write_text("another file of the tokenizer")
        for run in busy:
            await client.cancel_run(run.run_id)
        failed = await finish(client, await client.create_run(replace(spec, human_digest=long)))
        assert failed.error.startswith("item 'too-long': the prompt has 75 tokens")
        changed = await finish(client, changed)
        assert changed.error == (
            f"spec.base_model: the files of {str(model)!r} are not those for which the run was created; "
            "create the run again"
        )


def wait_for_end(processes: list[psutil.Process]) -> None:
    """Returns when they are gone, or there only because nobody has asked how they ended."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            while process.status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.02)


async def test_no_worker_outlives_a_service_that_is_killed(tmp_path: Path, llama_dir: Path) -> None:
    service = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("serve.py")),
        str(tmp_path),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1", "ISOCOST_TRAINER_N_WORKERS": "2"},
    )
    try:
        assert service.stdout is not None
        client = TrainerClient((await service.stdout.readline()).decode().strip())
        endless = await make_spec(client, llama_dir, ENDLESS)
        runs = [await client.create_run(replace(endless, seed=seed)) for seed in range(2)]
        for run in runs:
            await until_training(client, run)
        workers = worker_processes(service.pid)
        assert len(workers) == 2
        service.send_signal(signal.SIGKILL)
        await service.wait()
        await asyncio.to_thread(wait_for_end, workers)
        await client.close()
    finally:
        if service.returncode is None:
            service.kill()
            await service.wait()
