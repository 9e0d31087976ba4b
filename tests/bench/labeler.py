"""The labeler's speed as ratios in one run: `python -m tests.bench.labeler` writes bench/labeler.json.

The whole path (client's stream -> labeler's gRPC -> vLLM's HTTP -> stored label) beside offline `LLM.generate` on the
same token ids, model, flags and cores, in turns; beside them the in-process engine, and a client of the same vLLM
server that sends one prompt a request. Items are new in every round: only the few-shot block can come from a cache.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp

from isocost.client.labeler import LabelerClient, ServedModel
from isocost.labeler.service import LabelerService
from isocost.labeler.settings import LabelerSettings
from isocost.microworld.claims import pool_frame
from isocost.resources.task import Item, Task
from isocost.tasks.choices import ChoiceTree
from isocost.tasks.model_path import resolve_model
from isocost.tasks.prompt import FewShotExample, PromptEncoder
from tests.bench.offline import ENVIRONMENT

__all__ = ["Workload", "measure"]

_REPORT = Path(__file__).parents[2] / "bench" / "labeler.json"
_ROOT = Path(__file__).parents[2]
_LIMITS = {"served_over_offline": 0.85, "prefill_over_ideal": 1.1}
_TASK = Task("claims", "{text} answer :", ("no", "yes"))
_SMALLEST = "microworld:weak"
_ITEM_TOKENS = 40
_BLOCK_TOKENS = 300
#: Prompts in flight of the client that sends one a request.
_SINGLES = 64
#: Tokens of one block of the server's cache.
_CACHE_BLOCK_TOKENS = 32


@dataclass(frozen=True)
class Workload:
    """How much is measured: items a round, rounds, and items of the two slow paths."""

    n_items: int = 4_000
    n_rounds: int = 5
    n_items_slow: int = 500


class _Texts:
    """Texts of claims, each different."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        rows = pool_frame(2_000, seed=seed).select("entity", "relation", "value").iter_rows()
        self._claims = [f"question : has {' '.join(row)} ?" for row in rows]
        self._n_made = 0

    def fields(self, n_tokens: int = _ITEM_TOKENS) -> dict[str, str]:
        """An item of so many tokens, the two of "answer :" included."""
        words = " ".join(self._rng.choices(self._claims, k=n_tokens)).split()
        return {"text": " ".join(words[: n_tokens - 2])}

    def items(self, n_items: int) -> list[Item]:
        self._n_made += 1
        return [Item(f"{self._n_made}-{number}", self.fields()) for number in range(n_items)]


def _whole_examples(texts: _Texts) -> list[FewShotExample]:
    """As many examples of an item's length as come nearest to the block's; each is one token longer, its answer."""
    n_examples = round((_BLOCK_TOKENS - 1) / (_ITEM_TOKENS + 1))
    return [FewShotExample(texts.fields(), number % 2) for number in range(n_examples)]


def _exact_examples(texts: _Texts) -> list[FewShotExample]:
    """Examples of a block of exactly so many tokens, wherever the cache's blocks end."""
    *most, last = _whole_examples(texts)
    used = 1 + len(most) * (_ITEM_TOKENS + 1)
    return [*most, FewShotExample(texts.fields(_BLOCK_TOKENS - used - 1), last.choice)]


class _Offline:
    """The process of `tests.bench.offline`."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        self._process = process
        self._folder = folder

    async def seconds(self, prompts: Sequence[Sequence[int]], token_ids: Sequence[int]) -> tuple[float, Any]:
        """How long `LLM.generate` takes, and the log-probabilities."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        job = self._folder / "job.json"
        job.write_text(json.dumps({"prompts": prompts, "token_ids": token_ids}))
        self._process.stdin.write(f"{job}\n".encode())
        answer = json.loads(await self._process.stdout.readline())
        return answer["seconds"], answer["scores"]


@asynccontextmanager
async def _offline(model: str, folder: Path) -> AsyncIterator[_Offline]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.bench.offline",
        resolve_model(model),
        cwd=_ROOT,
        env={**os.environ, **ENVIRONMENT},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 30,
    )
    try:
        assert process.stdout is not None
        assert (await process.stdout.readline()).strip() == b"ready", "vLLM could not be loaded"
        yield _Offline(process, folder)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@asynccontextmanager
