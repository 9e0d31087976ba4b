"""Executes a run on a closed model: a fine-tuning job a stage, each paid for once, then its evaluations."""

from __future__ import annotations

import asyncio
import json
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import structlog

from isocost.core.environment import read_environment
from isocost.core.errors import InvalidArgumentError
from isocost.resources.method import Recipe, StoppingRule
from isocost.resources.observation import Evaluation
from isocost.resources.run import Example, RunProgress, StageResult
from isocost.tasks.model_path import RUN_FILE
from isocost.trainer.evaluation import evaluate, write_predictions
from isocost.trainer.examples import ExampleList
from isocost.trainer.fine_tuning.answer import AnswerReader
from isocost.trainer.fine_tuning.answer_log import AnswerLog, answer_key
from isocost.trainer.fine_tuning.api import FineTuningApi, Job, JobProgress
from isocost.trainer.fine_tuning.chat import Chat
from isocost.trainer.fine_tuning.http import ApiHttp, RefusedError
from isocost.trainer.fine_tuning.jobs import FineTuningJobs, JobOrder
from isocost.trainer.fine_tuning.outcome import FineTunedModel, FineTunedModelStore
from isocost.trainer.fine_tuning.settings import FineTuningSettings
from isocost.trainer.identity import PlannedStage, ResolvedRun
from isocost.trainer.run_result import RunResult
from isocost.trainer.stages.holdout import Split, split_holdout
from isocost.trainer.storage import new_folder

__all__ = ["FineTuningExecutor"]

#: How soon a wait notices that the run is cancelled.
_SLICE_SECONDS = 1.0
#: What the API takes as a seed.
_SEED_MASK = 2**31 - 1
#: Status codes that are about what was asked.
_OF_ITEM = frozenset((400, 413, 422))
_log = structlog.get_logger(__name__)

OnProgress = Callable[[RunProgress, tuple[StageResult, ...]], None]


