"""What the labeler makes of a vLLM server that misbehaves: a small server that answers as vLLM does, with faults."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from isocost.client.labeler import LabelerClient, Scoring
from isocost.core.errors import FailedPreconditionError, InvalidArgumentError, UnavailableError
from isocost.resources.task import Task

Serve = Callable[..., Awaitable[LabelerClient]]


@dataclass
class FakeVllm:
    """Says that the choices' probabilities are 0.1 and 0.3, unless told to fail."""

    url: str = ""
    model: str = ""
    max_model_len: int = 64
    key: str = ""
    n_requests: int = 0
    n_prompts: list[int] = field(default_factory=list)
    #: Statuses of the next answers, before the good ones; 0 breaks the connection.
    faults: list[int] = field(default_factory=list)
    #: What it knows: "logprob_token_ids", "generative", "processed" (its log-probabilities).
    knows: set[str] = field(default_factory=lambda: {"logprob_token_ids"})
    shuffles: bool = False
    n_generative: int = 0

    async def models(self, request: web.Request) -> web.Response:
        entry = {"id": "served-name", "root": self.model, "max_model_len": self.max_model_len}
        return web.json_response({"object": "list", "data": [entry]})

    async def version(self, request: web.Request) -> web.Response:
        return web.json_response({"version": "0.20.2"})

    def refusal(self, request: web.Request) -> web.Response | None:
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return web.json_response({"error": "Unauthorized"}, status=401)
        if self.faults:
            status = self.faults.pop(0)
            if status == 0:
                assert request.transport is not None
                request.transport.abort()
            return web.json_response({"error": {"message": "a fault", "code": status}}, status=status or 500)
        return None

    async def completions(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        # The probe is not counted, and meets no faults.
        is_probe = body["prompt"] == [[0, 0]]
        if not is_probe:
            self.n_requests += 1
        if (refusal := None if is_probe and not self.key else self.refusal(request)) is not None:
            return refusal
        assert body["model"] == "served-name"
        assert (body["max_tokens"], body["temperature"]) == (1, 0)
        if not is_probe:
            self.n_prompts.append(len(body["prompt"]))
        # The sampled token comes along, as in vLLM.
        top = {"token_id:11": math.log(0.5)}
        if "logprob_token_ids" in body and "logprob_token_ids" in self.knows:
            ids = body["logprob_token_ids"]
            top |= {f"token_id:{token}": math.log(p) for token, p in zip(ids, (0.1, 0.3, *[0.01] * 9), strict=False)}
        elif "allowed_token_ids" in body:
            ids = body["allowed_token_ids"]
            total = 0.4 if "processed" in self.knows else 1.0
            shares = (0.1, 0.3) if len(ids) == 2 else [0.4 / len(ids)] * len(ids)
            top = {f"token_id:{token}": math.log(p / total) for token, p in zip(ids, shares, strict=True)}
        numbers = range(len(body["prompt"]))
        choices: list[dict[str, Any]] = [{"index": n, "logprobs": {"top_logprobs": [top]}} for n in numbers]
        if self.shuffles and not is_probe:
            choices.reverse()
            for choice in choices:
                share = 0.1 + 0.001 * choice["index"]
                choice["logprobs"] = {
                    "top_logprobs": [{f"token_id:{ids[0]}": math.log(share), f"token_id:{ids[1]}": math.log(share)}]
                }
        return web.json_response({"choices": choices})

    async def generative(self, request: web.Request) -> web.StreamResponse:
        if "generative" not in self.knows:
            return web.json_response({"detail": "Not Found"}, status=404)
        body = await request.json()
        assert body["apply_softmax"] is False
        prompts = [[*body["query"], *item] for item in body["items"]]
        self.n_generative += prompts != [[0, 0]]
        share = {7: 0.1, 8: 0.3}.get(body["label_token_ids"][0], 0.01)
        return web.json_response({"data": [{"index": n, "score": share} for n in range(len(prompts))]})

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        return web.Response(
            text="# HELP vllm:prompt_tokens_total Number of prefill tokens processed.\n"
            'vllm:prompt_tokens_total{engine="0",model_name="a"} 1000.0\n'
            'vllm:prompt_tokens_total{engine="1",model_name="a"} 500.0\n'
            'vllm:prompt_tokens_cached_total{engine="0"} 1.2e+03\n'
        )


@pytest.fixture
async def fake(models: Any) -> AsyncIterator[FakeVllm]:
    server = FakeVllm(model=models.llama)
    app = web.Application()
    app.router.add_get("/v1/models", server.models)
    app.router.add_get("/version", server.version)
    app.router.add_post("/v1/completions", server.completions)
    app.router.add_post("/generative_scoring", server.generative)
    app.router.add_get("/metrics", server.metrics)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


async def label(client: LabelerClient, kit: Any, models: Any, n_items: int = 20, **options: Any) -> list[Any]:
    items = kit.make_items(n_items)
    return [r async for r in client.label(items, kit.verdict, model=models.llama, **options)]


async def test_server_at_a_url_is_used(serve: Serve, fake: FakeVllm, models: Any, kit: Any) -> None:
    client = await serve(vllm_url=f"{fake.url}/", prompts_per_request=8)
    results = await label(client, kit, models)
    ok = [result.label for result in results if result.label]
    assert all(one.probabilities == pytest.approx((0.25, 0.75)) for one in ok)
    assert all(one.choices_mass == pytest.approx(0.4) for one in ok)
    # Items of up to 60 words: some are longer than this server's limit, and only those have no label.
    assert all("more than the model's 63" in result.error for result in results if not result.label)
    assert sum(fake.n_prompts) == len(ok) > 10
    assert max(fake.n_prompts) <= 8
    description = await client.describe()
    assert description.engine == "vllm"
    assert "vllm-0.20.2 remote" in description.served_models[0].engine_fingerprint


async def test_answers_are_matched_by_index(serve: Serve, fake: FakeVllm, models: Any, kit: Any) -> None:
    fake.shuffles = True
    fake.max_model_len = 128
    results = await label(await serve(vllm_url=fake.url), kit, models)
    masses = {result.item_id: result.label.choices_mass for result in results}
    assert masses == pytest.approx({f"item-{n}": 0.2 + 0.002 * n for n in range(20)})


async def test_server_that_tells_no_probabilities_of_given_tokens_is_named(
    serve: Serve, fake: FakeVllm, models: Any, kit: Any
) -> None:
    fake.knows = set()
    client = await serve(vllm_url=fake.url)
    with pytest.raises(FailedPreconditionError) as caught:
        await label(client, kit, models)
    assert caught.value.field == "vllm_url"
    for part in (
        "tells no probabilities of given tokens",
        "vLLM 0.32 or newer",
        "logprob_token_ids: ignored",
        "generative: Not Found",
        "allowed_token_ids: its log-probabilities are not processed ones",
    ):
        assert part in caught.value.message
    assert (await client.describe()).n_stored_labels == 0


@pytest.mark.parametrize(
    ("knows", "scoring", "mass"),
    [
        ({"logprob_token_ids", "generative", "processed"}, Scoring.LOGPROB_TOKEN_IDS, 0.4),
        ({"generative", "processed"}, Scoring.GENERATIVE, 0.4),
        ({"processed"}, Scoring.ALLOWED_TOKEN_IDS, 0.0),
    ],
)
async def test_what_the_server_knows_is_found_out_and_gives_the_same_answers(
    serve: Serve, fake: FakeVllm, models: Any, kit: Any, knows: set[str], scoring: Scoring, mass: float
) -> None:
    fake.knows = knows
    fake.max_model_len = 128
    client = await serve(vllm_url=fake.url)
    results = await label(client, kit, models)
    assert len(results) == 20
    for result in results:
        assert result.label is not None, result.error
        assert result.label.probabilities == pytest.approx((0.25, 0.75))
        assert result.label.choices_mass == pytest.approx(mass)
    (served,) = (await client.describe()).served_models
    assert served.scoring is scoring
    # One request for each choice.
    assert fake.n_generative == (2 if scoring is Scoring.GENERATIVE else 0)


async def test_choices_that_share_a_token_need_the_mass(serve: Serve, fake: FakeVllm, models: Any, kit: Any) -> None:
    fake.knows = {"processed"}
    task = Task("t", "question {text} ? answer", ("no", "yes w1", "yes w2"))
    client = await serve(vllm_url=fake.url)
    with pytest.raises(FailedPreconditionError, match="first tokens differ") as caught:
        _ = [r async for r in client.label(kit.make_items(3), task, model=models.llama)]
    assert caught.value.field == "config.task.choices"


async def test_prefix_cache_is_read_from_the_metrics(serve: Serve, fake: FakeVllm, models: Any, kit: Any) -> None:
    client = await serve(vllm_url=fake.url)
    await label(client, kit, models)
    (served,) = (await client.describe()).served_models
    assert (served.prompt_tokens, served.cached_prompt_tokens) == (1500, 1200)
    assert served.prefix_cache_hit_rate == pytest.approx(0.8)
    assert (served.prompts_per_request, served.requests_in_flight) == (64, 4)
    assert (served.n_restarts, served.circuit_open, served.adapters) == (0, False, ())


async def test_server_that_failed_is_left_alone_for_a_while(
    serve: Serve, fake: FakeVllm, models: Any, kit: Any
) -> None:
    fake.faults = [500]
    client = await serve(vllm_url=fake.url, attempts_max=1, requests_in_flight=1, prompts_per_request=100)
    with pytest.raises(UnavailableError, match="failed 1 times"):
        await label(client, kit, models)
    (served,) = (await client.describe()).served_models
    assert served.circuit_open
    with pytest.raises(UnavailableError, match=r"is away \(.*failed 1 times.*\); it is tried again in"):
        await label(client, kit, models)
    assert fake.n_requests == 1, "it was not asked again"


async def test_passing_fault_is_got_over(serve: Serve, fake: FakeVllm, models: Any, kit: Any) -> None:
    fake.faults = [500, 0, 503]
    fake.max_model_len = 128
    results = await label(await serve(vllm_url=fake.url, attempts_max=4), kit, models)
    assert sum(result.label is not None for result in results) == 20
    assert fake.n_requests == 4


async def test_lasting_fault_ends_the_stream(serve: Serve, fake: FakeVllm, models: Any, kit: Any) -> None:
    fake.faults = [500] * 100
    client = await serve(vllm_url=fake.url, attempts_max=2, requests_in_flight=1, prompts_per_request=100)
    with pytest.raises(UnavailableError, match=r"failed 2 times \(status 500: a fault\).*repeat the command"):
        await label(client, kit, models)
    assert fake.n_requests == 2
    assert (await client.describe()).n_stored_labels == 0


async def test_refused_prompt_is_found_among_the_others(serve: Serve, fake: FakeVllm, models: Any, kit: Any) -> None:
    # Refused: the whole of 4, its first half, and of that the first one.
    fake.faults = [400, 400, 400]
    fake.max_model_len = 128
    client = await serve(vllm_url=fake.url)
    results = {result.item_id: result for result in await label(client, kit, models, 4)}
    assert "vLLM refuses the prompt: a fault" in results["item-0"].error
    assert all(results[f"item-{n}"].label for n in (1, 2, 3))


async def test_key_is_sent_and_a_wrong_one_is_named(serve: Serve, fake: FakeVllm, models: Any, kit: Any) -> None:
    fake.key = "right"
    with pytest.raises(FailedPreconditionError, match="ISOCOST_LABELER_VLLM_API_KEY"):
        await label(await serve(vllm_url=fake.url, vllm_api_key="wrong"), kit, models)
    assert await label(await serve(vllm_url=fake.url, vllm_api_key="right"), kit, models)


async def test_server_that_serves_another_model_is_named(serve: Serve, fake: FakeVllm, models: Any, kit: Any) -> None:
    fake.model = "org/other"
    with pytest.raises(InvalidArgumentError, match=r"does not serve .* but 'served-name'") as caught:
        await label(await serve(vllm_url=fake.url), kit, models)
    assert caught.value.field == "config.model"


async def test_url_where_no_server_is(serve: Serve, models: Any, kit: Any, unused_tcp_port: int) -> None:
    client = await serve(vllm_url=f"http://127.0.0.1:{unused_tcp_port}")
    with pytest.raises(UnavailableError, match="there is no vLLM server at http://127"):
        await label(client, kit, models)


async def test_server_that_hangs_is_not_waited_for_for_ever(
    serve: Serve, fake: FakeVllm, models: Any, kit: Any
) -> None:
    hold = asyncio.Event()

    async def answer_the_probe_only(request: web.Request) -> web.StreamResponse:
        if (await request.json())["prompt"] == [[0, 0]]:
            return await fake.completions(request)
        await hold.wait()
        return web.Response()

    app = web.Application()
    app.router.add_get("/v1/models", fake.models)
    app.router.add_get("/version", fake.version)
    app.router.add_get("/metrics", fake.metrics)
    app.router.add_post("/v1/completions", answer_the_probe_only)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    client = await serve(
        vllm_url=f"http://127.0.0.1:{runner.addresses[0][1]}", request_timeout_seconds=0.2, attempts_max=1
    )
    with pytest.raises(UnavailableError, match=r"failed 1 times \(.*Timeout"):
        await label(client, kit, models)
    hold.set()
    await runner.cleanup()
