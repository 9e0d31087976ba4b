"""Executes a run: its stages, each at most once, then its output and its evaluations."""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from isocost.resources.method import Head, Method, Tuning
from isocost.resources.observation import Evaluation
from isocost.resources.run import RunProgress, StageResult
from isocost.tasks.choices import ChoiceTree
from isocost.tasks.model_path import RUN_FILE
from isocost.trainer.base_model import BaseModel
from isocost.trainer.classifier import (
    Classifier,
    build_classifier,
    build_head,
    load_tokenizer,
    max_tokens,
    pad_token_id,
    truncate,
)
from isocost.trainer.evaluation import evaluate, write_predictions
from isocost.trainer.examples import ExampleList
from isocost.trainer.features import FeatureStore
from isocost.trainer.identity import PlannedStage, ResolvedRun
from isocost.trainer.inputs import FeatureInputs, Inputs, Prompts, TokenInputs
from isocost.trainer.prediction import Cancelled, predict
from isocost.trainer.settings import TrainerSettings
from isocost.trainer.stage import StageOutcome, train_stage
from isocost.trainer.stage_store import StageStore
from isocost.trainer.storage import new_folder

__all__ = ["RunExecutor", "RunResult"]

#: Lists of prompts kept as tokens between runs: the runs of a campaign share their evaluation sets.
_PROMPTS_IN_MEMORY = 8
_PREDICT_BATCH_TOKENS = {"cpu": 2_048, "cuda": 32_768}

OnProgress = Callable[[RunProgress, tuple[StageResult, ...]], None]


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run that went to its end has made; output_path is "" for a method without stages."""

    stages: tuple[StageResult, ...]
    evaluations: tuple[Evaluation, ...]
    output_path: str


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
        model = _RunModel(run, self._state_dir, self._device, self._batch_tokens, self._encode, is_cancelled)
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
            probabilities_nc = predict(
                classifier,
                model.inputs(examples),
                device=self._device,
                batch_tokens=self._batch_tokens,
                is_cancelled=is_cancelled,
            )
            path = self._state_dir / "runs" / run.run_id / "predictions" / f"{name}.parquet"
            write_predictions(path, examples.examples, probabilities_nc)
            evaluations.append(evaluate(name, examples.examples, probabilities_nc))
        return RunResult(tuple(results), tuple(evaluations), output_path)

    def _train(
        self,
        model: _RunModel,
        planned: PlannedStage,
        index: int,
        results: tuple[StageResult, ...],
        last_stage_id: str,
        on_progress: OnProgress,
        is_cancelled: Callable[[], bool],
    ) -> StageOutcome:
        classifier = self._with_weights(model, last_stage_id)
        next_report = 0.0

        def on_step(step: int, max_steps: int, read_loss: Callable[[], float], best_auroc: float) -> None:
            nonlocal next_report
            now = time.monotonic()
            # Reading the loss waits for the device; so it is read no more often than it is reported.
            if now >= next_report:
                next_report = now + self._settings.progress_interval_seconds
                on_progress(RunProgress(index, step, max_steps, read_loss(), best_auroc), results)

        outcome = train_stage(
            classifier,
            model.inputs(planned.examples),
            planned.examples.examples,
            planned.stage.recipe,
            seed=planned.seed,
            device=self._device,
            batch_tokens=self._batch_tokens,
            on_step=on_step,
            is_cancelled=is_cancelled,
        )
        self._stages.put(planned.stage_id, outcome, classifier.trainable_state())
        model.stage_id = planned.stage_id
        return outcome

    def _with_weights(self, model: _RunModel, stage_id: str) -> Classifier:
        """The run's classifier as it is after a stage; "" is the untrained one."""
        classifier = model.classifier
        if model.stage_id != stage_id:
            classifier.load_trainable_state(self._stages.weights(stage_id))
            model.stage_id = stage_id
        return classifier

    def _write_output(self, run: ResolvedRun, model: _RunModel, stage_id: str) -> str:
        if not run.stages:
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


