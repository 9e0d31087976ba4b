"""A task that the fake server can learn, and runs of it."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isocost.resources.label import one_hot
from isocost.resources.method import Method, Stage
from isocost.resources.run import EvaluationSet, Example, RunProgress, RunSpec, StageResult
from isocost.resources.task import LabelKind, Task
from isocost.trainer.examples import ExampleListBuilder, ExampleStore
from isocost.trainer.fine_tuning.executor import FineTuningExecutor
from isocost.trainer.fine_tuning.settings import FineTuningSettings
from isocost.trainer.identity import ResolvedRun, resolve_run
from isocost.trainer.models.base_model import BaseModelFinder
from tests.integration.trainer.fine_tuning.fake_api import BASE_MODEL, KEY

if TYPE_CHECKING:
    from isocost.trainer.run_result import RunResult

TASK = Task("weather", "Diary: {text}\nIs the weather good? Answer:", ("yes", "no"))
SEQUENTIAL = Method("sequential_sft", (Stage(LabelKind.WEAK), Stage(LabelKind.HUMAN)))
_FILLERS = [f"filler{index}" for index in range(2000)]


def make_examples(
    n_examples: int, prefix: str, *, markers: Sequence[str] = ("sunny", "rainy"), soft: bool = False
) -> list[Example]:
    """The marker among the fillers says the answer."""
    rng = random.Random(prefix)
    examples = []
    for index in range(n_examples):
        choice = rng.randrange(len(markers))
        words = [*rng.choices(_FILLERS, k=4), markers[choice]]
        rng.shuffle(words)
        label = tuple(0.7 if k == choice else 0.3 / (len(markers) - 1) for k in range(len(markers)))
        probabilities = label if soft else one_hot(choice, len(markers))
        examples.append(Example(f"{prefix}-{index}", {"text": f"{' '.join(words)} {prefix}{index}"}, probabilities))
    return examples


WEAK = make_examples(30, "weak", soft=True)
HUMAN = make_examples(20, "human")
TEST = make_examples(25, "test")


async def no_sleep(seconds: float) -> None:
    """The server's jobs go on when they are looked at: nothing to wait for."""


@dataclass
class Scene:
    """An executor on a state folder, and what it reported."""

    folder: Path
    url: str
    changes: dict[str, Any] = field(default_factory=dict)
    sleep: Callable[[float], Awaitable[None]] = no_sleep
    is_stopping: bool = False
    reports: list[tuple[RunProgress, tuple[StageResult, ...]]] = field(default_factory=list)

    @property
    def settings(self) -> FineTuningSettings:
        given = {"base_url": self.url, "api_key": KEY, "attempts_max": 4} | self.changes
        return FineTuningSettings.model_validate(given)

    def resolve(
        self,
        method: Method = SEQUENTIAL,
        *,
        task: Task = TASK,
        weak: Sequence[Example] = WEAK,
        human: Sequence[Example] = HUMAN,
        test: Sequence[Example] = TEST,
        seed: int = 0,
    ) -> ResolvedRun:
        store = ExampleStore(self.folder / "examples")
        digests = []
        for examples in (weak, human, test):
            builder = ExampleListBuilder(10**6)
            builder.extend(examples)
            built = builder.build()
            store.put(built)
            digests.append(built.digest)
        spec = RunSpec(
            task,
            method,
            f"openai:{BASE_MODEL}",
            weak_digest=digests[0],
            n_weak=len(weak),
            human_digest=digests[1],
            n_human=len(human),
            seed=seed,
            evaluation_sets=(EvaluationSet("test", digests[2]),),
        )
        return resolve_run(spec, BaseModelFinder(self.settings).find(spec.base_model), store)

    def execute(self, run: ResolvedRun, is_cancelled: Callable[[], bool] = lambda: False) -> RunResult:
        self.reports.clear()
        executor = FineTuningExecutor(
            self.folder, self.settings, is_stopping=lambda: self.is_stopping, sleep=self.sleep
        )
        return executor.execute(run, lambda progress, stages: self.reports.append((progress, stages)), is_cancelled)
