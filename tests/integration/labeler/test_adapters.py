"""LoRA adapters: the in-process engine and real vLLM against transformers and peft.

Three traps give wrong numbers without a word on a server: base-model requests in one batch with an adapter's, an
adapter overwritten in its place, and an adapter with a head of its own.
"""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from isocost.client.labeler import LabelerClient
from isocost.core.errors import InvalidArgumentError
from tests.integration.labeler.adapters import adapter_reference, make_adapter

Serve = Callable[..., Awaitable[LabelerClient]]
N_CLASSES = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("adapters")


@pytest.fixture(scope="module")
def first(models: Any, folder: Path) -> str:
    return make_adapter(models.llama, folder / "first", seed=1)


@pytest.fixture(scope="module")
def second(models: Any, folder: Path) -> str:
    return make_adapter(models.llama, folder / "second", seed=2)


@pytest.fixture(scope="module")
def many(models: Any, folder: Path, first: str, second: str) -> list[str]:
    """More adapters than a server computes in one step: none of its places stays empty, and so harmless."""
    return [first, second, *(make_adapter(models.llama, folder / f"many-{n}", seed=10 + n) for n in range(4))]


@pytest.fixture(scope="module")
def with_head(models: Any, folder: Path) -> str:
    return make_adapter(models.llama, folder / "with-head", seed=3, n_classes=N_CLASSES)


@pytest.fixture(scope="module")
def vllm(start_process: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with start_process(tmp_path_factory.mktemp("served"), ISOCOST_LABELER_ENGINE="vllm") as labeler:
        yield labeler


@pytest.fixture(params=["transformers", pytest.param("vllm", marks=[pytest.mark.vllm, pytest.mark.timeout(400)])])
async def client(request: pytest.FixtureRequest, serve: Serve) -> AsyncIterator[LabelerClient]:
    if request.param == "transformers":
        yield await serve(engine="transformers")
        return
    async with LabelerClient(request.getfixturevalue("vllm").address) as opened:
        yield opened


async def ask(client: LabelerClient, kit: Any, model: str, n_items: int = 80, seed: int = 0) -> list[Any]:
    items = kit.make_items(n_items, seed=seed)
    return [r async for r in client.predict(items, kit.verdict, model=model)]


async def test_adapters_and_base_asked_side_by_side_equal_peft(
    client: LabelerClient, kit: Any, models: Any, many: list[str]
) -> None:
    """Trap one; and what a wrong batch leaves in the prefix cache would show in the second round."""
    items = kit.make_items(80)
    expected = {model: adapter_reference(models.llama, model, kit.verdict, items) for model in many}
    expected[models.llama] = adapter_reference(models.llama, None, kit.verdict, items)
    # An adapter first, so that the engine is one for adapters; and all of them, so that all places are taken.
    for model in many:
        kit.assert_close(await ask(client, kit, model), expected[model])
    for _ in range(2):
        asked = [models.llama, *many, models.llama]
        results = await asyncio.gather(*(ask(client, kit, model) for model in asked))
        for model, got in zip(asked, results, strict=True):
            kit.assert_close(got, expected[model])
    masses = {round(answers["item-0"][1], 5) for answers in expected.values()}
    assert len(masses) == len(expected), "adapters that change nothing would hide errors"
    (served,) = (await client.describe()).served_models
    assert served.model == models.llama
    assert len(served.adapters) == len(many)
    fingerprints = {r.label.engine_fingerprint for r in results[1] if r.label}
    assert all("llama@" in text and "+lora@" in text for text in fingerprints)


async def test_adapter_overwritten_in_its_place_is_another_one(
    client: LabelerClient, kit: Any, models: Any, first: str, second: str, folder: Path
) -> None:
    """Trap two: same name, same path, other weights."""
    items = kit.make_items(80)
    place = folder / "in-place"
    for adapter in (first, second, first):
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(adapter, place)
        results = await ask(client, kit, str(place))
        kit.assert_close(results, adapter_reference(models.llama, adapter, kit.verdict, items))


async def test_labels_of_an_overwritten_adapter_are_not_those_of_the_one_before(
    serve: Serve, kit: Any, first: str, second: str, tmp_path: Path
) -> None:
    client = await serve(engine="transformers")
    items = kit.make_items(5)
    place = tmp_path / "adapter"
    stored = []
    for adapter in (first, first, second):
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(adapter, place)
        stored.append([r.stored async for r in client.label(items, kit.verdict, model=str(place))])
    assert stored == [[False] * 5, [True] * 5, [False] * 5]


async def test_adapter_with_a_head_equals_peft(client: LabelerClient, kit: Any, models: Any, with_head: str) -> None:
    """Trap three: no server that generates loads it; it is merged into a classification model."""
    items = kit.make_items(60)
    results = [r async for r in client.predict(items, kit.topics_3, model=with_head, runner="classify")]
    kit.assert_close(results, adapter_reference(models.llama, with_head, kit.topics_3, items, N_CLASSES))


async def test_adapter_beyond_plain_lora_is_merged(serve: Serve, kit: Any, models: Any, tmp_path: Path) -> None:
    dora = make_adapter(models.llama, tmp_path / "dora", seed=4, dora=True)
    items = kit.make_items(40)
    client = await serve(engine="transformers")
    results = [r async for r in client.label(items, kit.verdict, model=dora)]
    kit.assert_close(results, adapter_reference(models.llama, dora, kit.verdict, items))
    (served,) = (await client.describe()).served_models
    assert served.adapters == ()


async def test_adapter_whose_base_moved_is_found_by_what_the_run_wrote(
    serve: Serve, kit: Any, models: Any, first: str, tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(first, moved)
    config = json.loads((moved / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "/gone/llama"
    (moved / "adapter_config.json").write_text(json.dumps(config))
    client = await serve(engine="transformers")
    with pytest.raises(InvalidArgumentError, match=r"the base model of the adapter .* cannot be found.*/gone/llama"):
        await ask(client, kit, str(moved), 2)
    (moved / "isocost.json").write_text(json.dumps({"base_model": models.llama}))
    assert len(await ask(client, kit, str(moved), 2)) == 2


async def test_mistakes_with_adapters_are_named(
    serve: Serve, kit: Any, first: str, with_head: str, tmp_path: Path
) -> None:
    client = await serve(engine="transformers")
    with pytest.raises(InvalidArgumentError, match="is an adapter for classify; use runner classify") as caught:
        await ask(client, kit, with_head, 1)
    assert caught.value.field == "config.runner"
    empty = tmp_path / "empty"
    shutil.copytree(first, empty)
    (empty / "adapter_model.safetensors").unlink()
    with pytest.raises(InvalidArgumentError, match=r"has no adapter_model\.safetensors") as caught:
        await ask(client, kit, str(empty), 1)
    assert caught.value.field == "config.model"
    head_only = tmp_path / "head-only"
    head_only.mkdir()
    (head_only / "head.json").write_text("{}")
    with pytest.raises(InvalidArgumentError, match="is a head on cached features, which cannot be served"):
        await ask(client, kit, str(head_only), 1)
