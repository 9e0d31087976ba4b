"""One stage: a classifier is fine-tuned on one list of labels, stopped early, and left with its best weights.

Legend of the shape suffixes: n examples, b examples of a batch, c choices.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch.utils.data import DataLoader, Dataset

from isocost.resources.method import Recipe, StoppingRule
from isocost.resources.run import Example
from isocost.trainer.models.classifier import Classifier
from isocost.trainer.models.inputs import Batch, Inputs, by_prefix
from isocost.trainer.models.memory import halves, is_out_of_memory
from isocost.trainer.models.prediction import Cancelled, on_device
from isocost.trainer.stages.checkpoint import StageCheckpoint
from isocost.trainer.stages.holdout import split_holdout
from isocost.trainer.stages.loss import stage_loss
from isocost.trainer.stages.schedule import BatchOrder, Schedule
from isocost.trainer.stages.watch import Watch

__all__ = ["StageOutcome", "train_stage"]

#: Adam's first moment; the paper's recipe changes only the second.
_ADAM_BETA1 = 0.9


@dataclass(frozen=True, slots=True)
class StageOutcome:
    """What a stage did.

    best_auroc is 0.5 where the held-out labels allow none; seconds is wall-clock time; n_examples and n_tokens (of
    whole prompts, without padding) count what was trained on with repetition.
    """

    n_holdout: int
    n_steps: int
    best_step: int
    best_auroc: float
    seconds: float
    n_examples: int = 0
    n_tokens: int = 0


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
    checkpoint: StageCheckpoint | None = None,
) -> StageOutcome:
    """Trains a classifier in place, with a fresh optimizer, and leaves it with its best weights.

    Where the device runs out of memory, the batch is computed in halves, quarters and so on from then on; its gradient
    stays what it was.

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
        checkpoint: Where the stage's state is kept between steps. If there is one, the stage goes on from it, with the
            same result as if it had never stopped (bit for bit on the CPU).

    Raises:
        Cancelled: where `is_cancelled` turned true.
        FailedPreconditionError: where training diverged before its first evaluation, or a single example is more than
            the memory holds.
    """
    start = time.monotonic()
    split = split_holdout(
        examples, recipe.holdout_fraction, seed, by_choice=recipe.stopping_rule is StoppingRule.AUROC_AND_LOSS
    )
    schedule = Schedule.make(recipe, len(split.train), len(split.holdout))
    targets_nc = torch.tensor([example.probabilities for example in examples], dtype=torch.float32)
    targets_nc /= targets_nc.sum(dim=-1, keepdim=True)
    watch = Watch(
        classifier, inputs, examples, split.holdout, recipe, schedule, device, batch_tokens, on_step, is_cancelled,
        checkpoint,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        trainer = _StageTrainer(classifier, inputs, targets_nc, recipe, schedule, seed, device, folder)
        watch.begin(trainer, trainer.stage_optimizer, trainer.stage_scheduler)
        trainer.go_on_from(watch.n_steps, split.train)
        trainer.add_callback(watch)
        if watch.n_steps < schedule.max_steps and not watch.has_ended:
            trainer.train()
    classifier.eval()
    if watch.cancelled:
        raise Cancelled
    watch.restore_best()
    best = watch.stopping
    return StageOutcome(
        n_holdout=len(split.holdout),
        n_steps=watch.n_steps,
        best_step=best.best_step,
        best_auroc=best.best_auroc,
        seconds=watch.seconds_before + time.monotonic() - start,
        n_examples=watch.n_examples,
        n_tokens=watch.n_tokens,
    )


class _BatchRows(Dataset[Batch]):
    """Batches as the rows they hold: their tensors are made where they are computed, in parts if need be."""

    def __init__(self, n_examples: int) -> None:
        self._n_examples = n_examples

    def __getitem__(self, rows: list[int]) -> Batch:
        return {"rows": torch.tensor(rows)}

    def __len__(self) -> int:
        return self._n_examples


class _StageTrainer(transformers.Trainer):  # type: ignore[misc]
    """Hugging Face's Trainer, with our loss and batches, and with nothing that writes files or to the terminal."""

    def __init__(
        self,
        classifier: Classifier,
        inputs: Inputs,
        targets_nc: torch.Tensor,
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
        self.stage_optimizer = _optimizer(classifier, recipe)
        self.stage_scheduler = transformers.get_cosine_schedule_with_warmup(
            self.stage_optimizer, schedule.warmup_steps, schedule.max_steps
        )
        super().__init__(model=classifier, args=arguments, optimizers=(self.stage_optimizer, self.stage_scheduler))
        self.remove_callback(transformers.PrinterCallback)
        # Called before training: collecting the garbage of the whole process takes longer than many a stage.
        self.accelerator.free_memory = lambda *objects: objects
        self._classifier = classifier
        self._inputs = inputs
        self._targets_nc = targets_nc.to(device)
        self._recipe = recipe
        self._schedule = schedule
        self._seed = seed
        self._device = device
        self._loader: DataLoader[Batch] | None = None
        self._first_step = 0
        #: Examples computed at once; halved where they are more than the memory holds.
        self.micro_batch_size = schedule.batch_size
        self.last_loss = torch.tensor(math.nan)
        #: Rows of the latest batch.
        self.last_rows: list[int] = []

    def go_on_from(self, step: int, rows: Sequence[int]) -> None:
        """Takes the batches of the given rows from a step on, and so many steps fewer."""
        self._first_step = step
        self.args.max_steps = self._schedule.max_steps - step
        order = BatchOrder(self._schedule, rows, self._inputs.lengths_n, self._seed, step)
        self._loader = DataLoader(_BatchRows(len(self._targets_nc)), sampler=order, batch_size=None)

    def get_train_dataloader(self) -> DataLoader[Batch]:
        """All batches of the stage as one pass: an epoch of few labels is too short to be worth an iterator."""
        assert self._loader is not None
        return self._loader

    def training_step(
        self,
        model: Any,
        inputs: Batch,
        num_items_in_batch: torch.Tensor | int | None = None,  # noqa: ARG002 - the Trainer's signature
    ) -> torch.Tensor:
        """Adds a batch's gradient; returns its loss."""
        model.train()
        rows = inputs["rows"].tolist()
        self.last_rows = rows
        step = self._first_step + self.state.global_step
        size = min(self.micro_batch_size, len(rows))
        while (loss := self._backward(rows, size, step)) is None:
            self._classifier.zero_grad(set_to_none=True)
            size = len(halves(rows[:size])[0])
            self.micro_batch_size = size
        self.last_loss = loss
        return loss

    def _backward(self, rows: list[int], size: int, step: int) -> torch.Tensor | None:
        """Computes `size` examples at a time; None where they are more than the memory holds."""
        total = torch.zeros((), device=self._device)
        try:
            for start in range(0, len(rows), size):
                part = rows[start : start + size]
                with self.compute_loss_context_manager():
                    loss = self._loss(part, step) * (len(part) / len(rows))
                self.accelerator.backward(loss)
                total += loss.detach()
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return None
        return total

    def _loss(self, rows: list[int], step: int) -> torch.Tensor:
        order: list[int] = []
        logits = []
        for part in by_prefix(self._inputs, rows):
            prefix = None
            if self._inputs.prefix_ids is not None and self._inputs.shares_prefix(part[0]):
                prefix = self._classifier.prefix_states(self._inputs.prefix_ids.to(self._device))
                assert prefix is not None, "inputs with a shared beginning for a classifier that cannot share it"
            logits.append(self._classifier(on_device(self._inputs.batch(part), self._device), prefix))
            order += part
        return stage_loss(torch.cat(logits), self._targets_nc[order], self._recipe, step)


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
