"""The model of one run, and what it reads of its examples."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch

from isocost.resources.method import Head, Method, Tuning
from isocost.tasks.choices import ChoiceTree
from isocost.trainer.examples import ExampleList
from isocost.trainer.identity import ResolvedRun
from isocost.trainer.models.base_model import BaseModel
from isocost.trainer.models.classifier import (
    Classifier,
    build_classifier,
    build_head,
    load_tokenizer,
    max_tokens,
    pad_token_id,
    truncate,
)
from isocost.trainer.models.features import FeatureStore
from isocost.trainer.models.inputs import FeatureInputs, Inputs, Prompts, TokenInputs
from isocost.trainer.storage import new_folder

__all__ = ["RunModel"]


class RunModel:
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
                inputs = TokenInputs(
                    tokens, pad_token_id(self._tokenizer), pad_left=not self._run.base.is_encoder, prefix=self._prefix()
                )
            self._inputs[examples.digest] = inputs
        return self._inputs[examples.digest]

    def _prefix(self) -> tuple[int, ...]:
        """The few-shot block's tokens, where the model can go on from their keys and values."""
        if not self._run.few_shot:
            return ()
        with torch.inference_mode():
            first = torch.tensor([self._prompts.prefix[:1]], device=self._device)
            return self._prompts.prefix if self.classifier.prefix_states(first) is not None else ()

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
