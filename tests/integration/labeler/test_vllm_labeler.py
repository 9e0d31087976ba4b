"""The labeler with real vLLM servers on CPU.

Every start of vLLM takes half a minute, so the tests build on one another: they run in their order.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import psutil
import pytest

from isocost.client.labeler import LabelerClient
from isocost.core.errors import UnavailableError
from isocost.microworld.claims import TASK_CHOICES, TASK_TEMPLATE, pool_frame
from isocost.resources.task import Item, Task
from isocost.tasks.model_path import resolve_model
from isocost.tasks.prompt import FewShotExample

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(400)]

Serve = Callable[..., Awaitable[LabelerClient]]
WEAK = "microworld:weak"
WEAK_NAME = "/weak"
STRONG = "microworld:strong"
CLAIMS = Task("claims", TASK_TEMPLATE, TASK_CHOICES)
#: Claims repeated until they fill the context.
SERIES = Task("series", "{claims} answer :", TASK_CHOICES)
N_POSITIONS = 1024


@pytest.fixture
async def client(labeler_process: Any) -> AsyncIterator[LabelerClient]:
    async with LabelerClient(labeler_process.address) as opened:
        yield opened


def claim_items(n_items: int, seed: int = 0) -> list[Item]:
    rows = pool_frame(n_items, seed=seed).iter_rows(named=True)
    return [Item(row["id"], {name: row[name] for name in CLAIMS.fields}) for row in rows]


async def check_both_engines(client: LabelerClient, serve: Serve, kit: Any, model: str) -> None:
    """vLLM, the in-process engine and plain transformers give the same probabilities."""
    items = claim_items(200)
    results = [result async for result in client.label(items, CLAIMS, model=model)]
    kit.assert_close(results, kit.reference(resolve_model(model), CLAIMS, items))
    in_process = await serve(engine="transformers")
    others = {r.item_id: r async for r in in_process.label(items, CLAIMS, model=model)}
    for result in results:
        ours, theirs = result.label, others[result.item_id].label
        assert ours is not None
        assert theirs is not None
        assert ours.probabilities == pytest.approx(theirs.probabilities, abs=1e-4)
        assert ours.prompt_tokens == theirs.prompt_tokens


async def check_classifier(client: LabelerClient, serve: Serve, kit: Any, folder: str, task: Task) -> None:
    """vLLM, the in-process engine and plain transformers give the same probabilities."""
    items = kit.make_items(100)
    results = [r async for r in client.label(items, task, model=folder, runner="classify")]
    kit.assert_close(results, kit.reference(folder, task, items))
    # Transformers itself would look at the token before the padding one; both engines must look at the last.
    padded = [Item("ends in padding", {"text": "w1 w2 <pad>"})]
    labels = []
    for one in (client, await serve(engine="transformers")):
        labels += [r.label async for r in one.label(padded, task, model=folder, runner="classify") if r.label]
    assert labels[0].probabilities == pytest.approx(labels[1].probabilities, abs=1e-4)


async def test_carried_model_and_encoder_equal_transformers(
    client: LabelerClient, serve: Serve, models: Any, kit: Any
) -> None:
    # At the same time, as each start keeps one core busy.
    await asyncio.gather(
        check_both_engines(client, serve, kit, WEAK),
        check_classifier(client, serve, kit, models.bert_classifier, kit.topics_4),
    )
    served = {(one.model, one.runner) for one in (await client.describe()).served_models}
    assert served == {(WEAK, "generate"), (models.bert_classifier, "classify")}


async def test_prompts_of_all_lengths_with_a_few_shot_block(client: LabelerClient, kit: Any) -> None:
    examples = [
        FewShotExample({"claims": f"question : has batin colour {w} ?"}, n) for n, w in enumerate(("red", "blue"))
    ]
    claims = [" ".join(item.fields.values()) for item in claim_items(60)]
    items = [Item(f"series-{n}", {"claims": " ".join(claims[:n])}) for n in range(1, 60)]
    results = [r async for r in client.label(items, SERIES, model=WEAK, few_shot_examples=examples)]
    kit.assert_close(results, kit.reference(resolve_model(WEAK), SERIES, items, examples))


async def test_choices_of_several_tokens_equal_transformers(
    client: LabelerClient, serve: Serve, kit: Any, forest: Any
) -> None:
    """Each choice's probability is that of its tokens, one after another, whatever the others are."""
    items = claim_items(40, seed=7)
    expected = forest.reference(resolve_model(WEAK), forest.task, items)
    for one in (client, await serve(engine="transformers")):
        results = [r async for r in one.label(items, forest.task, model=WEAK)]
        kit.assert_close(results, expected)
        assert results[0].label is not None
        assert results[0].label.prompt_tokens == forest.n_tokens


