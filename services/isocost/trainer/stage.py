"""One stage: a classifier is fine-tuned on one list of labels, stopped early, and left with its best weights.

Legend of the shape suffixes: n examples, b examples of a batch, c choices.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers
from torch.utils.data import DataLoader, Dataset

from isocost.core.errors import FailedPreconditionError
from isocost.resources.method import Recipe, StoppingRule
from isocost.resources.run import Example
from isocost.trainer.auroc import auroc
from isocost.trainer.classifier import Classifier
from isocost.trainer.early_stopping import EarlyStopping
from isocost.trainer.holdout import Split, split_holdout
from isocost.trainer.inputs import Batch, Inputs
from isocost.trainer.prediction import Cancelled, predict

__all__ = ["Schedule", "StageOutcome", "soft_cross_entropy", "train_stage"]

#: Adam's first moment; the paper's recipe changes only the second.
_ADAM_BETA1 = 0.9
#: Batches whose rows are sorted by length together: enough to save padding, few enough to stay random.
_SORTED_BATCHES = 8


@dataclass(frozen=True, slots=True)
class StageOutcome:
    """What a stage did; best_auroc is 0.5 where the held-out labels allow none, seconds is wall-clock time."""

    n_holdout: int
    n_steps: int
    best_step: int
    best_auroc: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Schedule:
    """Step counts of a stage, from its recipe and the number of labels it trains on."""

    batch_size: int
    """Examples a step; never more than there are."""
    epoch_steps: int
    """Steps in which every example is seen once."""
    max_steps: int
    """Steps after which the stage ends in any case: `max_examples` examples, and at least one epoch."""
    warmup_steps: int
    """Steps of linear warm-up: never more than an epoch, at least 2."""
    eval_steps: int
    """Steps between two evaluations: never more than an epoch."""

    @classmethod
    def make(cls, recipe: Recipe, n_train: int, n_holdout: int) -> Schedule:
        """Plans a stage. Without held-out labels nothing can stop it early, so it ends after `patience` evaluations'
        worth of steps: what a stage takes whose first evaluation stays the best.
        """
        epoch_steps = math.ceil(n_train / recipe.batch_size)
        eval_steps = min(recipe.eval_every_steps, epoch_steps)
        max_steps = max(math.ceil(recipe.max_examples / recipe.batch_size), epoch_steps)
        if not n_holdout:
            max_steps = min(max_steps, eval_steps * (1 + recipe.patience))
        return cls(
            batch_size=min(recipe.batch_size, n_train),
            epoch_steps=epoch_steps,
            max_steps=max_steps,
            warmup_steps=max(2, min(recipe.warmup_steps, epoch_steps)),
            eval_steps=eval_steps,
        )

    def batches(self, rows: Sequence[int], lengths_n: npt.NDArray[np.int64], seed: int) -> Iterator[list[int]]:
        """The rows of each step's batch: one shuffled pass after the other, each cut into batches.

        Texts of like length share a batch, as padding costs as much as text: every few batches' worth of shuffled rows
        is sorted by length before it is cut, and the batches are shuffled again.
        """
        rng = np.random.default_rng(seed)
        for step in range(self.max_steps):
            if step % self.epoch_steps == 0:
                epoch = self._epoch(rng.permutation(np.asarray(rows)), lengths_n, rng)
            yield epoch[step % self.epoch_steps]

    def _epoch(
        self, order: npt.NDArray[np.int64], lengths_n: npt.NDArray[np.int64], rng: np.random.Generator
    ) -> list[list[int]]:
        batches: list[list[int]] = []
        for start in range(0, len(order), _SORTED_BATCHES * self.batch_size):
            part = order[start : start + _SORTED_BATCHES * self.batch_size]
            part = part[np.argsort(lengths_n[part], kind="stable")]
            cut = [part[first : first + self.batch_size].tolist() for first in range(0, len(part), self.batch_size)]
            batches += [cut[index] for index in rng.permutation(len(cut))]
        return batches


def soft_cross_entropy(logits_bc: torch.Tensor, targets_bc: torch.Tensor) -> torch.Tensor:
    """Mean over the batch of minus the expected log-probability under the label's distribution, in nats."""
    return -(targets_bc * torch.log_softmax(logits_bc, dim=-1)).sum(dim=-1).mean()


