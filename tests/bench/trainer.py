"""The trainer's speed as ratios, into bench/trainer.json: `python -m tests.bench.trainer`.

One grid of sequential runs on the testbed (2 weak counts x 4 human counts, one seed, each prompt preceded by a few-shot
block) is trained three times in one run of this program, with as many steps and samples in every stage:

- *reference*: as the paper's recipe does it. Hugging Face's Trainer, one example at a time with gradients accumulated
  over a batch, prompts padded to the longest of all, stage 1 trained anew for every point, the block computed for every
  example.
- *tuned*: a plain Hugging Face Trainer with whole batches, padded to the longest of the batch; nothing else shared.
- *isocost*: a sweep on the trainer service, with one worker process for each core.

speedup is the reference's wall time over isocost's, speedup_tuned the tuned one's. Starting processes and importing
torch counts for none; loading the model, evaluating 1,000 test claims and writing results counts for all. Stages have a
fixed length, so that all three see the same number of samples.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers

from isocost.client.trainer import TrainerClient
from isocost.core.grpc_server import ServiceHost
from isocost.embedded.testbed import TASK
from isocost.microworld.claims import TASK_CHOICES, pool_frame, test_frame
from isocost.resources.label import one_hot
from isocost.resources.method import Method, Recipe, Stage, StoppingRule
from isocost.resources.run import EvaluationSet, Example, RunSpec, RunState
from isocost.resources.task import LabelKind
from isocost.tasks.model_path import resolve_model
from isocost.trainer.models.classifier import Classifier, build_classifier, load_tokenizer, pad_token_id
from isocost.trainer.models.inputs import Prompts, TokenInputs
from isocost.trainer.service import TrainerService
from isocost.trainer.settings import TrainerSettings
from isocost.trainer.stages.early_stopping import EarlyStopping
from isocost.trainer.stages.holdout import split_holdout
from isocost.trainer.stages.loss import soft_cross_entropy
from isocost.trainer.stages.schedule import BatchOrder, Schedule

_REPORT = Path("bench/trainer.json")
_LIMITS = {"speedup": 10.0, "speedup_tuned": 2.0}
#: Four fifths of each, which are trained on, are a multiple of the batch: so all three take the same steps.
_N_WEAK = (160, 320)
_N_HUMAN = (40, 80, 160, 320)
_N_TEST = 1_000
#: Of the draw of items; that of the testbed's first published seed.
_SEED = 1_000
_EVAL_BATCH = 32


@dataclass(frozen=True)
class Grid:
    """What all three train."""

    method: Method
    weak: list[Example]
    human: list[Example]
    test: list[Example]

    @classmethod
    def make(cls, few_shot_count: int, max_examples: int) -> Grid:
        """The testbed's claims; weak labels are gold ones of which a quarter, drawn at random, is turned round."""
        # No early stopping: as many samples for all three.
        recipe = Recipe(
            learning_rate=2e-3, max_examples=max_examples, stopping_rule=StoppingRule.AUROC, patience=max_examples
        )
        method = Method(
            "sequential_sft",
            (Stage(LabelKind.WEAK, recipe), Stage(LabelKind.HUMAN, recipe)),
            few_shot_count=few_shot_count,
            few_shot_kind=LabelKind.HUMAN,
        )
        pool = _examples(pool_frame(max(_N_WEAK) + max(_N_HUMAN), seed=_SEED).iter_rows(named=True))
        rng = np.random.default_rng(_SEED)
        weak = [
            Example(example.item_id, example.fields, one_hot(example.choice ^ int(rng.random() < 0.25), 2))
            for example in pool[: max(_N_WEAK)]
        ]
        return cls(method, weak, pool[max(_N_WEAK) :], _examples(test_frame(_N_TEST, seed=0).iter_rows(named=True)))

    @property
    def mixes(self) -> list[tuple[int, int]]:
        """(n_weak, n_human) of each point."""
        return [(n_weak, n_human) for n_weak in _N_WEAK for n_human in _N_HUMAN]


