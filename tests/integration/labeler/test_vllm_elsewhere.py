"""A real vLLM server that somebody else runs: one that knows less; kills of it and of the labeler at any moment."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from isocost.client.labeler import LabelerClient, Scoring
from isocost.core.errors import UnavailableError
from isocost.labeler.engine import Runner
from isocost.labeler.labelling import CHUNKS_AHEAD
from isocost.labeler.settings import LabelerSettings
from isocost.labeler.vllm_process import VllmProcess
from isocost.microworld.claims import TASK_CHOICES, TASK_TEMPLATE, pool_frame
from isocost.resources.task import Item, Task
from isocost.tasks.model_path import resolve_model
from isocost.tasks.prompt import FewShotExample
from tests.integration.labeler.vllm_proxy import VllmProxy, running_proxy

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(400)]

Serve = Callable[..., Awaitable[LabelerClient]]
MODEL = "microworld:weak"
CLAIMS = Task("claims", TASK_TEMPLATE, TASK_CHOICES)
PROMPTS_PER_REQUEST, REQUESTS_IN_FLIGHT = 16, 4
#: In flight, or answered and on their way to the disk, or prepared: what a kill may lose.
REQUESTS_AT_WORK = REQUESTS_IN_FLIGHT + CHUNKS_AHEAD
N_ITEMS = 700


def claim_items(n_items: int, seed: int) -> list[Item]:
    rows = pool_frame(n_items, seed=seed).iter_rows(named=True)
    return [Item(row["id"], {name: row[name] for name in CLAIMS.fields}) for row in rows]


class ProcessedVllm(VllmProcess):
    """Started as `docs/labeler.md` says for a server that does not know `logprob_token_ids`."""

    def _command(self, port: int, on_cuda: bool) -> list[str]:
        command = super()._command(port, on_cuda)
        command.remove("--skip-tokenizer-init")
        return [*command, "--logprobs-mode", "processed_logprobs"]


class Server:
    """The server, on an event loop of its own: it outlives the tests'."""

    def __init__(self, state_dir: Path) -> None:
        settings = LabelerSettings(state_dir=state_dir, kv_cache_bytes=256 << 20)
        self._process = ProcessedVllm(resolve_model(MODEL), "", Runner.GENERATE, settings)
        self._runner = asyncio.Runner()

    @property
    def url(self) -> str:
        return self._process.url

    def start(self) -> None:
        self._runner.run(self._process.start())

    def kill(self) -> None:
        """Kills the server; its guard takes what is left of it along, and ends."""
        assert self._process._process is not None
        (server,) = psutil.Process(self._process._process.pid).children()
        server.kill()
        assert self._runner.run(self._process.wait_exited(20))

    def close(self) -> None:
        self._runner.run(self._process.stop())
        self._runner.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("elsewhere"))
    made.start()
    yield made
    made.close()


@pytest.fixture
async def proxy(server: Server) -> AsyncIterator[VllmProxy]:
    async with running_proxy(server.url) as running:
        yield running


@pytest.mark.parametrize(
    ("drops", "missing", "scoring"),
    [
        (set(), set(), Scoring.LOGPROB_TOKEN_IDS),
        ({"logprob_token_ids"}, set(), Scoring.GENERATIVE),
        ({"logprob_token_ids"}, {"/generative_scoring"}, Scoring.ALLOWED_TOKEN_IDS),
    ],
)
async def test_servers_that_know_less_give_the_same_answers(
    serve: Serve, proxy: VllmProxy, kit: Any, drops: set[str], missing: set[str], scoring: Scoring
) -> None:
    proxy.drops, proxy.missing = drops, missing
    items = claim_items(120, seed=2)
    examples = [FewShotExample(item.fields, n % 2) for n, item in enumerate(claim_items(4, seed=3))]
    client = await serve(vllm_url=proxy.url)
    results = [r async for r in client.predict(items, CLAIMS, model=MODEL, few_shot_examples=examples)]
    expected = kit.reference(resolve_model(MODEL), CLAIMS, items, examples)
    if scoring is Scoring.ALLOWED_TOKEN_IDS:
        # Such a server does not tell the mass.
        assert {r.label.choices_mass for r in results if r.label} == {0.0}
        expected = {item_id: (probabilities, 0.0) for item_id, (probabilities, _) in expected.items()}
    kit.assert_close(results, expected)
    (served,) = (await client.describe()).served_models
    assert served.scoring is scoring


