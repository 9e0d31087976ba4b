"""A trainer that is killed outright loses no finished stage, goes on inside one, and leaves nothing half-written."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

from isocost.client.trainer import TrainerClient
from isocost.resources.method import Method, Stage
from isocost.resources.run import Run, RunState
from isocost.resources.task import LabelKind
from tests.integration.trainer.test_service import QUICK, make_spec
from tests.integration.trainer.weather import Server, finish

#: Long enough to be killed in, and always of the same length: 1,000 evaluations without improvement never pass.
LONG = replace(QUICK, max_examples=32 * 60, patience=1000)


@contextlib.asynccontextmanager
async def _process(state_dir: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, TrainerClient]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("serve.py")),
        str(state_dir),
        stdout=asyncio.subprocess.PIPE,
        # A checkpoint after every step.
        env=os.environ | {"OMP_NUM_THREADS": "1", "ISOCOST_TRAINER_CHECKPOINT_INTERVAL_SECONDS": "1e-6"},
    )
    try:
        assert process.stdout is not None
        client = TrainerClient((await process.stdout.readline()).decode().strip())
        yield process, client
        await client.close()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_sigkill_in_the_second_stage_then_the_same_result(tmp_path: Path, llama_dir: Path) -> None:
    method = Method("killed", (Stage(LabelKind.WEAK, QUICK), Stage(LabelKind.HUMAN, LONG)))
    state_dir = tmp_path / "killed"
    async with _process(state_dir) as (process, client):
        spec = replace(await make_spec(client, llama_dir), method=method)
        run = await client.create_run(spec)
        async for seen in client.watch_run(run.run_id):
            assert not seen.state.ended
            if seen.progress.stage_index == 1 and seen.progress.step > 2:
                break
        process.kill()
        await process.wait()
    # What a kill in the middle of writing leaves behind.
    (state_dir / "stages" / ".tmp-half").mkdir()
    (state_dir / "runs" / run.run_id / ".tmp-half").write_text("{")

    async with Server(state_dir) as client:
        assert not list(state_dir.rglob(".tmp-*"))
        found = await client.get_run(run.run_id)
        assert found.state is RunState.CANCELLED
        assert "create the run again" in found.error
        seen_again = [run async for run in client.watch_run((await client.create_run(spec)).run_id)]
        again = seen_again[-1]
        steps = [seen.progress.step for seen in seen_again if seen.progress.stage_index == 1 and seen.progress.step]
        # From the checkpoint, not from the stage's beginning; reports may skip a step or two.
        assert min(steps) > 1
        assert not list((state_dir / "checkpoints").iterdir())
    async with Server(tmp_path / "undisturbed") as client:
        await make_spec(client, llama_dir)
        undisturbed = await finish(client, await client.create_run(spec))

    assert again.run_id == undisturbed.run_id == run.run_id
    assert [stage.reused for stage in again.stages] == [True, False]
    assert [stage.reused for stage in undisturbed.stages] == [False, False]
    facts = [[replace(stage, seconds=0, reused=False) for stage in done.stages] for done in (again, undisturbed)]
    assert facts[0] == facts[1]
    assert again.evaluations == undisturbed.evaluations
    assert _weights(again) == _weights(undisturbed)


def _weights(run: Run) -> bytes:
    return Path(run.output_path, "adapter_model.safetensors").read_bytes()