class _RunModel:
    """The model of one run: loaded when first needed, so that a run whose stages are all there is quick."""

    def __init__(
        self,
        run: ResolvedRun,
        state_dir: Path,
        device: torch.device,
        batch_tokens: int,
        encode: Callable[[tuple[str, ...], Prompts, ExampleList], list[list[int]]],
        is_cancelled: Callable[[], bool],
    ) -> None:
        self._run = run
        self._device = device
        self._encode = encode
        self._is_cancelled = is_cancelled
        self._folder = _model_folder(run.base, run.spec.method, state_dir)
        self._tokenizer = load_tokenizer(self._folder)
        n_tokens_max = max_tokens(self._tokenizer, run.base.n_positions)
        reads_choices = run.spec.method.head is Head.LANGUAGE_MODEL
        self._lead = ChoiceTree.build(self._tokenizer, run.spec.task).lead if reads_choices else ()
        self._prompts = Prompts(self._tokenizer, run.spec.task, run.few_shot, max_tokens=n_tokens_max, lead=self._lead)
        self._classifier: Classifier | None = None
        self._feature_store: FeatureStore | None = None
        self._inputs: dict[str, Inputs] = {}
        #: Whose weights the classifier has; "" for the untrained one.
        self.stage_id = ""
        if run.spec.method.tuning is Tuning.HEAD_ONLY:
            folder = state_dir / "features" / f"{run.base.digest}-{_layers(run.base, run.spec.method)}"
            self._feature_store = FeatureStore(
                folder, run.base, self._folder, pad_token_id(self._tokenizer), device, batch_tokens
            )

    @property
    def classifier(self) -> Classifier:
        """On the device, in evaluation mode."""
        if self._classifier is None:
            spec = self._run.spec
            if self._feature_store is not None:
                width = self._feature_store.features(self._encoded(self._run.stages[0].examples.first(1))).shape[-1]
                head = build_head(width, spec.task, self._feature_store.description, seed=spec.seed)
                self._classifier = head.to(self._device).eval()
            else:
                self._classifier = build_classifier(
                    self._folder, self._tokenizer, spec.task, spec.method, seed=spec.seed, device=self._device
                )
        return self._classifier

    def inputs(self, examples: ExampleList) -> Inputs:
        """What the classifier reads for each example of a list."""
        if examples.digest not in self._inputs:
            tokens = self._encoded(examples)
            if self._feature_store is not None:
                inputs: Inputs = FeatureInputs(self._feature_store.features(tokens, self._is_cancelled))
            else:
                inputs = TokenInputs(tokens, pad_token_id(self._tokenizer), pad_left=not self._run.base.is_encoder)
            self._inputs[examples.digest] = inputs
        return self._inputs[examples.digest]

    def _encoded(self, examples: ExampleList) -> list[list[int]]:
        task = self._run.spec.task
        block = [
            f"{example.item_id}:{example.choice}:{json.dumps(dict(example.fields))}" for example in self._run.few_shot
        ]
        key = (self._run.base.digest, task.template, *task.choices, "", *block, f"{self._lead}", examples.digest)
        return self._encode(key, self._prompts, examples)


def _layers(base: BaseModel, method: Method) -> int:
    return method.n_layers or base.n_layers


def _model_folder(base: BaseModel, method: Method, state_dir: Path) -> Path:
    """The base model's own folder, or that of its truncated copy, which is made where it is not there yet."""
    n_layers = _layers(base, method)
    if n_layers == base.n_layers:
        return base.folder
    folder = state_dir / "bases" / f"{base.digest}-{n_layers}-{method.head.name.lower()}"
    if not folder.is_dir():
        with new_folder(folder) as target:
            truncate(base.folder, n_layers, method.head, target)
    return folder


def _stage_result(planned: PlannedStage, outcome: StageOutcome, *, reused: bool) -> StageResult:
    return StageResult(
        label_kind=planned.stage.label_kind,
        n_labels=len(planned.examples),
        n_holdout=outcome.n_holdout,
        n_steps=outcome.n_steps,
        best_step=outcome.best_step,
        best_auroc=outcome.best_auroc,
        seconds=0.0 if reused else outcome.seconds,
        reused=reused,
        stage_id=planned.stage_id,
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