async def _labeler(folder: Path, engine: str) -> AsyncIterator[LabelerClient]:
    """The labeler in a process of its own."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "ISOCOST_LABELER_STATE_DIR": str(folder / engine),
        "ISOCOST_LABELER_ENGINE": engine,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.bench.labeler",
        "--serve",
        cwd=_ROOT,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        address = ""
        while not address.startswith("127.0.0.1:"):
            line = await process.stdout.readline()
            assert line, "the labeler could not start"
            address = line.decode().strip()
        async with LabelerClient(address) as client:
            yield client
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _serve() -> None:
    import signal

    from isocost.core.grpc_server import ServiceHost

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with ServiceHost(LabelerService(LabelerSettings()), "127.0.0.1:0") as host:
        print(host.address, flush=True)
        await stop.wait()


async def _label(
    client: LabelerClient, model: str, items: Sequence[Item], examples: Sequence[FewShotExample]
) -> tuple[float, dict[str, Any]]:
    start = time.perf_counter()
    stream = client.label(items, _TASK, model=model, few_shot_examples=examples)
    labels = {result.item_id: result.label async for result in stream}
    seconds = time.perf_counter() - start
    assert len(labels) == len(items)
    assert all(labels.values())
    return seconds, labels


async def _singles(url: str, model: str, prompts: Sequence[Sequence[int]], token_ids: Sequence[int]) -> float:
    """A client that sends one prompt a request, many at a time."""
    waiting = iter(prompts)

    async def work(session: aiohttp.ClientSession) -> None:
        for prompt in waiting:
            body = {
                "model": model,
                "prompt": [prompt],
                "max_tokens": 1,
                "temperature": 0,
                "logprobs": 1,
                "logprob_token_ids": token_ids,
                "return_tokens_as_token_ids": True,
            }
            async with session.post(f"{url}/v1/completions", json=body) as response:
                assert response.status == 200
                await response.json()

    connector = aiohttp.TCPConnector(limit=_SINGLES)
    async with aiohttp.ClientSession(connector=connector) as session:
        start = time.perf_counter()
        await asyncio.gather(*(work(session) for _ in range(_SINGLES)))
        return time.perf_counter() - start


async def _served(client: LabelerClient) -> ServedModel:
    (served,) = (await client.describe()).served_models
    return served


async def _prefill(client: LabelerClient, model: str, texts: _Texts, exact: bool, n_items: int) -> dict[str, float]:
    """Prompt tokens that the server computed, over those that differ (the block once, and every item), and over those
    that a cache of whole blocks of tokens cannot spare.
    """
    examples = _exact_examples(texts) if exact else _whole_examples(texts)
    before = await _served(client)
    _, labels = await _label(client, model, texts.items(n_items), examples)
    after = await _served(client)
    n_sent = sum(label.prompt_tokens for label in labels.values())
    assert after.prompt_tokens - before.prompt_tokens == n_sent, "the server counts other prompts"
    n_cached = after.cached_prompt_tokens - before.cached_prompt_tokens
    n_block = n_sent // n_items - _ITEM_TOKENS
    n_rest = n_block % _CACHE_BLOCK_TOKENS
    return {
        "block_tokens": n_block,
        "prefill_over_ideal": round((n_sent - n_cached) / (n_block + n_items * _ITEM_TOKENS), 3),
        "prefill_over_cache_ideal": round((n_sent - n_cached) / (n_block + n_items * (_ITEM_TOKENS + n_rest)), 3),
        "prefix_cache_hit_rate": round(n_cached / n_sent, 3),
    }


def _vllm_url(log_folder: Path) -> str:
    """Where the labeler's vLLM listens: its address is in the log that vLLM writes."""
    (log,) = log_folder.glob("vllm-*.log")
    line = next(line for line in log.read_text(errors="replace").splitlines() if "http://127.0.0.1:" in line)
    return "http://127.0.0.1:" + line.partition("http://127.0.0.1:")[2].split()[0].rstrip("/")


