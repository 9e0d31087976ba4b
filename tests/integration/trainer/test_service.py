"""The service over real gRPC."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from isocost.client.trainer import TrainerClient
from isocost.core.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from isocost.resources.method import Recipe
from isocost.resources.run import EvaluationSet, Example, Run, RunSpec, RunState
from isocost.trainer.run_store import RunStore
from isocost.trainer.service import TrainerService
from tests.integration.trainer.weather import RECIPE, Server, finish, llama_task, make_examples, sequential

QUICK = replace(RECIPE, max_examples=320)
#: Never stops by itself within a test.
ENDLESS = Recipe(learning_rate=1e-3, max_examples=32_000_000, patience=1_000_000)
WEAK = make_examples(40, 0, noise=0.4, prefix="weak")
HUMAN = make_examples(40, 0, prefix="human")
TEST = make_examples(60, 1, prefix="test")


async def make_spec(client: TrainerClient, model: Path, recipe: Recipe = QUICK, *, seed: int = 0) -> RunSpec:
    return RunSpec(
        llama_task(),
        sequential(recipe=recipe),
        str(model),
        weak_digest=await client.put_examples(WEAK),
        n_weak=32,
        human_digest=await client.put_examples(HUMAN),
        n_human=16,
        seed=seed,
        evaluation_sets=(EvaluationSet("test", await client.put_examples(TEST)),),
    )


def _has_adapter(run: Run) -> bool:
    return Path(run.output_path, "adapter_model.safetensors").is_file()


async def until_training(client: TrainerClient, run: Run) -> None:
    async for seen in client.watch_run(run.run_id):
        assert not seen.state.ended
        if seen.progress.step:
            return


async def test_a_run_from_creation_to_its_end(client: TrainerClient, llama_dir: Path) -> None:
    spec = await make_spec(client, llama_dir)
    created = await client.create_run(spec)
    assert (created.state, created.spec) == (RunState.QUEUED, spec)
    seen = [run async for run in client.watch_run(created.run_id)]
    assert {run.run_id for run in seen} == {created.run_id}
    assert [run.state.ended for run in seen] == [False] * (len(seen) - 1) + [True]
    steps = [(run.progress.stage_index, run.progress.step) for run in seen if run.state is RunState.RUNNING]
    assert steps == sorted(steps)
    run = seen[-1]
    assert run.state is RunState.SUCCEEDED
    assert [stage.n_labels for stage in run.stages] == [32, 16]
    assert run.evaluation("test") is not None
    assert _has_adapter(run)
    assert run.end_time is not None
    assert await client.get_run(run.run_id) == run


async def test_creating_again_returns_the_run_that_is_there(client: TrainerClient, llama_dir: Path) -> None:
    spec = await make_spec(client, llama_dir)
    first, second = await asyncio.gather(client.create_run(spec), client.create_run(spec))
    assert first.run_id == second.run_id
    done = await finish(client, first)
    assert await client.create_run(spec) == done
    grown = await client.put_examples([*WEAK, *make_examples(10, 9, prefix="more")])
    assert (await client.create_run(replace(spec, weak_digest=grown))).run_id == done.run_id
    assert (await client.create_run(replace(spec, weak_digest=grown))).state is RunState.SUCCEEDED


async def test_a_run_whose_output_is_gone_is_made_again_from_its_stages(client: TrainerClient, llama_dir: Path) -> None:
    spec = await make_spec(client, llama_dir)
    done = await finish(client, await client.create_run(spec))
    shutil.rmtree(done.output_path)
    again = await client.create_run(spec)
    assert (again.run_id, again.state) == (done.run_id, RunState.QUEUED)
    remade = await finish(client, again)
    assert remade.evaluations == done.evaluations
    assert [stage.reused for stage in remade.stages] == [True, True]
    assert _has_adapter(remade)


async def test_runs_wait_for_one_another(client: TrainerClient, llama_dir: Path) -> None:
    endless = await client.create_run(await make_spec(client, llama_dir, ENDLESS))
    waiting = await client.create_run(await make_spec(client, llama_dir))
    await until_training(client, endless)
    assert (await client.get_run(waiting.run_id)).state is RunState.QUEUED
    await client.cancel_run(endless.run_id)
    assert (await finish(client, waiting)).state is RunState.SUCCEEDED


async def test_cancelling_a_run_that_trains_and_one_that_waits(client: TrainerClient, llama_dir: Path) -> None:
    training = await client.create_run(await make_spec(client, llama_dir, ENDLESS))
    waiting = await client.create_run(await make_spec(client, llama_dir, ENDLESS, seed=1))
    await until_training(client, training)
    assert (await client.cancel_run(waiting.run_id)).state is RunState.CANCELLED
    cancelled = await client.cancel_run(training.run_id)
    assert (cancelled.state, cancelled.error, cancelled.stages) == (RunState.CANCELLED, "", ())
    assert await client.cancel_run(training.run_id) == cancelled
    again = await client.create_run(await make_spec(client, llama_dir, ENDLESS))
    assert (again.run_id, again.state) == (training.run_id, RunState.QUEUED)


async def test_a_cancelled_run_is_told_from_one_that_the_services_end_stopped(tmp_path: Path, llama_dir: Path) -> None:
    runs = RunStore(tmp_path / "state" / "runs")
    async with Server(tmp_path / "state") as client:
        spec = await make_spec(client, llama_dir, ENDLESS)
        run = await client.create_run(spec)
        await until_training(client, run)
        await client.cancel_run(run.run_id)
        assert runs.is_marked_cancelled(run.run_id)
        await until_training(client, await client.create_run(spec))
        assert not runs.is_marked_cancelled(run.run_id)
    assert not runs.is_marked_cancelled(run.run_id)


async def test_caches_stay_within_their_bound_and_stages_are_trained_again(
    tmp_path: Path, llama_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Less than one stage takes.
    monkeypatch.setenv("ISOCOST_TRAINER_CACHE_GIB_MAX", "1e-6")
    async with Server(tmp_path / "state") as client:
        spec = await make_spec(client, llama_dir)
        first = await finish(client, await client.create_run(spec))
        # A run that has ended is told of before what it made is looked at: the next one ends behind that.
        await finish(client, await client.create_run(replace(spec, seed=1)))
        again = await finish(client, await client.create_run(replace(spec, evaluation_sets=())))
    assert [stage.reused for stage in again.stages] == [False] * len(first.stages)
    assert [stage.stage_id for stage in again.stages] == [stage.stage_id for stage in first.stages]
    assert _has_adapter(first)


async def test_the_service_answers_while_it_trains(client: TrainerClient, llama_dir: Path) -> None:
    endless = await client.create_run(await make_spec(client, llama_dir, ENDLESS))
    await until_training(client, endless)
    digests = {await client.put_examples(make_examples(20, seed)) for seed in range(5)}
    assert len(digests) == 5
    assert (await client.get_run(endless.run_id)).state is RunState.RUNNING


async def test_a_failed_run_says_why_and_the_next_one_succeeds(client: TrainerClient, llama_dir: Path) -> None:
    spec = await make_spec(client, llama_dir)
    long = await client.put_examples([Example("too-long", {"text": "w1 " * 70}, (1.0, 0.0)), *HUMAN])
    failed = await finish(client, await client.create_run(replace(spec, human_digest=long)))
    assert failed.state is RunState.FAILED
    assert failed.error == (
        "item 'too-long': the prompt has 75 tokens, more than the model's 64; "
        "shorten the item's text or the few-shot block"
    )
    assert (await finish(client, await client.create_run(spec))).state is RunState.SUCCEEDED
    assert (await client.create_run(replace(spec, human_digest=long))).state is RunState.QUEUED


async def test_a_model_that_cannot_be_loaded_fails_its_run_alone(
    client: TrainerClient, llama_dir: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(llama_dir, broken)
    (broken / "model.safetensors").write_bytes(b"not weights")
    failed = await finish(client, await client.create_run(await make_spec(client, broken)))
    assert failed.state is RunState.FAILED
    assert "spec.base_model" in failed.error
    assert "\n" not in failed.error
    assert (
        await finish(client, await client.create_run(await make_spec(client, llama_dir)))
    ).state is RunState.SUCCEEDED


async def test_what_is_wrong_from_the_start_is_refused_at_once(client: TrainerClient, llama_dir: Path) -> None:
    spec = await make_spec(client, llama_dir)
    with pytest.raises(NotFoundError, match=r"spec\.weak_digest: there is no list of examples"):
        await client.create_run(replace(spec, weak_digest="e" * 32))
    with pytest.raises(InvalidArgumentError, match=r"spec\.n_human: 41, but the list has 40 examples"):
        await client.create_run(replace(spec, n_human=41))
    with pytest.raises(InvalidArgumentError, match=r"spec\.base_model: '/nowhere' is not a folder"):
        await client.create_run(replace(spec, base_model="/nowhere"))
    with pytest.raises(InvalidArgumentError, match=r"3 choices"):
        await client.create_run(replace(spec, task=llama_task(3)))
    with pytest.raises(InvalidArgumentError, match=r"examples: the list is empty"):
        await client.put_examples([])


@pytest.mark.parametrize("run_id", ["run-" + "0" * 32, "../../etc", ""])
async def test_an_unknown_run_is_not_found(client: TrainerClient, run_id: str) -> None:
    for call in (client.get_run, client.cancel_run):
        with pytest.raises(NotFoundError, match="there is no run"):
            await call(run_id)
    with pytest.raises(NotFoundError, match="there is no run"):
        _ = [run async for run in client.watch_run(run_id)]


async def test_a_restart_finds_what_ended_and_takes_up_the_rest_when_asked(tmp_path: Path, llama_dir: Path) -> None:
    state_dir = tmp_path / "state"
    async with Server(state_dir) as client:
        done = await finish(client, await client.create_run(await make_spec(client, llama_dir)))
        endless = await client.create_run(await make_spec(client, llama_dir, ENDLESS))
        waiting = await client.create_run(await make_spec(client, llama_dir, seed=1))
        await until_training(client, endless)
    async with Server(state_dir) as client:
        assert await client.get_run(done.run_id) == done
        for run in (endless, waiting):
            found = await client.get_run(run.run_id)
            assert found.state is RunState.CANCELLED
            assert "the trainer stopped before the run ended" in found.error
        assert await client.create_run(await make_spec(client, llama_dir)) == done
        again = await client.create_run(await make_spec(client, llama_dir, seed=1))
        assert again.run_id == waiting.run_id
        assert (await finish(client, again)).state is RunState.SUCCEEDED


async def test_closing_ends_the_watchers_of_a_run_that_trains(tmp_path: Path, llama_dir: Path) -> None:
    server = Server(tmp_path / "state")
    async with server as client:
        endless = await client.create_run(await make_spec(client, llama_dir, ENDLESS))
        await until_training(client, endless)
        watching = asyncio.create_task(finish(client, endless))
        await server.service.close()
        assert (await watching).state is RunState.CANCELLED
        with pytest.raises(FailedPreconditionError, match="not started, or is stopping"):
            await client.create_run(await make_spec(client, llama_dir))


async def test_two_trainers_do_not_share_a_state_folder(tmp_path: Path) -> None:
    server = Server(tmp_path / "state")
    async with server:
        with pytest.raises(FailedPreconditionError, match="another trainer works in"):
            await TrainerService(server.settings).start()
