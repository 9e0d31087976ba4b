"""Many runs in one call, and what they showed."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from isocost.client.trainer import TrainerClient
from isocost.core.channel import open_channel
from isocost.core.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from isocost.core.grpc_server import ServiceHost
from isocost.core.money import Money
from isocost.resources.run import EvaluationSet, RunSpec, RunState, SweepNews
from isocost.trainer.service import TrainerService
from isocost.v1 import trainer_service_pb2 as pb
from isocost.v1 import trainer_service_pb2_grpc
from tests.integration.trainer.test_service import ENDLESS, TEST, make_spec, until_training
from tests.integration.trainer.weather import Server, finish, make_examples
from tests.integration.trainer.wide import counts, facts, make_sweep, n_trained, succeeded

CENT = Money(10_000)
DOLLAR = Money(1_000_000)


def _untrained(spec: RunSpec) -> RunSpec:
    """A run that only asks the model: quick."""
    return replace(spec, method=replace(spec.method, name="prompting", stages=()))


async def test_each_run_is_told_of_once_and_counted_as_it_ends(client: TrainerClient, llama_dir: Path) -> None:
    specs = await make_sweep(client, llama_dir)
    news = [news async for news in client.sweep([*specs, specs[0]])]
    runs = [part.run for part in news if part.run is not None]
    assert sorted(run.run_id for run in runs) == sorted({run.run_id for run in runs})
    assert {run.state for run in runs} == {RunState.SUCCEEDED}
    assert [part.n_succeeded for part in news if part.run is not None] == [1, 2, 3, 4, 5, 6]
    assert counts(news[-1]) == (6, 6, 0)
    assert news[-1].eta_seconds == 0
    assert any(part.eta_seconds > 0 for part in news)
    assert [await client.get_run(run.run_id) for run in runs] == runs
    again = [news async for news in client.sweep(specs)]
    assert [part.run for part in again if part.run is not None] == sorted(runs, key=lambda run: specs.index(run.spec))


async def test_other_words_for_the_same_run_count_once(client: TrainerClient, llama_dir: Path) -> None:
    spec = await make_spec(client, llama_dir)
    longer = await client.put_examples([*make_examples(40, 0, prefix="human"), *make_examples(1, 5, prefix="more")])
    news = [news async for news in client.sweep([spec, replace(spec, human_digest=longer)])]
    assert counts(news[-1]) == (1, 1, 0)


async def test_weights_that_were_not_wanted_are_made_when_they_are(client: TrainerClient, llama_dir: Path) -> None:
    spec = await make_spec(client, llama_dir)
    (without,) = await succeeded(client, [replace(spec, discard_output=True)])
    (run,) = await succeeded(client, [spec])
    assert (without.output_path, without.run_id) == ("", run.run_id)
    assert facts([run]), "reads the weights"
    assert n_trained([run]) == 0
    assert await succeeded(client, [spec]) == [run]


async def test_one_that_is_refused_stops_no_other(client: TrainerClient, llama_dir: Path) -> None:
    spec = _untrained(await make_spec(client, llama_dir))
    refused = [replace(spec, weak_digest="e" * 32), replace(spec, n_human=41), replace(spec, base_model="/nowhere")]
    news = [news async for news in client.sweep([*refused, spec])]
    assert counts(news[-1]) == (4, 1, 3)
    failed = [part.run for part in news if part.run is not None and part.run.state is RunState.FAILED]
    assert [(run.run_id, run.spec) for run in failed] == [("", spec) for spec in refused]
    assert [run.error.split(": ")[0] for run in failed] == ["spec.weak_digest", "spec.n_human", "spec.base_model"]


async def test_one_that_no_spec_could_hold_is_answered_as_it_came(tmp_path: Path, llama_dir: Path) -> None:
    async with (
        ServiceHost(TrainerService(Server(tmp_path).settings), "127.0.0.1:0") as host,
        TrainerClient(host.address) as client,
        open_channel(host.address) as channel,
    ):
        good = _untrained(await make_spec(client, llama_dir)).to_proto()
        wrong = pb.RunSpec()
        wrong.CopyFrom(good)
        wrong.seed = -1
        stub = trainer_service_pb2_grpc.TrainerServiceStub(channel)
        requests = iter([pb.SweepRequest(specs=[wrong, wrong]), pb.SweepRequest(specs=[good])])
        responses = [response async for response in stub.Sweep(requests)]
    runs = [response.run for response in responses if response.HasField("run")]
    assert (runs[0].spec, runs[0].error, runs[0].run_id) == (wrong, "spec.seed: negative", "")
    assert runs[1].state == pb.RUN_STATE_SUCCEEDED
    assert responses[-1].n_runs == 2


async def test_news_come_while_nothing_ends(client: TrainerClient, llama_dir: Path) -> None:
    spec = await make_spec(client, llama_dir, ENDLESS)
    async with aclosing(client.sweep([spec])) as sweep:
        news = [await anext(sweep) for _ in range(3)]
    assert [(part.run, *counts(part)) for part in news[1:]] == [(None, 1, 0, 0)] * 2


async def test_runs_go_on_where_the_caller_goes_away(client: TrainerClient, llama_dir: Path) -> None:
    specs = await make_sweep(client, llama_dir)
    async with aclosing(client.sweep(specs)) as sweep:
        async for news in sweep:
            if news.run is not None:
                break
    runs = [await client.create_run(spec) for spec in specs]
    assert [(await finish(client, run)).state for run in runs] == [RunState.SUCCEEDED] * 6


async def test_a_run_that_is_cancelled_counts_as_failed(client: TrainerClient, llama_dir: Path) -> None:
    endless = await make_spec(client, llama_dir, ENDLESS)
    done = asyncio.create_task(_last(client, [endless, replace(endless, seed=1)]))
    run = await client.create_run(endless)
    await until_training(client, run)
    waiting = await client.create_run(replace(endless, seed=1))
    for cancelled in (run, waiting):
        await client.cancel_run(cancelled.run_id)
    assert counts(await done) == (2, 0, 2)


async def _last(client: TrainerClient, specs: list[RunSpec]) -> SweepNews:
    return [news async for news in client.sweep(specs)][-1]


async def test_no_runs_at_all(client: TrainerClient) -> None:
    assert [news async for news in client.sweep([])] == [SweepNews(None, 0, 0, 0)]


async def test_two_thousand_runs_are_queued_while_the_first_one_trains(client: TrainerClient, llama_dir: Path) -> None:
    endless = await make_spec(client, llama_dir, ENDLESS)
    async with aclosing(client.sweep(replace(endless, seed=seed) for seed in range(2_000))) as sweep:
        async for news in sweep:
            if news.n_runs == 2_000:
                break
    run = await client.create_run(endless)
    await until_training(client, run)


async def test_the_frontier_of_runs_is_that_of_their_evaluations(client: TrainerClient, llama_dir: Path) -> None:
    spec = await make_spec(client, llama_dir)
    specs = [replace(spec, n_weak=32, n_human=0, seed=seed) for seed in range(2)]
    specs += [replace(spec, n_weak=0, n_human=n_human) for n_human in (8, 32)]
    runs = await succeeded(client, specs)
    ids = [run.run_id for run in runs]
    accuracy = {run.run_id: run.evaluations[0].accuracy for run in runs}
    points = await client.get_frontier([*ids, ids[0]], "test", CENT, DOLLAR)
    weak = (accuracy[ids[0]] + accuracy[ids[1]]) / 2
    expected = [(Money(320_000), weak, 2)]
    for run_id, cost in ((ids[2], 8), (ids[3], 32)):
        if accuracy[run_id] > expected[-1][1]:
            expected.append((Money(cost * 1_000_000), accuracy[run_id], 1))
    assert [(point.cost, point.accuracy, point.n_seeds) for point in points] == expected
    assert all(point.accuracy_low <= point.accuracy <= point.accuracy_high for point in points)
    free = await client.get_frontier(ids, "test", Money(0, "EUR"), Money(0, "EUR"))
    best = max(weak, accuracy[ids[2]], accuracy[ids[3]])
    assert [(point.cost, point.accuracy) for point in free] == [(Money(0, "EUR"), best)]


async def test_what_has_no_frontier_is_refused(client: TrainerClient, llama_dir: Path) -> None:
    spec = _untrained(await make_spec(client, llama_dir))
    other_set = await client.put_examples(make_examples(20, 7, prefix="other"))
    elsewhere = replace(spec, evaluation_sets=(EvaluationSet("test", other_set),))
    run, other = [(await client.create_run(part)).run_id for part in (spec, elsewhere)]
    assert await client.get_frontier([run], "test", CENT, DOLLAR) == [], "not finished"
    for run_id in (run, other):
        await finish(client, await client.get_run(run_id))
    with pytest.raises(NotFoundError, match="there is no run"):
        await client.get_frontier([run, "run-" + "0" * 32], "test", CENT, DOLLAR)
    with pytest.raises(InvalidArgumentError, match=r"evaluation_set: run .* was not measured on 'pilot'"):
        await client.get_frontier([run], "pilot", CENT, DOLLAR)
    with pytest.raises(InvalidArgumentError, match=r"human_price: in EUR, but weak_price is in USD"):
        await client.get_frontier([run], "test", CENT, Money(1, "EUR"))
    with pytest.raises(InvalidArgumentError, match=r"weak_price: negative"):
        await client.get_frontier([run], "test", Money(-1), DOLLAR)
    with pytest.raises(InvalidArgumentError, match=r"run_ids: empty"):
        await client.get_frontier([], "test", CENT, DOLLAR)
    with pytest.raises(InvalidArgumentError, match=r"evaluation_set: 'test' is not the same"):
        await client.get_frontier([run, other], "test", CENT, DOLLAR)


async def test_predictions_are_the_files_in_the_sets_sequence(tmp_path: Path, llama_dir: Path) -> None:
    async with Server(tmp_path) as client:
        many = make_examples(4_100, 3, prefix="many")
        digests = [await client.put_examples(part) for part in (TEST, many)]
        sets = (EvaluationSet("test", digests[0]), EvaluationSet("many", digests[1]))
        spec = replace(_untrained(await make_spec(client, llama_dir)), evaluation_sets=sets)
        run = await finish(client, await client.create_run(spec))
        found = [prediction async for prediction in client.predictions(run.run_id, "many")]
        assert [part.item_id for part in found] == [example.item_id for example in many]
        assert [part.choice for part in found] == [example.choice for example in many]
        frame = pl.read_parquet(tmp_path / "runs" / run.run_id / "predictions" / "many.parquet")
        assert [list(part.probabilities) for part in found] == frame["probabilities"].to_list()
        right = sum(max(range(2), key=part.probabilities.__getitem__) == part.choice for part in found)
        many_evaluation = run.evaluation("many")
        assert many_evaluation is not None
        assert right / len(found) == pytest.approx(many_evaluation.accuracy)
        assert len([part async for part in client.predictions(run.run_id, "test")]) == len(TEST)

        for run_id, name, error, message in (
            ("run-" + "0" * 32, "many", NotFoundError, "there is no run"),
            (run.run_id, "../many", InvalidArgumentError, r"'\.\./many' is none of the run's: test, many"),
        ):
            with pytest.raises(error, match=message):
                _ = [part async for part in client.predictions(run_id, name)]
        endless = await client.create_run(await make_spec(client, llama_dir, ENDLESS))
        await until_training(client, endless)
        with pytest.raises(FailedPreconditionError, match="RUNNING"):
            _ = [part async for part in client.predictions(endless.run_id, "test")]