async def test_prefix_cache_hits_behind_a_few_shot_block(client: LabelerClient) -> None:
    items = claim_items(330, seed=8)
    examples = [FewShotExample(item.fields, n % 2) for n, item in enumerate(items[:30])]
    before = next(one for one in (await client.describe()).served_models if one.model == WEAK)
    results = [r async for r in client.label(items[30:], CLAIMS, model=WEAK, few_shot_examples=examples)]
    after = next(one for one in (await client.describe()).served_models if one.model == WEAK)
    n_sent = sum(r.label.prompt_tokens for r in results if r.label)
    assert after.prompt_tokens - before.prompt_tokens == n_sent
    block = 30 * 10 + 1
    # Whole cache blocks of 32 tokens; the first few prompts come before anything is cached.
    assert after.cached_prompt_tokens - before.cached_prompt_tokens >= (len(results) - 5) * (block // 32 * 32)
    assert after.prefix_cache_hit_rate is not None


async def test_longest_prompt_fits_and_one_token_more_does_not(client: LabelerClient) -> None:
    # Beginning of sequence, "answer" and ":" are three tokens, and one place is the answer's.
    n_words = N_POSITIONS - 1 - 3
    items = [Item(name, {"claims": " ".join(["red"] * n)}) for name, n in (("fits", n_words), ("long", n_words + 1))]
    results = {r.item_id: r async for r in client.label(items, SERIES, model=WEAK)}
    assert results["fits"].label is not None, results["fits"].error
    assert results["fits"].label.prompt_tokens == N_POSITIONS - 1
    assert f"has {N_POSITIONS} tokens, more than the model's {N_POSITIONS - 1}" in results["long"].error


async def test_stored_labels_are_not_computed(client: LabelerClient) -> None:
    before = await client.describe()
    assert before.engine == "vllm"
    results = [r async for r in client.label(claim_items(200), CLAIMS, model=WEAK)]
    assert all(result.stored for result in results)
    assert (await client.describe()).n_stored_labels == before.n_stored_labels


async def test_server_works_as_a_remote_one(labeler_process: Any, serve: Serve, kit: Any) -> None:
    remote = await serve(vllm_url=labeler_process.vllm_url(WEAK_NAME))
    items = claim_items(40, seed=3)
    results = [result async for result in remote.label(items, CLAIMS, model=WEAK)]
    kit.assert_close(results, kit.reference(resolve_model(WEAK), CLAIMS, items))


def listening(process: psutil.Process) -> set[int]:
    return {c.laddr.port for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN}


def test_vllm_inherits_no_listening_socket(labeler_process: Any) -> None:
    port = int(labeler_process.address.rpartition(":")[2])
    assert port in listening(psutil.Process(labeler_process.process.pid))
    assert len(labeler_process.family()) >= 3, "guard, server and engine"
    assert all(port not in listening(process) for process in labeler_process.family())


def test_vllm_computes_with_one_thread(labeler_process: Any) -> None:
    assert labeler_process.vllm_server(WEAK_NAME).environ()["OMP_NUM_THREADS"] == "1"


async def in_flight(labeler_process: Any) -> None:
    """Waits until the labeler has sent requests to its vLLM, which is suspended and cannot answer."""
    port = int(labeler_process.vllm_url(WEAK_NAME).rpartition(":")[2])
    labeler = psutil.Process(labeler_process.process.pid)
    while not any(c.raddr and c.raddr.port == port for c in labeler.net_connections("tcp")):  # noqa: ASYNC110
        await asyncio.sleep(0.05)


async def test_server_killed_mid_way_is_started_again(labeler_process: Any, client: LabelerClient, kit: Any) -> None:
    items = claim_items(400, seed=4)
    old = claim_items(200)
    server = labeler_process.vllm_server(WEAK_NAME)
    family = [server, *server.children(recursive=True)]
    server.suspend()

    async def label() -> list[Any]:
        return [r async for r in client.label(items, CLAIMS, model=WEAK)]

    stream = asyncio.create_task(label())
    await in_flight(labeler_process)
    server.kill()
    results = await stream
    kit.assert_close(results, kit.reference(resolve_model(WEAK), CLAIMS, items))
    assert labeler_process.vllm_server(WEAK_NAME).pid != server.pid
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []
    assert [one.n_restarts for one in (await client.describe()).served_models if one.model == WEAK] == [1]
    known = {item.item_id for item in old}
    assert {r.item_id for r in results if r.stored} == known & {item.item_id for item in items}


async def test_server_that_dies_again_and_again_ends_the_stream_and_spoils_nothing(
    labeler_process: Any, client: LabelerClient
) -> None:
    before = (await client.describe()).n_stored_labels
    family: list[psutil.Process] = []

    async def label() -> list[Any]:
        return [r async for r in client.label(claim_items(700, seed=5), CLAIMS, model=WEAK)]

    async def kill(server: psutil.Process) -> None:
        server.suspend()
        family.extend([server, *server.children(recursive=True)])
        server.kill()

    # Suspended before it can answer: one death is got over, the second in a row is not (ISOCOST_LABELER_RESTARTS_MAX).
    first = labeler_process.vllm_server(WEAK_NAME)
    first.suspend()
    stream = asyncio.create_task(label())
    await in_flight(labeler_process)
    await kill(first)
    while (second := labeler_process.find_vllm_server(WEAK_NAME)) in (None, first):  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    await kill(second)
    with pytest.raises(UnavailableError, match=r"vLLM died .* also after 1 new starts in a row; .*repeat"):
        await stream
    description = await client.describe()
    assert description.n_stored_labels == before
    assert WEAK not in [served.model for served in description.served_models]
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []


async def test_other_models_take_their_places(
    labeler_process: Any, client: LabelerClient, serve: Serve, models: Any, kit: Any
) -> None:
    family = labeler_process.family()
    await asyncio.gather(
        check_both_engines(client, serve, kit, STRONG),
        check_classifier(client, serve, kit, models.llama_classifier, kit.topics_3),
    )
    served = {(one.model, one.runner) for one in (await client.describe()).served_models}
    assert served == {(STRONG, "generate"), (models.llama_classifier, "classify")}
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == [], "the models before are gone"


def test_killed_labeler_leaves_nothing_behind(labeler_process: Any) -> None:
    # The last test: it ends the labeler of all the others.
    family = labeler_process.family()
    assert len(family) >= 6, "guard, server and engine of two models"
    labeler_process.process.kill()
    labeler_process.process.wait()
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []
