"""Executes a run: its stages, each at most once, then its output and its evaluations."""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from isocost.resources.run import Example, RunProgress, StageResult
from isocost.tasks.model_path import RUN_FILE
from isocost.trainer.evaluation import evaluate, write_predictions
from isocost.trainer.examples import ExampleList
from isocost.trainer.identity import PlannedStage, ResolvedRun
from isocost.trainer.models.classifier import Classifier
from isocost.trainer.models.inputs import Inputs, Prompts, SelectedInputs
from isocost.trainer.models.prediction import Cancelled, predict
from isocost.trainer.models.run_model import RunModel
from isocost.trainer.run_result import RunResult
from isocost.trainer.run_store import RunStore
from isocost.trainer.settings import TrainerSettings
from isocost.trainer.stages.checkpoint import StageCheckpoint
from isocost.trainer.stages.stage import StageOutcome, train_stage
from isocost.trainer.stages.stage_store import StageStore
from isocost.trainer.stages.uncertainty import most_uncertain
from isocost.trainer.storage import new_folder

__all__ = ["RunExecutor"]

#: Lists of prompts kept as tokens between runs: the runs of a campaign share their evaluation sets.
_PROMPTS_IN_MEMORY = 8
_PREDICT_BATCH_TOKENS = {"cpu": 2_048, "cuda": 32_768}

OnProgress = Callable[[RunProgress, tuple[StageResult, ...]], None]


class RunExecutor:
    """Executes runs one after another, in one thread."""

    def __init__(self, settings: TrainerSettings) -> None:
        self._settings = settings
        self._state_dir = settings.state_dir.absolute()
        self._stages = StageStore(self._state_dir / "stages")
        self._prompts: OrderedDict[tuple[str, ...], list[list[int]]] = OrderedDict()
        if settings.n_threads:
            # For the calling thread: the number is the thread's own where torch is built on OpenMP.
            torch.set_num_threads(settings.n_threads)
        wants_cuda = settings.device == "cuda" or (settings.device == "auto" and torch.cuda.is_available())
        self._device = torch.device("cuda" if wants_cuda else "cpu")
        self._batch_tokens = settings.predict_batch_tokens or _PREDICT_BATCH_TOKENS[self._device.type]

    def execute(self, run: ResolvedRun, on_progress: OnProgress, is_cancelled: Callable[[], bool]) -> RunResult:
        """Executes a run.

        Args:
            run: What to do.
            on_progress: Called at the start of each stage, at its end, and every so often in between.
            is_cancelled: Asked between steps and between batches.

        Raises:
            Cancelled: where `is_cancelled` turned true.
            IsocostError: where the run cannot be done; the message says why.
        """
        if run.base.is_remote:
            # Its HTTP client is of no use to anybody else.
            from isocost.trainer.fine_tuning.executor import FineTuningExecutor  # noqa: PLC0415

            runs = RunStore(self._state_dir / "runs")
            executor = FineTuningExecutor(self._state_dir, is_stopping=lambda: not runs.is_marked_cancelled(run.run_id))
            return executor.execute(run, on_progress, is_cancelled)
        model = RunModel(run, self._state_dir, self._device, self._batch_tokens, self._encode, is_cancelled)
        results: list[StageResult] = []
        last_stage_id = ""
        for index, planned in enumerate(run.stages):
            if is_cancelled():
                raise Cancelled
            on_progress(RunProgress(stage_index=index), tuple(results))
            outcome = self._stages.find(planned.stage_id)
            reused = outcome is not None
            if outcome is None:
                outcome = self._train(model, planned, index, tuple(results), last_stage_id, on_progress, is_cancelled)
            last_stage_id = planned.stage_id
            results.append(_stage_result(planned, outcome, reused=reused))
        on_progress(RunProgress(stage_index=len(results)), tuple(results))
        output_path = self._write_output(run, model, last_stage_id)
        evaluations = []
        for name, examples in run.evaluation_sets.items():
            classifier = self._with_weights(model, last_stage_id)
            probabilities_nc = self._predict(classifier, model.inputs(examples), is_cancelled)
            path = self._state_dir / "runs" / run.run_id / "predictions" / f"{name}.parquet"
            write_predictions(path, examples.examples, probabilities_nc)
            evaluations.append(evaluate(name, examples.examples, probabilities_nc))
        return RunResult(tuple(results), tuple(evaluations), output_path)

    def _train(
        self,
        model: RunModel,
        planned: PlannedStage,
        index: int,
        results: tuple[StageResult, ...],
        last_stage_id: str,
        on_progress: OnProgress,
        is_cancelled: Callable[[], bool],
    ) -> StageOutcome:
        classifier = self._with_weights(model, last_stage_id)
        inputs = model.inputs(planned.examples)
        examples: Sequence[Example] = planned.examples.examples
        if planned.n_labels < len(examples):
            probabilities_nc = self._predict(classifier, inputs, is_cancelled)
            chosen = most_uncertain(probabilities_nc, planned.n_labels, planned.n_given)
            inputs, examples = SelectedInputs(inputs, chosen), [examples[row] for row in chosen]
        started, first_step, next_report = time.monotonic(), -1, 0.0

        def on_step(step: int, max_steps: int, read_loss: Callable[[], float], best_auroc: float) -> None:
            nonlocal first_step, next_report
            now = time.monotonic()
            first_step = step - 1 if first_step < 0 else first_step
            # Reading the loss waits for the device; so it is read no more often than it is reported.
            if now >= next_report:
                next_report = now + self._settings.progress_interval_seconds
                eta_seconds = (now - started) / (step - first_step) * (max_steps - step)
                on_progress(RunProgress(index, step, max_steps, read_loss(), best_auroc, eta_seconds), results)

        checkpoint = StageCheckpoint(
            self._state_dir / "checkpoints" / planned.stage_id, self._settings.checkpoint_interval_seconds
        )
        outcome = train_stage(
            classifier,
            inputs,
            examples,
            planned.stage.recipe,
            seed=planned.seed,
            device=self._device,
            batch_tokens=self._batch_tokens,
            on_step=on_step,
            is_cancelled=is_cancelled,
            checkpoint=checkpoint,
        )
        self._stages.put(planned.stage_id, outcome, classifier.trainable_state())
        checkpoint.remove()
        model.stage_id = planned.stage_id
        return outcome

    def _predict(
        self, classifier: Classifier, inputs: Inputs, is_cancelled: Callable[[], bool]
    ) -> npt.NDArray[np.float64]:
        return predict(
            classifier, inputs, device=self._device, batch_tokens=self._batch_tokens, is_cancelled=is_cancelled
        )

    def _with_weights(self, model: RunModel, stage_id: str) -> Classifier:
        """The run's classifier as it is after a stage; "" is the untrained one."""
        classifier = model.classifier
        if model.stage_id != stage_id:
            classifier.load_trainable_state(self._stages.weights(stage_id))
            model.stage_id = stage_id
        return classifier

    def _write_output(self, run: ResolvedRun, model: RunModel, stage_id: str) -> str:
        if not run.stages or run.spec.discard_output:
            return ""
        output = self._state_dir / "runs" / run.run_id / "output"
        if not output.is_dir():
            classifier = self._with_weights(model, stage_id)
            with new_folder(output) as folder:
                classifier.save(folder)
                (folder / RUN_FILE).write_text(json.dumps(_card(run), indent=2, ensure_ascii=False) + "\n")
        return str(output)

    def _encode(self, key: tuple[str, ...], prompts: Prompts, examples: ExampleList) -> list[list[int]]:
        if key not in self._prompts:
            self._prompts[key] = prompts.encode(examples.examples)
        self._prompts.move_to_end(key)
        while len(self._prompts) > _PROMPTS_IN_MEMORY:
            self._prompts.popitem(last=False)
        return self._prompts[key]


def _stage_result(planned: PlannedStage, outcome: StageOutcome, *, reused: bool) -> StageResult:
    return StageResult(
        label_kind=planned.stage.label_kind,
        n_labels=planned.n_labels,
        n_holdout=outcome.n_holdout,
        n_steps=outcome.n_steps,
        best_step=outcome.best_step,
        best_auroc=outcome.best_auroc,
        seconds=0.0 if reused else outcome.seconds,
        reused=reused,
        stage_id=planned.stage_id,
        n_examples=outcome.n_examples,
        n_tokens=outcome.n_tokens,
    )


def _card(run: ResolvedRun) -> dict[str, object]:
    """What a trained model must be asked like; written beside it."""
    spec = run.spec
    return {
        "run_id": run.run_id,
        "task": {"name": spec.task.name, "template": spec.task.template, "choices": list(spec.task.choices)},
        "method": spec.method.name,
        "head": spec.method.head.name,
        "tuning": spec.method.tuning.name,
        "base_model": spec.base_model,
        "base_digest": run.base.digest,
        "n_weak": spec.n_weak,
        "n_human": spec.n_human,
        "seed": spec.seed,
        "few_shot_examples": [{"fields": dict(part.fields), "choice": part.choice} for part in run.few_shot],
    }
