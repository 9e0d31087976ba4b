"""Closed models behind the trainer's own gRPC service, told of the API by the environment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from isocost.client.trainer import TrainerClient
from isocost.core.errors import InvalidArgumentError
from isocost.resources.method import Head
from isocost.resources.run import EvaluationSet, Example, RunSpec, RunState
from tests.integration.trainer.fine_tuning.fake_api import BASE_MODEL, KEY, FakeApi
from tests.integration.trainer.fine_tuning.scene import HUMAN, SEQUENTIAL, TASK, TEST, WEAK
from tests.integration.trainer.weather import Server, finish


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApi]:
    with FakeApi() as opened:
        monkeypatch.setenv("ISOCOST_FINE_TUNING_BASE_URL", opened.url)
        monkeypatch.setenv("ISOCOST_FINE_TUNING_API_KEY", KEY)
        monkeypatch.setenv("ISOCOST_FINE_TUNING_POLL_INTERVAL_SECONDS", "0.001")
        yield opened


async def _spec(client: TrainerClient) -> RunSpec:
    async def put(examples: Sequence[Example]) -> str:
        return await client.put_examples(examples)

    return RunSpec(
        TASK,
        SEQUENTIAL,
        f"openai:{BASE_MODEL}",
        weak_digest=await put(WEAK),
        n_weak=len(WEAK),
        human_digest=await put(HUMAN),
        n_human=len(HUMAN),
        evaluation_sets=(EvaluationSet("test", await put(TEST)),),
    )


async def test_a_run_through_the_service_and_a_failed_jobs_message_in_it(tmp_path: Path, api: FakeApi) -> None:
    async with Server(tmp_path / "state") as client:
        spec = await _spec(client)
        api.fail_jobs_with = "unsafe training file"
        failed = await finish(client, await client.create_run(spec))
        assert failed.state is RunState.FAILED
        assert "ftjob-0 failed: unsafe training file" in failed.error
        api.fail_jobs_with = ""
        done = await finish(client, await client.create_run(spec))
        assert done.state is RunState.SUCCEEDED, done.error
        assert done.evaluations[0].accuracy == 1.0
        assert [stage.n_labels for stage in done.stages] == [len(WEAK), len(HUMAN)]
        with pytest.raises(InvalidArgumentError, match=r"spec\.method\.head"):
            await client.create_run(replace(spec, method=replace(SEQUENTIAL, head=Head.CLASSIFICATION)))
    assert KEY.encode() not in _content(tmp_path)


def _content(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
