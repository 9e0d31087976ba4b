"""The local server speaks the API as OpenAI's own client reads it: field by field, strictly."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.trainer.fine_tuning.fake_api import BASE_MODEL, KEY, FakeApi

openai = pytest.importorskip("openai", reason="OpenAI's client is not installed")


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with FakeApi() as opened:
        yield opened


@pytest.fixture
def client(api: FakeApi) -> Iterator[Any]:
    with openai.OpenAI(api_key=KEY, base_url=api.url, max_retries=0, _strict_response_validation=True) as opened:
        yield opened


def test_a_job_from_file_to_answer(api: FakeApi, client: Any) -> None:
    lines = [
        {"messages": [{"role": "user", "content": f"day {n} sunny"}, {"role": "assistant", "content": "yes"}]}
        for n in range(10)
    ]
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    file = client.files.create(file=("training.jsonl", content), purpose="fine-tune")
    assert file.bytes == len(content)
    job = client.fine_tuning.jobs.create(
        model=BASE_MODEL,
        training_file=file.id,
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}},
        seed=1,
        suffix="mine",
        metadata={"a": "b"},
    )
    states = [job.status]
    while job.status not in ("succeeded", "failed"):
        job = client.fine_tuning.jobs.retrieve(job.id)
        states.append(job.status)
    assert states == ["validating_files", "queued", "running", "succeeded"]
    assert [one.id for one in client.fine_tuning.jobs.list(limit=1)] == [job.id]
    assert [event.data["step"] for event in client.fine_tuning.jobs.list_events(job.id)] == [3, 2, 1]
    answer = client.chat.completions.create(
        model=job.fine_tuned_model,
        messages=[{"role": "user", "content": "sunny"}],
        max_tokens=1,
        temperature=0,
        logprobs=True,
        top_logprobs=20,
    )
    assert answer.choices[0].message.content == "yes"
    assert answer.choices[0].logprobs.content[0].top_logprobs[0].token == "yes"


def test_pages_cancellation_and_refusals(api: FakeApi, client: Any) -> None:
    line = json.dumps({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "yes"}]}) + "\n"
    file = client.files.create(file=("training.jsonl", (line * 10).encode()), purpose="fine-tune")
    method: Any = {"type": "supervised", "supervised": {"hyperparameters": {}}}
    options: Any = {"model": BASE_MODEL, "method": method, "seed": 1, "suffix": "s", "metadata": {}}
    jobs = [client.fine_tuning.jobs.create(training_file=file.id, **options) for _ in range(5)]
    assert [job.id for job in client.fine_tuning.jobs.list()] == [job.id for job in reversed(jobs)]
    assert client.fine_tuning.jobs.cancel(jobs[0].id).status == "cancelled"
    with pytest.raises(openai.NotFoundError):
        client.fine_tuning.jobs.retrieve("ftjob-none")
    short = client.files.create(file=("training.jsonl", (line * 9).encode()), purpose="fine-tune")
    with pytest.raises(openai.BadRequestError, match="at least 10 examples"):
        client.fine_tuning.jobs.create(training_file=short.id, **options)
    with (
        pytest.raises(openai.AuthenticationError),
        openai.OpenAI(api_key="wrong", base_url=api.url, max_retries=0) as stranger,
    ):
        stranger.fine_tuning.jobs.list()
