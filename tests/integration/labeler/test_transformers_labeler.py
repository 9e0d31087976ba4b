"""The labeler with the in-process engine, over real gRPC."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from isocost.client.labeler import LabelerClient
from isocost.core.errors import FailedPreconditionError, InvalidArgumentError, IsocostError, from_rpc_error
from isocost.labeler.service import LabelerService
from isocost.labeler.settings import LabelerSettings
from isocost.microworld.carried import MODEL_NAMES
from isocost.resources.task import Item, Task
from isocost.tasks.model_path import resolve_model
from isocost.tasks.prompt import FewShotExample
from isocost.v1 import labeler_service_pb2 as pb
from isocost.v1 import labeler_service_pb2_grpc, resources_pb2
from tests.refusals import refusal_of

Serve = Callable[..., Awaitable[LabelerClient]]


async def test_generate_equals_plain_transformers(serve: Serve, models: Any, kit: Any) -> None:
    client = await serve(engine="transformers")
    items = kit.make_items(150)
    results = [result async for result in client.label(items, kit.verdict, model=models.llama)]
    kit.assert_close(results, kit.reference(models.llama, kit.verdict, items))
    probabilities = [result.label.probabilities[1] for result in results if result.label]
    assert max(probabilities) - min(probabilities) > 0.5, "a model that answers alike to all would hide errors"


async def test_few_shot_block_stands_before_every_item(serve: Serve, models: Any, kit: Any) -> None:
    client = await serve(engine="transformers")
    items = [item for item in kit.make_items(40, seed=1) if len(item.fields["text"].split()) < 40]
    examples = [FewShotExample({"text": "w1 w2"}, 1), FewShotExample({"text": "w3"}, 0)]
    results = [
        result async for result in client.predict(items, kit.verdict, model=models.llama, few_shot_examples=examples)
    ]
    kit.assert_close(results, kit.reference(models.llama, kit.verdict, items, examples))
    assert (await client.describe()).n_stored_labels == 0


@pytest.mark.parametrize("kind", ["llama_classifier", "bert_classifier"])
async def test_classify_equals_plain_transformers(serve: Serve, models: Any, kit: Any, kind: str) -> None:
    client = await serve(engine="transformers")
    folder = getattr(models, kind)
    task = kit.topics_3 if kind == "llama_classifier" else kit.topics_4
    items = kit.make_items(60)
    # Ends in the padding token: the decoder's head must still read this token, not the one before.
    items.append(Item("ends in padding", {"text": "w1 w2 <pad>"}))
    results = [result async for result in client.label(items, task, model=folder, runner="classify")]
    expected = kit.reference(folder, task, items)
    if kind == "llama_classifier":
        del expected["ends in padding"]
        (padded,) = [result for result in results if result.item_id == "ends in padding"]
        results.remove(padded)
        shorter = [
            r async for r in client.predict([Item("x", {"text": "w1 w2"})], task, model=folder, runner="classify")
        ]
        assert padded.label is not None
        assert shorter[0].label is not None
        assert padded.label.probabilities != pytest.approx(shorter[0].label.probabilities, abs=1e-6)
    kit.assert_close(results, expected)


@pytest.mark.parametrize("name", MODEL_NAMES)
async def test_carried_models_are_served(serve: Serve, kit: Any, name: str) -> None:
    client = await serve(engine="transformers")
    task = Task("claims", "question : has {e} {r} {v} ? answer :", ("no", "yes"))
    items = [Item(f"i{n}", {"e": "batin", "r": "colour", "v": value}) for n, value in enumerate(["red", "blue"])]
    model = f"microworld:{name}"
    results = [result async for result in client.label(items, task, model=model)]
    kit.assert_close(results, kit.reference(resolve_model(model), task, items))


async def test_one_bad_item_does_not_stop_the_stream(serve: Serve, models: Any, kit: Any) -> None:
    client = await serve(engine="transformers")
    items = kit.make_items(100)
    items[10] = Item("no text", {"words": "w1"})
    items[20] = Item("too long", {"text": "w1 " * 200})
    results = {result.item_id: result async for result in client.label(items, kit.verdict, model=models.llama)}
    assert len(results) == 100
    assert "fields.text: missing" in results["no text"].error
    assert f"has 204 tokens, more than the model's {kit.n_positions - 1}" in results["too long"].error
    assert sum(result.label is not None for result in results.values()) == 98
    assert (await client.describe()).n_stored_labels == 98


async def test_labels_outlive_the_labeler(serve: Serve, models: Any, kit: Any) -> None:
    items = kit.make_items(70)
    first = await serve(engine="transformers")
    made = {result.item_id: result.label async for result in first.label(items, kit.verdict, model=models.llama)}
    description = await first.describe()
    assert (description.engine, description.n_stored_labels) == ("transformers", 70)
    (served,) = description.served_models
    assert (served.model, served.runner) == (models.llama, "generate")

    second = await serve(engine="transformers")
    again = [result async for result in second.label(items, kit.verdict, model=models.llama)]
    assert all(result.stored for result in again)
    assert {result.item_id: result.label for result in again} == made
    assert (await second.describe()).served_models == (), "nothing was loaded for it"
    (label,) = {label.engine_fingerprint for label in made.values() if label}
    assert label == served.engine_fingerprint


async def test_models_take_turns(serve: Serve, models: Any, kit: Any) -> None:
    client = await serve(engine="transformers")

    async def ask(model: str, task: Task, runner: Any, seed: int) -> int:
        items = kit.make_items(100, seed=seed)
        return len([r async for r in client.label(items, task, model=model, runner=runner) if r.label])

    counts = await asyncio.gather(
        ask(models.llama, kit.verdict, "generate", 1),
        ask(models.bert_classifier, kit.topics_4, "classify", 2),
        ask(models.llama, kit.verdict, "generate", 3),
        ask(models.llama_classifier, kit.topics_3, "classify", 4),
    )
    assert list(counts) == [100] * 4
    assert len((await client.describe()).served_models) == 1


async def test_caller_that_goes_away_frees_the_engine(serve: Serve, models: Any, kit: Any) -> None:
    client = await serve(engine="transformers")
    stub = labeler_service_pb2_grpc.LabelerServiceStub(client._channel)
    config = pb.LabelerConfig(model=models.llama, task=kit.verdict.to_proto())
    hold = asyncio.Event()

    async def requests() -> AsyncIterator[pb.LabelRequest]:
        yield pb.LabelRequest(config=config)
        yield pb.LabelRequest(batch=pb.ItemBatch(items=[item.to_proto() for item in kit.make_items(3)]))
        await hold.wait()

    call = stub.Label(requests())
    response = await call.read()
    assert isinstance(response, pb.LabelResponse)
    assert len(response.results) == 3
    call.cancel()
    # Needs the one engine that may be loaded: it would wait for ever if the cancelled stream kept its own.
    items = kit.make_items(5)
    results = [r async for r in client.label(items, kit.topics_4, model=models.bert_classifier, runner="classify")]
    assert len(results) == 5


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"model": ""}, InvalidArgumentError, "config.model: not set"),
        ({"model": "/nowhere/model"}, InvalidArgumentError, "config.model: '/nowhere/model' is not a folder"),
        ({"choices": ["yes"]}, InvalidArgumentError, "config.task.choices: 1 given; a task needs at least two"),
        ({"choices": ["yes", " yes"]}, InvalidArgumentError, "config.task.choices: .* are the same tokens"),
        ({"template": "question"}, InvalidArgumentError, "config.task.template: shows no field"),
        ({"runner": pb.RUNNER_CLASSIFY}, InvalidArgumentError, "config.runner: classify needs"),
        ({"classes": True}, InvalidArgumentError, "config.task.choices: the task has 2 choices, but .* has 4 classes"),
        ({"example": 2}, InvalidArgumentError, r"config.few_shot_examples\[0\].choice: 2 is not the index"),
        ({"no_config": True}, InvalidArgumentError, "config: the first message of the stream must hold"),
        ({"two_configs": True}, InvalidArgumentError, "batch: every message after the first"),
        ({"n_items": 10_001}, InvalidArgumentError, "batch.items: 10001 items in one message; send at most 10000"),
    ],
)
async def test_bad_request_gets_one_clear_error(
    serve: Serve, models: Any, changes: dict[str, Any], error: type[IsocostError], message: str
) -> None:
    client = await serve(engine="transformers")
    task = Task("verdict", "question {text} ? answer", ("no", "yes")).to_proto()
    task.choices[:] = changes.get("choices", task.choices)
    task.template = changes.get("template", task.template)
    config = pb.LabelerConfig(model=changes.get("model", models.llama), runner=changes.get("runner", 0), task=task)
    if "classes" in changes:
        config.model, config.runner = models.bert_classifier, pb.RUNNER_CLASSIFY
    if "example" in changes:
        config.few_shot_examples.add(fields={"text": "w1"}, choice=changes["example"])
    items = [resources_pb2.Item(item_id=f"i{n}", fields={"text": "w1"}) for n in range(changes.get("n_items", 1))]
    requests = [pb.LabelRequest(config=config), pb.LabelRequest(batch=pb.ItemBatch(items=items))]
    if "no_config" in changes:
        requests = requests[1:]
    if "two_configs" in changes:
        requests.insert(1, requests[0])
    stub = labeler_service_pb2_grpc.LabelerServiceStub(client._channel)

    async def call() -> None:
        async for _ in stub.Label(aiter_of(requests)):
            pass

    with pytest.raises(error, match=message):
        raise from_rpc_error(await refusal_of(call))


async def aiter_of(requests: list[pb.LabelRequest]) -> AsyncIterator[pb.LabelRequest]:
    for request in requests:
        yield request


async def test_malformed_item_on_the_wire_gets_its_own_error(serve: Serve, models: Any, kit: Any) -> None:
    client = await serve(engine="transformers")
    config = pb.LabelerConfig(model=models.llama, task=kit.verdict.to_proto())
    items = [
        resources_pb2.Item(item_id="", fields={"text": "w1"}),
        resources_pb2.Item(item_id="empty"),
        kit.make_items(1)[0].to_proto(),
    ]
    requests = [pb.LabelRequest(config=config), pb.LabelRequest(batch=pb.ItemBatch(items=items))]
    stub = labeler_service_pb2_grpc.LabelerServiceStub(client._channel)
    results = {r.item_id: r async for response in stub.Label(aiter_of(requests)) for r in response.results}
    assert "empty or longer" in results[""].error
    assert "has no fields" in results["empty"].error
    assert math.fsum(results["item-0"].probabilities) == pytest.approx(1)


async def test_weights_that_cannot_be_read_are_named(serve: Serve, models: Any, kit: Any, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    for file in Path(models.llama).iterdir():  # noqa: ASYNC240 - a handful of small files
        if file.suffix == ".json":
            (folder / file.name).write_bytes(file.read_bytes())
    client = await serve(engine="transformers")
    with pytest.raises(InvalidArgumentError, match=r"the weights of '.*broken' cannot be loaded") as caught:
        _ = [result async for result in client.label(kit.make_items(1), kit.verdict, model=str(folder))]
    assert caught.value.field == "config.model"


async def test_vllm_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isocost.labeler.service.vllm_version", lambda: None)
    with pytest.raises(FailedPreconditionError, match="vLLM is not installed") as caught:
        await LabelerService(LabelerSettings(state_dir=tmp_path, engine="vllm")).start()
    assert caught.value.field == "engine"
    automatic = LabelerService(LabelerSettings(state_dir=tmp_path))
    await automatic.start()
    description = await automatic.Describe(pb.DescribeRequest(), None)  # type: ignore[arg-type]
    assert description.engine == "transformers"
    await automatic.close()