def _examples(rows: Any) -> list[Example]:
    return [
        Example(row["id"], {name: row[name] for name in TASK.fields}, one_hot(TASK_CHOICES.index(row["label"]), 2))
        for row in rows
    ]


@dataclass(frozen=True)
class Result:
    """Wall-clock seconds of the grid, and for each point its accuracy and the samples of its stages."""

    seconds: float
    accuracies: list[float]
    n_examples: list[list[int]]


class _Plain(transformers.Trainer):  # type: ignore[misc]
    """Hugging Face's Trainer on a list of padded prompts, in a given order."""

    def __init__(self, *, rows: list[int], **arguments: Any) -> None:
        super().__init__(**arguments)
        self._rows = rows

    def _get_train_sampler(self, *_: Any) -> Any:
        return self._rows

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
        targets = inputs.pop("targets")
        logits = model(inputs)
        loss = soft_cross_entropy(logits, targets)
        return (loss, logits) if return_outputs else loss


class _Evaluate(transformers.TrainerCallback):  # type: ignore[misc]
    """AUROC on the held-out labels as often as the recipe says; keeps the best weights."""

    def __init__(
        self, classifier: Classifier, prompts: _Padded, split: Any, examples: list[Example], every: int
    ) -> None:
        self._classifier, self._prompts, self._split, self._every = classifier, prompts, split, every
        self._choices = np.array([examples[row].choice for row in split.holdout])
        self._stopping = EarlyStopping(10**9, 0.01, StoppingRule.AUROC)
        self.best: dict[str, torch.Tensor] | None = None

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """After each optimizer step."""
        if state.global_step % self._every == 0 or state.global_step == args.max_steps:
            from isocost.economics.roc import area_interval

            probabilities = _predict(self._classifier, self._prompts, list(self._split.holdout))
            area = area_interval(self._choices, probabilities)
            loss = -float(np.log(probabilities[range(len(self._choices)), self._choices]).mean())
            accuracy = float((probabilities.argmax(axis=1) == self._choices).mean())
            if self._stopping.update(state.global_step, area[0] if area else None, loss, accuracy):
                self.best = self._classifier.trainable_state()
        return control


class _Padded(torch.utils.data.Dataset[Any]):
    """Whole prompts of a run's examples; padded to the longest of all, or of each batch."""

    def __init__(
        self, tokens: list[list[int]], targets: list[tuple[float, ...]], pad_id: int, *, to_longest: bool
    ) -> None:
        self._inputs = TokenInputs(tokens, pad_id, pad_left=True)
        self._targets = torch.tensor(targets, dtype=torch.float32)
        self._longest = int(self._inputs.lengths_n.max()) if to_longest else 0
        self._pad_id = pad_id

    def __len__(self) -> int:
        return len(self._targets)

    def __getitem__(self, row: int) -> int:
        return row

    def collate(self, rows: list[int]) -> dict[str, torch.Tensor]:
        """The tensors of some rows."""
        batch = self._inputs.batch(rows)
        ids, mask = batch["input_ids"], batch.get("attention_mask")
        gap = self._longest - ids.shape[1]
        if gap > 0:
            mask = torch.ones_like(ids) if mask is None else mask
            batch["input_ids"] = torch.nn.functional.pad(ids, (gap, 0), value=self._pad_id)
            batch["attention_mask"] = torch.nn.functional.pad(mask, (gap, 0), value=0)
        return batch | {"targets": self._targets[rows]}


@torch.inference_mode()
def _predict(classifier: Classifier, prompts: _Padded, rows: list[int]) -> npt.NDArray[np.float64]:
    was_training = classifier.training
    classifier.eval()
    parts = []
    for start in range(0, len(rows), _EVAL_BATCH):
        batch = prompts.collate(rows[start : start + _EVAL_BATCH])
        batch.pop("targets")
        parts.append(torch.softmax(classifier(batch).double(), dim=-1).numpy())
    classifier.train(was_training)
    return np.concatenate(parts)