class FineTuningExecutor:
    """Executes runs whose base model is remote.

    Usage::

        result = FineTuningExecutor(settings.state_dir).execute(run, on_progress, is_cancelled)

    Args:
        state_dir: The trainer's.
        settings: Where the API is; None reads the environment.
        is_stopping: Whether a cancellation means that this process stops. Then the job goes on at the server, and the
            run takes it up again; else the job is cancelled.
        sleep: Waits.
    """

    def __init__(
        self,
        state_dir: Path,
        settings: FineTuningSettings | None = None,
        *,
        is_stopping: Callable[[], bool] = lambda: False,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._state_dir = state_dir.absolute()
        self._settings = settings or read_environment(FineTuningSettings)
        self._is_stopping = is_stopping
        self._sleep = sleep

    def execute(self, run: ResolvedRun, on_progress: OnProgress, is_cancelled: Callable[[], bool]) -> RunResult:
        """Executes a run; as `RunExecutor.execute`. Not to be called from a thread that runs an event loop.

        Raises:
            Cancelled: where `is_cancelled` turned true.
            IsocostError: where the run cannot be done; the message says why.
        """
        return asyncio.run(self._execute(run, on_progress, is_cancelled))

    async def _execute(self, run: ResolvedRun, on_progress: OnProgress, is_cancelled: Callable[[], bool]) -> RunResult:
        async def pause(seconds: float) -> None:
            left_seconds = seconds
            while True:
                if is_cancelled():
                    # Its module imports torch, for which nothing else here has a use.
                    from isocost.trainer.models.prediction import Cancelled  # noqa: PLC0415

                    raise Cancelled
                if left_seconds <= 0:
                    return
                await self._sleep(min(left_seconds, _SLICE_SECONDS))
                left_seconds -= _SLICE_SECONDS

        async with ApiHttp(self._settings, pause) as http:
            jobs = FineTuningJobs(
                self._state_dir / "fine_tuning", self._settings, http, pause, is_cancelled, self._is_stopping
            )
            running = _RemoteRun(run, self._state_dir, self._settings, FineTuningApi(http), jobs, pause, on_progress)
            await running.train()
            output_path = running.write_output()
            evaluations = await running.evaluate()
        return RunResult(tuple(running.results), tuple(evaluations), output_path)


class _RemoteRun:
    """One run while it is executed."""

    def __init__(
        self,
        run: ResolvedRun,
        state_dir: Path,
        settings: FineTuningSettings,
        api: FineTuningApi,
        jobs: FineTuningJobs,
        pause: Callable[[float], Awaitable[None]],
        on_progress: OnProgress,
    ) -> None:
        self._run = run
        self._folder = state_dir / "runs" / run.run_id
        self._settings = settings
        self._api = api
        self._jobs = jobs
        self._pause = pause
        self._on_progress = on_progress
        self._chat = Chat(run.spec.task, run.few_shot)
        self._stages = FineTunedModelStore(state_dir / "stages")
        #: What the server calls the model as it is after the stages done so far.
        self._model = run.base.remote_name
        self.results: list[StageResult] = []

    async def train(self) -> None:
        """Does the stages, in order."""
        for index, planned in enumerate(self._run.stages):
            await self._pause(0)
            self._report(RunProgress(stage_index=index))
            made = self._stages.find(planned.stage_id)
            reused = made is not None
            if made is None:
                made = await self._train_stage(planned, index)
                self._stages.put(planned.stage_id, made)
            self._model = made.name
            self.results.append(_stage_result(planned, made, reused=reused))
        self._report(RunProgress(stage_index=len(self.results)))

    async def _train_stage(self, planned: PlannedStage, index: int) -> FineTunedModel:
        examples = planned.examples.examples
        recipe = planned.stage.recipe
        split = self._split(examples, recipe, planned.seed)
        # Servers need not shuffle.
        order = random.Random(planned.seed).sample(split.train, len(split.train))
        training = self._chat.training_file(
            [examples[position] for position in order], n_examples_min=self._settings.n_examples_min
        )
        holdout = [examples[position] for position in split.holdout]
        last = JobProgress()

        def on_progress(progress: JobProgress) -> None:
            nonlocal last
            last = progress
            self._report(RunProgress(index, progress.step, progress.max_steps, progress.loss))

        job = await self._jobs.fill(
            JobOrder(
                stage_id=planned.stage_id,
                model=self._model,
                training=training,
                validation=self._chat.training_file(holdout) if holdout else b"",
                hyperparameters=self._hyperparameters(recipe),
                seed=planned.seed & _SEED_MASK,
            ),
            on_progress,
        )
        return _made(job, self._model, split, training.count(b"\n"), last)

    def _split(self, examples: Sequence[Example], recipe: Recipe, seed: int) -> Split:
        if not self._settings.holds_out:
            return Split(tuple(range(len(examples))), ())
        by_choice = recipe.stopping_rule is StoppingRule.AUROC_AND_LOSS
        return split_holdout(examples, recipe.holdout_fraction, seed, by_choice=by_choice)

    def _hyperparameters(self, recipe: Recipe) -> dict[str, int | float | str]:
        batch_size = self._settings.batch_size
        return {
            "n_epochs": self._settings.n_epochs,
            "batch_size": recipe.batch_size if batch_size == "recipe" else batch_size,
            "learning_rate_multiplier": self._settings.learning_rate_multiplier,
        }

    async def evaluate(self) -> list[Evaluation]:
        """Asks the model what is not known yet, and measures its answers."""
        reader = AnswerReader(self._run.spec.task)
        evaluations = []
        with AnswerLog(self._folder / "answers.jsonl") as log:
            for name, examples in self._run.evaluation_sets.items():
                keys = await self._ask(examples, reader.n_tokens_max, log)
                probabilities_nc = self._probabilities(name, reader, log, keys)
                write_predictions(self._folder / "predictions" / f"{name}.parquet", examples.examples, probabilities_nc)
                evaluations.append(evaluate(name, examples.examples, probabilities_nc))
        return evaluations

    async def _ask(self, examples: ExampleList, n_tokens_max: int, log: AnswerLog) -> list[str]:
        """Has the answer to each example in the log, and returns the answers' keys."""
        prompts = [self._chat.prompt(example) for example in examples.examples]
        keys = [answer_key(self._model, prompt, n_tokens_max) for prompt in prompts]
        items = zip(keys, prompts, examples.examples, strict=True)
        missing = {key: (prompt, example.item_id) for key, prompt, example in items if log.find(key) is None}
        waiting = deque(missing.items())
        failures: list[Exception] = []

        async def work() -> None:
            # After a failure nothing new is asked, but what is under way is paid for: it is awaited and kept.
            while waiting and not failures:
                key, (prompt, item_id) = waiting.popleft()
                try:
                    await self._pause(0)
                    log.put(key, await self._api.complete(self._model, prompt, n_tokens_max=n_tokens_max))
                except RefusedError as error:
                    of_item = error.status in _OF_ITEM
                    failures.append(InvalidArgumentError(f"item {item_id!r}", error.message) if of_item else error)
                except Exception as error:  # noqa: BLE001 - raised below, when the others have ended
                    failures.append(error)
                else:
                    n_done = len(missing) - len(waiting)
                    self._report(RunProgress(len(self.results), n_done, len(missing)))

        await asyncio.gather(*(work() for _ in range(min(self._settings.predictions_in_flight, len(missing)))))
        if failures:
            raise failures[0]
        return keys

    def _probabilities(
        self, name: str, reader: AnswerReader, log: AnswerLog, keys: Sequence[str]
    ) -> npt.NDArray[np.float64]:
        n_choices = len(self._run.spec.task.choices)
        rows = []
        n_unseen = 0
        for key in keys:
            places = log.find(key)
            assert places is not None, "every item was asked"
            row = reader.probabilities(places)
            n_unseen += row is None
            rows.append(row or (1.0 / n_choices,) * n_choices)
        if n_unseen:
            _log.warning(
                "no_choice_among_the_most_probable_tokens", evaluation_set=name, n_items=n_unseen, of=len(keys)
            )
        return np.array(rows, dtype=np.float64)

    def write_output(self) -> str:
        """Writes down what the model is called and how it must be asked; "" without stages."""
        if not self.results:
            return ""
        output = self._folder / "output"
        spec = self._run.spec
        card = {
            "run_id": self._run.run_id,
            "fine_tuned_model": self._model,
            "base_url": self._settings.base_url,
            "task": {"name": spec.task.name, "template": spec.task.template, "choices": list(spec.task.choices)},
            "method": spec.method.name,
            "head": spec.method.head.name,
            "tuning": spec.method.tuning.name,
            "base_model": spec.base_model,
            "base_digest": self._run.base.digest,
            "n_weak": spec.n_weak,
            "n_human": spec.n_human,
            "seed": spec.seed,
            "few_shot_examples": [{"fields": dict(part.fields), "choice": part.choice} for part in self._run.few_shot],
        }
        with new_folder(output) as folder:
            (folder / RUN_FILE).write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        return str(output)

    def _report(self, progress: RunProgress) -> None:
        self._on_progress(progress, tuple(self.results))


def _made(job: Job, base: str, split: Split, n_lines: int, progress: JobProgress) -> FineTunedModel:
    return FineTunedModel(
        name=job.fine_tuned_model,
        job_id=job.job_id,
        base=base,
        n_train=len(split.train),
        n_holdout=len(split.holdout),
        n_steps=max(progress.step, progress.max_steps),
        n_examples=n_lines * job.n_epochs,
        n_tokens=job.n_tokens,
        seconds=job.seconds,
    )


def _stage_result(planned: PlannedStage, made: FineTunedModel, *, reused: bool) -> StageResult:
    return StageResult(
        label_kind=planned.stage.label_kind,
        n_labels=planned.n_labels,
        n_holdout=made.n_holdout,
        n_steps=made.n_steps,
        best_step=made.n_steps,
        # The server measures something else on the held-out labels: as where there are none.
        best_auroc=0.5,
        seconds=0.0 if reused else made.seconds,
        reused=reused,
        stage_id=planned.stage_id,
        n_examples=made.n_examples,
        n_tokens=made.n_tokens,
    )