async def measure(model: str, workload: Workload) -> dict[str, Any]:
    """Measures all paths in turns.

    Returns:
        The figures of the report: ratios are medians over the rounds, rates are items a second.
    """
    texts = _Texts(seed=random.SystemRandom().randrange(2**31))
    examples = _whole_examples(texts)
    rates: dict[str, list[float]] = {"served": [], "offline": [], "single": [], "embedded": []}
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(resolve_model(model))
    (one,) = ChoiceTree.build(tokenizer, _TASK).passes
    encoder = PromptEncoder(tokenizer, _TASK, examples, max_tokens=1_000)

    def prompts(items: Sequence[Item]) -> list[list[int]]:
        return [encoder.encode(item.fields) for item in items]

    with tempfile.TemporaryDirectory(prefix="isocost-bench-") as temporary:
        folder = Path(temporary)
        async with (
            _offline(model, folder) as offline,
            _labeler(folder, "vllm") as served,
            _labeler(folder, "transformers") as embedded,
        ):
            # Starts the engines; and what is first of its kind takes longer.
            for client in (served, embedded):
                await _label(client, model, texts.items(200), examples)
            await offline.seconds(prompts(texts.items(200)), one.token_ids)
            url = _vllm_url(folder / "vllm")
            for number in range(workload.n_rounds):
                items = texts.items(workload.n_items)

                async def measure_served(items: Sequence[Item] = items) -> dict[str, Any]:
                    seconds, labels = await _label(served, model, items, examples)
                    rates["served"].append(len(items) / seconds)
                    return labels

                async def measure_offline(items: Sequence[Item] = items) -> Any:
                    seconds, scores = await offline.seconds(prompts(items), one.token_ids)
                    rates["offline"].append(len(items) / seconds)
                    return scores

                # Each is first in every other round.
                if number % 2:
                    scores = await measure_offline()
                    labels = await measure_served()
                else:
                    labels = await measure_served()
                    scores = await measure_offline()
                _check_equal(items, labels, scores)
                few = texts.items(workload.n_items_slow)
                seconds, _ = await _label(embedded, model, few, examples)
                rates["embedded"].append(len(few) / seconds)
                few = texts.items(workload.n_items_slow)
                seconds = await _singles(url, resolve_model(model), prompts(few), one.token_ids)
                rates["single"].append(len(few) / seconds)
            aligned = await _prefill(served, model, texts, False, workload.n_items)
            exact = await _prefill(served, model, texts, True, workload.n_items)
            status = await _served(served)
    ratios = {
        f"{name}_over_offline": round(median(a / b for a, b in zip(rates[name], rates["offline"], strict=True)), 3)
        for name in ("served", "embedded", "single")
    }
    return {
        "served_over_offline": ratios["served_over_offline"],
        "prefill_over_ideal": aligned["prefill_over_ideal"],
        "embedded_over_offline": ratios["embedded_over_offline"],
        "single_prompt_over_offline": ratios["single_over_offline"],
        "prefix_cache_hit_rate": aligned["prefix_cache_hit_rate"],
        "block_tokens": aligned["block_tokens"],
        # A block that ends within one of the cache's blocks of 32 tokens: what is left over is computed for each item.
        "unaligned": exact,
        "prompts_per_request": status.prompts_per_request,
        "requests_in_flight": status.requests_in_flight,
        "items_per_second": {name: round(median(rate), 1) for name, rate in rates.items()},
        "served_over_offline_rounds": [round(a / b, 3) for a, b in zip(rates["served"], rates["offline"], strict=True)],
        "model": model,
        "n_items": workload.n_items,
        "item_tokens": _ITEM_TOKENS,
        "n_cores": os.cpu_count(),
    }


def _check_equal(items: Sequence[Item], labels: dict[str, Any], scores: Sequence[Sequence[float]]) -> None:
    """Both paths answered the same: they were asked the same."""
    from isocost.labeler.engine import ChoiceScores

    for item, of_item in zip(items, scores, strict=True):
        expected = ChoiceScores(tuple(of_item)).probabilities
        got = labels[item.item_id].probabilities
        assert max(abs(a - b) for a, b in zip(expected, got, strict=True)) < 1e-4, item


def main() -> None:
    """Measures and writes the report; exits with 1 where a ratio is beyond its limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="microworld:strong", help="folder or microworld:NAME [microworld:strong]")
    parser.add_argument("--items", type=int, default=Workload.n_items, help="items a round [4000]")
    parser.add_argument("--rounds", type=int, default=Workload.n_rounds, help="rounds [5]")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        asyncio.run(_serve())
        return
    workload = Workload(arguments.items, arguments.rounds)
    report = asyncio.run(measure(arguments.model, workload))
    if arguments.model != _SMALLEST:
        # A model with next to nothing to compute: what is left is the cost of serving itself.
        smallest = asyncio.run(measure(_SMALLEST, workload))
        report["smallest_model"] = {
            name: smallest[name]
            for name in ("model", "served_over_offline", "served_over_offline_rounds", "items_per_second")
        }
    _REPORT.parent.mkdir(exist_ok=True)
    _REPORT.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2))
    met = {
        "served_over_offline": report["served_over_offline"] >= _LIMITS["served_over_offline"],
        "prefill_over_ideal": report["prefill_over_ideal"] <= _LIMITS["prefill_over_ideal"],
    }
    for name, is_met in met.items():
        print(f"{name} {report[name]} ({'at least' if name == 'served_over_offline' else 'at most'} {_LIMITS[name]})")
        if not is_met:
            print(f"{name} is beyond its limit", file=sys.stderr)
    sys.exit(not all(met.values()))


if __name__ == "__main__":
    main()
