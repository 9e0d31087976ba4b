"""Runs on a local Ray cluster with places for two workers."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from isocost.client.trainer import TrainerClient
from isocost.core.errors import FailedPreconditionError, UnavailableError
from isocost.resources.method import Method, Stage
from isocost.resources.run import RunState
from isocost.resources.task import LabelKind
from isocost.trainer.service import TrainerService
from isocost.trainer.workers.worker_ray import TrainActor
from tests.integration.trainer.test_kill import LONG
from tests.integration.trainer.test_service import ENDLESS, QUICK, make_spec, until_training
from tests.integration.trainer.test_workers import until_second_stage, wait_for_end
from tests.integration.trainer.weather import Server, finish
from tests.integration.trainer.wide import facts, make_sweep, n_stages, n_trained, succeeded, wide
from tests.ray_cluster import RAY_MARKS

ray = pytest.importorskip("ray")

pytestmark = RAY_MARKS


def on_ray(state_dir: Path, cluster: str, **changes: Any) -> Server:
    return wide(state_dir, executor="ray", ray_address=cluster, **changes)


def actors() -> list[psutil.Process]:
    """Processes of the cluster's actors that train."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if TrainActor.__name__ in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


async def test_a_cluster_gives_what_one_process_does(cluster: str, tmp_path: Path, llama_dir: Path) -> None:
    async with Server(tmp_path / "alone") as client:
        alone = await succeeded(client, await make_sweep(client, llama_dir))
    async with on_ray(tmp_path / "cluster", cluster) as client:
        runs = await succeeded(client, await make_sweep(client, llama_dir))
        assert len(actors()) == 2
    assert facts(runs) == facts(alone)
    assert (n_stages(runs), n_trained(runs)) == (8, 8), "each stage once"


async def test_an_actor_that_is_killed_costs_no_finished_stage(cluster: str, tmp_path: Path, llama_dir: Path) -> None:
    method = Method("killed", (Stage(LabelKind.WEAK, QUICK), Stage(LabelKind.HUMAN, LONG)))
    async with on_ray(tmp_path, cluster) as client:
        spec = replace(await make_spec(client, llama_dir), method=method)
        other = await client.create_run(await make_spec(client, llama_dir, seed=1))
        assert (await finish(client, other)).state is RunState.SUCCEEDED
        before = {process.pid for process in actors()}
        run = await client.create_run(spec)
        await until_second_stage(client, run)
        for process in actors():
            process.kill()
        done = await finish(client, run)
        assert not before & {process.pid for process in actors()}
    assert (done.state, done.error) == (RunState.SUCCEEDED, "")
    assert [stage.reused for stage in done.stages] == [True, False]


async def test_cancelling_and_what_is_wrong_with_a_run(cluster: str, tmp_path: Path, llama_dir: Path) -> None:
    async with on_ray(tmp_path / "state", cluster, gpus_per_run=0, cpus_per_run=0.5) as client:
        endless = await client.create_run(await make_spec(client, llama_dir, ENDLESS))
        await until_training(client, endless)
        assert (await client.cancel_run(endless.run_id)).state is RunState.CANCELLED
        model = tmp_path / "broken"
        shutil.copytree(llama_dir, model)
        (model / "model.safetensors").write_bytes(b"not weights")
        failed = await finish(client, await client.create_run(await make_spec(client, model)))
        assert failed.state is RunState.FAILED
        assert "spec.base_model" in failed.error
        assert "\n" not in failed.error
        run = await client.create_run(await make_spec(client, llama_dir))
        assert (await finish(client, run)).state is RunState.SUCCEEDED


async def test_a_run_without_a_place_waits_and_can_be_cancelled(cluster: str, tmp_path: Path, llama_dir: Path) -> None:
    async with on_ray(tmp_path, cluster, cpus_per_run=64) as client:
        run = await client.create_run(await make_spec(client, llama_dir))
        async for seen in client.watch_run(run.run_id):
            if seen.state is RunState.RUNNING:
                break
        assert (await client.cancel_run(run.run_id)).state is RunState.CANCELLED


async def test_a_node_that_sees_another_folder_says_so(cluster: str, tmp_path: Path, llama_dir: Path) -> None:
    async with on_ray(tmp_path, cluster) as client:
        (tmp_path / ".shared").write_text("of another machine")
        failed = await finish(client, await client.create_run(await make_spec(client, llama_dir)))
    assert failed.state is RunState.FAILED
    assert failed.error.endswith(
        f"does not see the trainer's folder '{tmp_path}'; "
        "put it on a file system that all nodes share, at the same path"
    )


@pytest.mark.parametrize("is_local", [True, False])
async def test_a_service_that_is_killed_leaves_no_actor(
    cluster: str, tmp_path: Path, llama_dir: Path, is_local: bool
) -> None:
    service = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("serve.py")),
        str(tmp_path),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ
        | {
            "OMP_NUM_THREADS": "1",
            "ISOCOST_TRAINER_EXECUTOR": "ray",
            "ISOCOST_TRAINER_RAY_ADDRESS": "local" if is_local else cluster,
        },
    )
    try:
        assert service.stdout is not None
        client = TrainerClient((await service.stdout.readline()).decode().strip())
        run = await client.create_run(await make_spec(client, llama_dir))
        assert (await finish(client, run)).state is RunState.SUCCEEDED
        await until_training(client, await client.create_run(await make_spec(client, llama_dir, ENDLESS)))
        (actor,) = actors()
        below = psutil.Process(service.pid).children(recursive=True)
        assert (actor in below) == is_local
        service.send_signal(signal.SIGKILL)
        await service.wait()
        await asyncio.to_thread(wait_for_end, [actor, *below])
        await client.close()
    finally:
        if service.returncode is None:
            service.kill()
            await service.wait()


async def test_an_address_where_nobody_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    service = TrainerService(on_ray(tmp_path, "127.0.0.1:1").settings)
    with pytest.raises(UnavailableError, match=r"ray_address: no Ray cluster at '127\.0\.0\.1:1': Connection refused"):
        await service.start()
    async with Server(tmp_path):
        """The folder is free again."""


async def test_without_ray_the_remedy_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr("isocost.trainer.workers.worker_ray.find_spec", lambda name: None)
    with pytest.raises(FailedPreconditionError, match=r"executor: ray, but Ray is not installed; run pip install"):
        await TrainerService(on_ray(tmp_path, "auto").settings).start()
