"""What is done between a stage's steps: measuring held-out labels, keeping the best weights, checkpoints, reports.

Legend of the shape suffixes: n examples, c choices.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
import transformers

from isocost.core.errors import FailedPreconditionError
from isocost.economics.roc import area_interval
from isocost.resources.method import Recipe
from isocost.resources.run import Example
from isocost.trainer.models.classifier import Classifier
from isocost.trainer.models.inputs import Inputs, SelectedInputs
from isocost.trainer.models.prediction import predict
from isocost.trainer.stages.checkpoint import Checkpoint, StageCheckpoint
from isocost.trainer.stages.early_stopping import EarlyStopping
from isocost.trainer.stages.schedule import Schedule

__all__ = ["Watch"]


class _Step(Protocol):
    """What the trainer tells of its latest step."""

    last_loss: torch.Tensor
    last_rows: list[int]


class Watch(transformers.TrainerCallback):  # type: ignore[misc]
    """Evaluates, keeps the best weights, writes checkpoints, reports, and stops the Trainer.

    Args:
        holdout: Rows of the held-out examples.

    The others are those of `train_stage`.
    """

    def __init__(
        self,
        classifier: Classifier,
        inputs: Inputs,
        examples: Sequence[Example],
        holdout: Sequence[int],
        recipe: Recipe,
        schedule: Schedule,
        device: torch.device,
        batch_tokens: int,
        on_step: Callable[[int, int, Callable[[], float], float], None],
        is_cancelled: Callable[[], bool],
        checkpoint: StageCheckpoint | None,
    ) -> None:
        self._classifier = classifier
        self._prompt_lengths_n = inputs.prompt_lengths_n
        self._schedule = schedule
        self._device = device
        self._batch_tokens = batch_tokens
        self._on_step = on_step
        self._is_cancelled = is_cancelled
        self._checkpoint = checkpoint
        self._holdout = SelectedInputs(inputs, holdout)
        self._choices_n = np.array([examples[row].choice for row in holdout], dtype=np.int64)
        self._targets_nc = np.array([examples[row].probabilities for row in holdout], dtype=np.float64)
        self._best_weights: dict[str, torch.Tensor] | None = None
        self._has_evaluated = False
        self._random_states: list[torch.Tensor] = []
        self._start = time.monotonic()
        self._first_step = 0
        self._step: _Step | None = None
        self._optimizer: Any = None
        self._scheduler: Any = None
        self.stopping = EarlyStopping(recipe.patience, recipe.min_improvement, recipe.stopping_rule)
        self.cancelled = False
        #: Steps done, those before a checkpoint included; examples and tokens they saw; seconds before the checkpoint.
        self.n_steps = 0
        self.n_examples = 0
        self.n_tokens = 0
        self.seconds_before = 0.0

    @property
    def has_ended(self) -> bool:
        """Whether early stopping has said so, before a checkpoint."""
        return self._has_evaluated and self.stopping.should_stop

    def begin(self, step: _Step, optimizer: Any, scheduler: Any) -> None:
        """Takes what is to be watched, and puts it back into the state of the checkpoint, where there is one."""
        self._step, self._optimizer, self._scheduler = step, optimizer, scheduler
        state = self._checkpoint.load() if self._checkpoint else None
        if state is None:
            return
        self._classifier.load_trainable_state(state.weights)
        self._best_weights = state.best_weights
        optimizer.load_state_dict(state.optimizer)
        scheduler.load_state_dict(state.scheduler)
        self._random_states = state.random_states
        self.stopping.load_state(state.stopping)
        self._has_evaluated = state.step >= self._schedule.eval_steps
        self._first_step = self.n_steps = state.step
        self.n_examples, self.n_tokens, self.seconds_before = state.n_examples, state.n_tokens, state.seconds

    def on_step_begin(
        self,
        args: transformers.TrainingArguments,  # noqa: ARG002 - the Trainer's signature
        state: transformers.TrainerState,  # noqa: ARG002
        control: transformers.TrainerControl,
        **_: Any,
    ) -> transformers.TrainerControl:
        """Before each step: the first one after a checkpoint draws what it would have drawn without."""
        if self._random_states:
            torch.set_rng_state(self._random_states[0])
            if torch.cuda.is_available():
                torch.cuda.set_rng_state_all(self._random_states[1:])
            self._random_states = []
        return control

    def on_step_end(
        self,
        args: transformers.TrainingArguments,  # noqa: ARG002 - the Trainer's signature
        state: transformers.TrainerState,
        control: transformers.TrainerControl,
        **_: Any,
    ) -> transformers.TrainerControl:
        """After each optimizer step."""
        assert self._step is not None
        self.n_steps = self._first_step + state.global_step
        self.n_examples += len(self._step.last_rows)
        self.n_tokens += int(self._prompt_lengths_n[self._step.last_rows].sum())
        if self.n_steps % self._schedule.eval_steps == 0 or self.n_steps == self._schedule.max_steps:
            control.should_training_stop |= self._evaluate()
        if self._is_cancelled():
            self.cancelled = True
            control.should_training_stop = True
        if self._checkpoint is not None and (self.cancelled or self._checkpoint.is_due):
            self._checkpoint.save(self._state())
        if not self.cancelled:
            best_auroc = self.stopping.best_auroc if self._has_evaluated else 0.0
            self._on_step(self.n_steps, self._schedule.max_steps, self._step.last_loss.item, best_auroc)
        return control

    def _state(self) -> Checkpoint:
        random_states = [torch.get_rng_state()]
        if torch.cuda.is_available():
            random_states += torch.cuda.get_rng_state_all()
        return Checkpoint(
            step=self.n_steps,
            weights=self._classifier.trainable_state(),
            best_weights=self._best_weights,
            optimizer=self._optimizer.state_dict(),
            scheduler=self._scheduler.state_dict(),
            random_states=random_states,
            stopping=self.stopping.state(),
            n_examples=self.n_examples,
            n_tokens=self.n_tokens,
            seconds=self.seconds_before + time.monotonic() - self._start,
        )

    def _evaluate(self) -> bool:
        """Measures the held-out labels; returns whether to stop."""
        if not len(self._choices_n):
            self._check_finite(np.array([self._step.last_loss.item()]) if self._step else np.zeros(1))
            self.stopping.best_step = self.n_steps
            return False
        probabilities_nc = predict(
            self._classifier, self._holdout, device=self._device, batch_tokens=self._batch_tokens
        )
        if not self._check_finite(probabilities_nc):
            return True
        loss = -float((self._targets_nc * np.log(np.clip(probabilities_nc, 1e-12, None))).sum(axis=-1).mean())
        accuracy = float((probabilities_nc.argmax(axis=-1) == self._choices_n).mean())
        area = area_interval(self._choices_n, probabilities_nc)
        if self.stopping.update(self.n_steps, area[0] if area else None, loss, accuracy):
            self._best_weights = self._classifier.trainable_state()
        self._has_evaluated = True
        return self.stopping.should_stop

    def _check_finite(self, values: npt.NDArray[np.float64]) -> bool:
        """Whether all are finite; where they are not and nothing good was kept before, the stage has failed."""
        finite = bool(np.isfinite(values).all())
        if not finite and self._best_weights is None:
            raise FailedPreconditionError(
                f"training diverged within {self.n_steps} steps; lower the learning rate", field="recipe.learning_rate"
            )
        return finite

    def restore_best(self) -> None:
        """Puts the best weights back; without held-out labels the last ones stay."""
        if self._best_weights is not None:
            self._classifier.load_trainable_state(self._best_weights)