def train_stage(
    classifier: Classifier,
    inputs: Inputs,
    examples: Sequence[Example],
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device,
    batch_tokens: int,
    on_step: Callable[[int, int, Callable[[], float], float], None] = lambda *_: None,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> StageOutcome:
    """Trains a classifier in place, with a fresh optimizer, and leaves it with its best weights.

    Args:
        classifier: On `device`.
        inputs: Of the examples, in their order.
        examples: The stage's labels, held-out ones included.
        recipe: How.
        seed: Of the held-out split, the order of the examples and dropout.
        device: Where.
        batch_tokens: Tokens of a forward pass over held-out examples.
        on_step: Called after each step with the step, the most steps, a function that reads the loss, and the best
            AUROC so far (0 before the first evaluation).
        is_cancelled: Asked after each step.

    Raises:
        Cancelled: where `is_cancelled` turned true.
        FailedPreconditionError: where training diverged before its first evaluation.
    """
    start = time.monotonic()
    split = split_holdout(
        examples, recipe.holdout_fraction, seed, by_choice=recipe.stopping_rule is StoppingRule.AUROC_AND_LOSS
    )
    schedule = Schedule.make(recipe, len(split.train), len(split.holdout))
    targets_nc = torch.tensor([example.probabilities for example in examples], dtype=torch.float32)
    targets_nc /= targets_nc.sum(dim=-1, keepdim=True)
    watch = _Watch(classifier, inputs, examples, split, recipe, schedule, device, batch_tokens, on_step, is_cancelled)
    with tempfile.TemporaryDirectory() as folder:
        trainer = _StageTrainer(classifier, inputs, targets_nc, split.train, recipe, schedule, seed, device, folder)
        trainer.add_callback(watch)
        watch.trainer = trainer
        trainer.train()
    classifier.eval()
    if watch.cancelled:
        raise Cancelled
    watch.restore_best()
    best = watch.stopping
    return StageOutcome(len(split.holdout), watch.n_steps, best.best_step, best.best_auroc, time.monotonic() - start)


class _BatchDataset(Dataset[Batch]):
    """Batches by the rows they hold: the sampler gives the rows, so that nothing is collated example by example."""

    def __init__(self, inputs: Inputs, targets_nc: torch.Tensor) -> None:
        self._inputs = inputs
        self._targets_nc = targets_nc

    def __getitem__(self, rows: list[int]) -> Batch:
        return self._inputs.batch(rows) | {"targets": self._targets_nc[rows]}

    def __len__(self) -> int:
        return len(self._targets_nc)


class _StageTrainer(transformers.Trainer):  # type: ignore[misc]
    """Hugging Face's Trainer, with our loss and batches, and with nothing that writes files or to the terminal."""

    def __init__(
        self,
        classifier: Classifier,
        inputs: Inputs,
        targets_nc: torch.Tensor,
        rows: Sequence[int],
        recipe: Recipe,
        schedule: Schedule,
        seed: int,
        device: torch.device,
        folder: str,
    ) -> None:
        arguments = transformers.TrainingArguments(
            output_dir=folder,
            max_steps=schedule.max_steps,
            per_device_train_batch_size=schedule.batch_size,
            max_grad_norm=recipe.max_grad_norm,
            seed=seed,
            use_cpu=device.type == "cpu",
            bf16=device.type == "cuda",
            report_to="none",
            save_strategy="no",
            eval_strategy="no",
            logging_strategy="no",
            logging_nan_inf_filter=False,
            log_level="error",
            disable_tqdm=True,
            dataloader_num_workers=0,
            dataloader_pin_memory=False,
            remove_unused_columns=False,
        )
        if arguments.n_gpu > 1:
            # One device a run; the Trainer would otherwise spread a batch over all it sees.
            arguments._n_gpu = 1
        optimizer = _optimizer(classifier, recipe)
        scheduler = transformers.get_cosine_schedule_with_warmup(optimizer, schedule.warmup_steps, schedule.max_steps)
        super().__init__(model=classifier, args=arguments, optimizers=(optimizer, scheduler))
        self.remove_callback(transformers.PrinterCallback)
        # Called before training: collecting the garbage of the whole process takes longer than many a stage.
        self.accelerator.free_memory = lambda *objects: objects
        self._loader: DataLoader[Batch] = DataLoader(
            _BatchDataset(inputs, targets_nc), sampler=_Order(schedule, rows, inputs.lengths_n, seed), batch_size=None
        )
        self.last_loss = torch.tensor(math.nan)

    def get_train_dataloader(self) -> DataLoader[Batch]:
        """All batches of the stage as one pass: an epoch of few labels is too short to be worth an iterator."""
        return self._loader

    def compute_loss(
        self,
        model: Any,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,  # noqa: ARG002 - the Trainer's signature
    ) -> Any:
        """Soft cross-entropy; see `soft_cross_entropy`."""
        targets_bc = inputs.pop("targets")
        logits_bc = model(inputs)
        loss = soft_cross_entropy(logits_bc, targets_bc)
        self.last_loss = loss.detach()
        return (loss, logits_bc) if return_outputs else loss


class _Order(torch.utils.data.Sampler[list[int]]):
    """The rows of each batch, in sequence."""

    def __init__(self, schedule: Schedule, rows: Sequence[int], lengths_n: npt.NDArray[np.int64], seed: int) -> None:
        self._schedule = schedule
        self._rows = rows
        self._lengths_n = lengths_n
        self._seed = seed

    def __iter__(self) -> Iterator[list[int]]:
        return self._schedule.batches(self._rows, self._lengths_n, self._seed)

    def __len__(self) -> int:
        return self._schedule.max_steps


class _Watch(transformers.TrainerCallback):  # type: ignore[misc]
    """Evaluates, keeps the best weights, reports, and stops the Trainer."""

    def __init__(
        self,
        classifier: Classifier,
        inputs: Inputs,
        examples: Sequence[Example],
        split: Split,
        recipe: Recipe,
        schedule: Schedule,
        device: torch.device,
        batch_tokens: int,
        on_step: Callable[[int, int, Callable[[], float], float], None],
        is_cancelled: Callable[[], bool],
    ) -> None:
        self._classifier = classifier
        self._schedule = schedule
        self._device = device
        self._batch_tokens = batch_tokens
        self._on_step = on_step
        self._is_cancelled = is_cancelled
        self._holdout = _Rows(inputs, split.holdout)
        self._choices_n = np.array([examples[row].choice for row in split.holdout], dtype=np.int64)
        self._targets_nc = np.array([examples[row].probabilities for row in split.holdout], dtype=np.float64)
        self._best_state: dict[str, torch.Tensor] | None = None
        self._has_evaluated = False
        self.stopping = EarlyStopping(recipe.patience, recipe.min_improvement, recipe.stopping_rule)
        self.trainer: _StageTrainer | None = None
        self.cancelled = False
        self.n_steps = 0

    def on_step_end(
        self,
        args: transformers.TrainingArguments,  # noqa: ARG002 - the Trainer's signature
        state: transformers.TrainerState,
        control: transformers.TrainerControl,
        **_: Any,
    ) -> transformers.TrainerControl:
        """After each optimizer step."""
        assert self.trainer is not None
        self.n_steps = state.global_step
        if self._is_cancelled():
            self.cancelled = True
            control.should_training_stop = True
            return control
        if self.n_steps % self._schedule.eval_steps == 0 or self.n_steps == self._schedule.max_steps:
            control.should_training_stop |= self._evaluate()
        best_auroc = self.stopping.best_auroc if self._has_evaluated else 0.0
        self._on_step(self.n_steps, self._schedule.max_steps, self.trainer.last_loss.item, best_auroc)
        return control

    def _evaluate(self) -> bool:
        """Measures the held-out labels; returns whether to stop."""
        if not len(self._choices_n):
            self._check_finite(np.array([self.trainer.last_loss.item()]) if self.trainer else np.zeros(1))
            self.stopping.best_step = self.n_steps
            return False
        probabilities_nc = predict(
            self._classifier, self._holdout, device=self._device, batch_tokens=self._batch_tokens
        )
        if not self._check_finite(probabilities_nc):
            return True
        loss = -float((self._targets_nc * np.log(np.clip(probabilities_nc, 1e-12, None))).sum(axis=-1).mean())
        accuracy = float((probabilities_nc.argmax(axis=-1) == self._choices_n).mean())
        if self.stopping.update(self.n_steps, auroc(self._choices_n, probabilities_nc), loss, accuracy):
            self._best_state = self._classifier.trainable_state()
        self._has_evaluated = True
        return self.stopping.should_stop

    def _check_finite(self, values: npt.NDArray[np.float64]) -> bool:
        """Whether all are finite; where they are not and nothing good was kept before, the stage has failed."""
        finite = bool(np.isfinite(values).all())
        if not finite and self._best_state is None:
            raise FailedPreconditionError(
                f"training diverged within {self.n_steps} steps; lower the learning rate", field="recipe.learning_rate"
            )
        return finite

    def restore_best(self) -> None:
        """Puts the best weights back; without held-out labels the last ones stay."""
        if self._best_state is not None:
            self._classifier.load_trainable_state(self._best_state)


class _Rows:
    """Some rows of other inputs."""

    def __init__(self, inputs: Inputs, rows: Sequence[int]) -> None:
        self._inputs = inputs
        self._rows = np.asarray(rows, dtype=np.int64)

    @property
    def lengths_n(self) -> npt.NDArray[np.int64]:
        """Lengths of the rows."""
        lengths_n: npt.NDArray[np.int64] = self._inputs.lengths_n[self._rows]
        return lengths_n

    def batch(self, rows: Sequence[int]) -> Batch:
        """Tensors of some of the rows."""
        return self._inputs.batch(self._rows[list(rows)].tolist())


def _optimizer(classifier: Classifier, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW over the trainable weights; matrices decay, biases and norms do not."""
    trainable = [parameter for parameter in classifier.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trainable if parameter.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [parameter for parameter in trainable if parameter.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=recipe.learning_rate,
        betas=(_ADAM_BETA1, recipe.adam_beta2),
        # One kernel for all weights: with many small matrices the loop over them costs more than the step.
        fused=True,
    )