def run_plain(grid: Grid, *, micro_batch: int) -> Result:
    """The grid with a plain Trainer, point by point; with a micro-batch of 1 as the reference recipe does it."""
    folder = Path(resolve_model("microworld:strong"))
    tokenizer = load_tokenizer(folder)
    pad_id = pad_token_id(tokenizer)
    few_shot = grid.human[: grid.method.few_shot_count]
    accuracies, n_examples = [], []
    start = time.perf_counter()
    for n_weak, n_human in grid.mixes:
        classifier = build_classifier(folder, tokenizer, TASK, grid.method, seed=0, device=torch.device("cpu"))
        prompts = Prompts(tokenizer, TASK, few_shot, max_tokens=384)

        def padded(examples: list[Example], prompts: Prompts = prompts) -> _Padded:
            targets = [example.probabilities for example in examples]
            return _Padded(prompts.encode(examples), targets, pad_id, to_longest=micro_batch == 1)

        seen = []
        for index, (stage, examples) in enumerate(
            zip(grid.method.stages, (grid.weak[:n_weak], grid.human[:n_human]), strict=True)
        ):
            seen.append(
                _train_plain(classifier, padded(examples), examples, stage.recipe, _stage_seed(index), micro_batch)
            )
        probabilities = _predict(classifier, padded(grid.test), list(range(len(grid.test))))
        gold = np.array([example.choice for example in grid.test])
        accuracies.append(float((probabilities.argmax(axis=1) == gold).mean()))
        n_examples.append(seen)
    return Result(time.perf_counter() - start, accuracies, n_examples)


def _stage_seed(index: int) -> int:
    from isocost.core.ids import content_digest

    return int(content_digest([0, index])[:8], 16)