async def label_all(address: str, items: list[Item]) -> dict[str, Any]:
    async with LabelerClient(address) as client:
        return {r.item_id: r async for r in client.label(items, CLAIMS, model=MODEL)}


def settings(proxy: VllmProxy) -> dict[str, str]:
    return {
        "ISOCOST_LABELER_VLLM_URL": proxy.url,
        "ISOCOST_LABELER_PROMPTS_PER_REQUEST": str(PROMPTS_PER_REQUEST),
        "ISOCOST_LABELER_REQUESTS_IN_FLIGHT": str(REQUESTS_IN_FLIGHT),
        "ISOCOST_LABELER_ATTEMPTS_MAX": "1",
    }


async def check_paid_once(results: dict[str, Any], items: list[Item], proxy: VllmProxy, kit: Any, n_kills: int) -> None:
    """Every item has its label, and over all runs each was sent once, but for those at work when it was killed."""
    kit.assert_close(list(results.values()), kit.reference(resolve_model(MODEL), CLAIMS, items))
    n_tokens = sum(r.label.prompt_tokens for r in results.values())
    longest = max(r.label.prompt_tokens for r in results.values())
    at_work = PROMPTS_PER_REQUEST * REQUESTS_AT_WORK * n_kills
    assert len(items) <= proxy.n_prompts <= len(items) + at_work
    assert n_tokens <= proxy.n_prompt_tokens <= n_tokens + at_work * longest


@pytest.mark.parametrize("n_requests", [2, 30])
async def test_killed_labeler_goes_on_and_sends_nothing_twice(
    start_process: Any, proxy: VllmProxy, kit: Any, tmp_path: Path, n_requests: int
) -> None:
    items = claim_items(N_ITEMS, seed=10 + n_requests)
    with start_process(tmp_path / "first", state=tmp_path / "state", **settings(proxy)) as labeler:
        stream = asyncio.create_task(label_all(labeler.address, items))
        await proxy.wait_for(n_requests)
        os.kill(labeler.process.pid, signal.SIGKILL)
        with pytest.raises(UnavailableError):
            await stream
    with start_process(tmp_path / "second", state=tmp_path / "state", **settings(proxy)) as labeler:
        results = await label_all(labeler.address, items)
        # What had been answered and stored before the kill is not sent again.
        assert sum(r.stored for r in results.values()) >= (n_requests - REQUESTS_AT_WORK) * PROMPTS_PER_REQUEST
        await check_paid_once(results, items, proxy, kit, n_kills=1)


async def test_client_that_goes_away_wastes_nothing(
    start_process: Any, proxy: VllmProxy, kit: Any, tmp_path: Path
) -> None:
    items = claim_items(N_ITEMS, seed=50)
    with start_process(tmp_path / "only", state=tmp_path / "state", **settings(proxy)) as labeler:
        for n_requests in (2, 12):
            stream = asyncio.create_task(label_all(labeler.address, items))
            await proxy.wait_for(n_requests)
            stream.cancel()
            with pytest.raises(asyncio.CancelledError):
                await stream
        await check_paid_once(await label_all(labeler.address, items), items, proxy, kit, n_kills=0)


async def test_killed_vllm_ends_the_stream_and_nothing_is_sent_twice(
    start_process: Any, server: Server, proxy: VllmProxy, kit: Any, tmp_path: Path
) -> None:
    # The last test: it takes the server away from the others.
    items = claim_items(N_ITEMS, seed=60)
    with start_process(tmp_path / "only", state=tmp_path / "state", **settings(proxy)) as labeler:
        stream = asyncio.create_task(label_all(labeler.address, items))
        await proxy.wait_for(9)
        await asyncio.to_thread(server.kill)
        with pytest.raises(UnavailableError, match=r"(failed 1 times|is away).*labels made so far are stored"):
            await stream
        await asyncio.to_thread(server.start)
        proxy.upstream = server.url
        # The labeler tries again by itself once its circuit has cooled down.
        while True:
            try:
                results = await label_all(labeler.address, items)
                break
            except UnavailableError as error:
                assert "is away" in error.message  # noqa: PT017 - it may also succeed at once
                await asyncio.sleep(0.2)
        await check_paid_once(results, items, proxy, kit, n_kills=1)
