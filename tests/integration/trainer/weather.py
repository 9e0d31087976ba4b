"""A task that a tiny random model can learn, and runs of it without or behind the service."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from isocost.client.trainer import TrainerClient
from isocost.core.grpc_server import GrpcServer
from isocost.resources.label import one_hot
from isocost.resources.method import Method, Recipe, Stage
from isocost.resources.run import EvaluationSet, Example, Run, RunProgress, RunSpec, StageResult
from isocost.resources.task import LabelKind, Task
from isocost.trainer.examples import ExampleListBuilder, ExampleStore
from isocost.trainer.identity import ResolvedRun, resolve_run
from isocost.trainer.models.base_model import BaseModelFinder
from isocost.trainer.run import RunExecutor
from isocost.trainer.run_result import RunResult
from isocost.trainer.service import TrainerService
from isocost.trainer.settings import TrainerSettings

FILLERS = [f"w{k}" for k in range(24)]
MARKERS = ("sun", "rain", "snow")
CHOICES = ("yes", "no", "maybe")
RECIPE = Recipe(learning_rate=1e-2, max_examples=3200, eval_every_steps=10)
N_TOKENS_MAX = 64


def make_tokenizer(*, encoder: bool) -> PreTrainedTokenizerFast:
    first, last = ("[CLS]", " [SEP]") if encoder else ("<bos>", "")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "<bos>", "text", ":", "answer", *FILLERS, *MARKERS, *CHOICES]
    vocabulary = {word: k for k, word in enumerate(words)}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.post_processor = TemplateProcessing(
        single=f"{first} $A{last}", special_tokens=[(word, vocabulary[word]) for word in ("[CLS]", "[SEP]", "<bos>")]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=N_TOKENS_MAX
    )


def make_examples(
    n_examples: int, seed: int, *, n_choices: int = 2, noise: float = 0.0, prefix: str = "item"
) -> list[Example]:
    """The marker word among the fillers says the answer; with noise, labels are soft, and for that share of the items
    they lean to an answer drawn at random.
    """
    rng = random.Random(f"{prefix}:{seed}")
    examples = []
    for index in range(n_examples):
        choice = rng.randrange(n_choices)
        words = rng.choices(FILLERS, k=rng.randint(2, 6))
        words.insert(rng.randrange(len(words) + 1), MARKERS[choice])
        probabilities = one_hot(choice, n_choices)
        if noise:
            shown = rng.randrange(n_choices) if rng.random() < noise else choice
            probabilities = tuple(0.8 if k == shown else 0.2 / (n_choices - 1) for k in range(n_choices))
        examples.append(Example(f"{prefix}-{index}", {"text": " ".join(words)}, probabilities))
    return examples


def llama_task(n_choices: int = 2) -> Task:
    return Task("weather", "text : {text} answer :", CHOICES[:n_choices])


def bert_task(n_choices: int = 2) -> Task:
    return Task("weather", "{text}", CHOICES[:n_choices])


def sequential(*, name: str = "sequential_sft", recipe: Recipe = RECIPE, **changes: Any) -> Method:
    method = Method(name, (Stage(LabelKind.WEAK, recipe), Stage(LabelKind.HUMAN, recipe)))
    return replace(method, **changes)


@dataclass
class Bench:
    """An executor on a state folder, without the service."""

    settings: TrainerSettings
    store: ExampleStore
    executor: RunExecutor
    reports: list[tuple[RunProgress, tuple[StageResult, ...]]]

    @classmethod
    def open(cls, folder: Path, *, device: Literal["cpu", "cuda"] = "cpu") -> Self:
        opened = TrainerSettings(state_dir=folder, n_threads=1, device=device, progress_interval_seconds=0)
        return cls(opened, ExampleStore(folder / "examples"), RunExecutor(opened), [])

    def put(self, examples: Sequence[Example]) -> str:
        builder = ExampleListBuilder(10**6)
        builder.extend(examples)
        built = builder.build()
        self.store.put(built)
        return built.digest

    def spec(
        self,
        base_model: Path | str,
        task: Task,
        method: Method,
        *,
        weak: Sequence[Example] = (),
        human: Sequence[Example] = (),
        n_weak: int | None = None,
        n_human: int | None = None,
        seed: int = 0,
        test: Sequence[Example] = (),
    ) -> RunSpec:
        return RunSpec(
            task,
            method,
            str(base_model),
            weak_digest=self.put(weak) if weak else "",
            n_weak=len(weak) if n_weak is None else n_weak,
            human_digest=self.put(human) if human else "",
            n_human=len(human) if n_human is None else n_human,
            seed=seed,
            evaluation_sets=(EvaluationSet("test", self.put(test)),) if test else (),
        )

    def resolve(self, spec: RunSpec) -> ResolvedRun:
        return resolve_run(spec, BaseModelFinder().find(spec.base_model), self.store)

    def run(self, spec: RunSpec, is_cancelled: Callable[[], bool] = lambda: False) -> RunResult:
        self.reports.clear()
        return self.executor.execute(
            self.resolve(spec), lambda progress, stages: self.reports.append((progress, stages)), is_cancelled
        )


class Server:
    """A trainer behind real gRPC on loopback."""

    def __init__(self, state_dir: Path) -> None:
        self.settings = TrainerSettings(
            address="127.0.0.1:0", state_dir=state_dir, n_threads=1, device="cpu", progress_interval_seconds=0
        )

    async def __aenter__(self) -> TrainerClient:
        self.service = TrainerService(self.settings)
        self._server = GrpcServer()
        self.service.register(self._server.aio)
        await self.service.start()
        address = await self._server.start(self.settings.address, [TrainerService.SERVICE_NAME])
        self.client = TrainerClient(address)
        return self.client

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()
        await self.service.close()
        await self._server.stop(1.0)


async def finish(client: TrainerClient, run: Run) -> Run:
    """Follows a run to its end."""
    seen = [run async for run in client.watch_run(run.run_id)]
    return seen[-1]