def _train_plain(
    classifier: Classifier, prompts: _Padded, examples: list[Example], recipe: Recipe, seed: int, micro_batch: int
) -> int:
    """One stage; returns the samples seen."""
    split = split_holdout(examples, recipe.holdout_fraction, seed, by_choice=False)
    schedule = Schedule.make(recipe, len(split.train), len(split.holdout))
    lengths = np.ones(len(examples), dtype=np.int64)
    batches = list(BatchOrder(schedule, split.train, lengths, seed, 0))
    rows = [row for batch in batches for row in batch]
    size = schedule.batch_size
    assert all(len(batch) == size for batch in batches)
    with tempfile.TemporaryDirectory() as out:
        arguments = transformers.TrainingArguments(
            output_dir=out,
            max_steps=math.ceil(len(rows) / size),
            per_device_train_batch_size=min(micro_batch, size),
            gradient_accumulation_steps=max(1, size // min(micro_batch, size)),
            seed=seed,
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            log_level="error",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            remove_unused_columns=False,
        )
        trainable = [parameter for parameter in classifier.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(
            trainable, lr=recipe.learning_rate, betas=(0.9, recipe.adam_beta2), weight_decay=recipe.weight_decay
        )
        scheduler = transformers.get_cosine_schedule_with_warmup(optimizer, schedule.warmup_steps, arguments.max_steps)
        trainer = _Plain(
            model=classifier, args=arguments, train_dataset=prompts, data_collator=prompts.collate,
            optimizers=(optimizer, scheduler), rows=rows,
        )  # fmt: skip
        trainer.remove_callback(transformers.PrinterCallback)
        watch = _Evaluate(classifier, prompts, split, examples, schedule.eval_steps)
        trainer.add_callback(watch)
        trainer.train()
    if watch.best is not None:
        classifier.load_trainable_state(watch.best)
    return len(rows)


async def run_isocost(grid: Grid, state_dir: Path, n_workers: int) -> Result:
    """The grid as a sweep on the service."""
    settings = TrainerSettings(state_dir=state_dir, n_workers=n_workers, n_threads=1, device="cpu")
    async with (
        ServiceHost(TrainerService(settings), "127.0.0.1:0") as host,
        TrainerClient(host.address) as trainer,
    ):
        evaluation = EvaluationSet("test", await trainer.put_examples(grid.test))
        weak, human = await trainer.put_examples(grid.weak), await trainer.put_examples(grid.human)

        def spec(n_weak: int, n_human: int, method: Method, seed: int = 0) -> RunSpec:
            return RunSpec(
                TASK, method, "microworld:strong", weak_digest=weak, n_weak=n_weak, human_digest=human,
                n_human=n_human, seed=seed, evaluation_sets=(evaluation,),
            )  # fmt: skip

        # Workers start and import torch before the clock does: as many runs as there are workers, of another seed.
        short = Method("short", (Stage(LabelKind.WEAK, Recipe(learning_rate=1e-3, max_examples=32)),))
        async for news in trainer.sweep([spec(8, 0, short, seed) for seed in range(1, n_workers + 1)]):
            assert news.n_failed == 0
        specs = [spec(n_weak, n_human, grid.method) for n_weak, n_human in grid.mixes]
        done: dict[tuple[int, int], Any] = {}
        start = time.perf_counter()
        async for news in trainer.sweep(specs):
            if news.run is not None:
                if news.run.state is not RunState.SUCCEEDED:
                    raise RuntimeError(news.run.error)
                done[news.run.spec.n_weak, news.run.spec.n_human] = news.run
        seconds = time.perf_counter() - start
    runs = [done[mix] for mix in grid.mixes]
    return Result(
        seconds,
        [run.evaluations[0].accuracy for run in runs],
        [[stage.n_examples for stage in run.stages] for run in runs],
    )


def measure(grid: Grid, n_workers: int) -> dict[str, Any]:
    """All three, one after the other."""
    results: dict[str, Result] = {}
    for name, micro_batch in (("tuned", 10**6), ("reference", 1)):
        print(f"{name} ...", file=sys.stderr, flush=True)
        results[name] = run_plain(grid, micro_batch=micro_batch)
    for name, workers in (("isocost", n_workers), ("one_worker", 1)):
        print(f"{name} ...", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as state_dir:
            results[name] = asyncio.run(run_isocost(grid, Path(state_dir), workers))
    ours = results["isocost"]
    differences = [a - b for a, b in zip(ours.accuracies, results["reference"].accuracies, strict=True)]
    if any(result.n_examples != ours.n_examples for result in results.values()):
        print("the samples seen are not the same", file=sys.stderr)
    return {
        "grid": {"n_weak": _N_WEAK, "n_human": _N_HUMAN, "seed": _SEED, "few_shot_count": grid.method.few_shot_count},
        "max_examples": grid.method.stages[0].recipe.max_examples,
        "n_workers": n_workers,
        "n_threads": torch.get_num_threads(),
        "n_cores": os.cpu_count(),
        "speedup": round(results["reference"].seconds / ours.seconds, 3),
        "speedup_tuned": round(results["tuned"].seconds / ours.seconds, 3),
        "speedup_one_worker": round(results["reference"].seconds / results["one_worker"].seconds, 3),
        "speedup_tuned_one_worker": round(results["tuned"].seconds / results["one_worker"].seconds, 3),
        "accuracy_difference": round(statistics.fmean(differences), 5),
        "standard_error": round(statistics.stdev(differences) / math.sqrt(len(differences)), 5),
        "seconds": {name: round(result.seconds, 2) for name, result in results.items()},
        "accuracies": {name: result.accuracies for name, result in results.items()},
        "n_examples": {name: result.n_examples for name, result in results.items()},
    }


def main() -> None:
    """Measures and writes the report; exits with 1 where a ratio is beyond its limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--few-shot", type=int, default=8, help="examples in the block [8]")
    parser.add_argument("--max-examples", type=int, default=1_600, help="samples of a stage [1600]")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="worker processes [cores]")
    arguments = parser.parse_args()
    report = measure(Grid.make(arguments.few_shot, arguments.max_examples), arguments.workers)
    _REPORT.parent.mkdir(exist_ok=True)
    _REPORT.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2))
    met = [report[name] >= limit for name, limit in _LIMITS.items()]
    met.append(abs(report["accuracy_difference"]) <= 2 * report["standard_error"] or not report["accuracy_difference"])
    for name, limit in _LIMITS.items():
        print(f"{name} {report[name]} (at least {limit})")
    print(f"accuracy_difference {report['accuracy_difference']} (at most 2 x {report['standard_error']})")
    sys.exit(not all(met))


if __name__ == "__main__":
    main()
