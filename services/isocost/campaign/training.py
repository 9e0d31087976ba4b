"""Training on what has been bought: one run for each mix and seed, each once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from isocost.campaign.config import CampaignConfig
from isocost.campaign.powered import UNLABELLED_SET, powered_evaluation, unlabelled_examples
from isocost.client.budget import BudgetClient
from isocost.client.trainer import TrainerClient
from isocost.core.errors import FailedPreconditionError
from isocost.core.progress import Bar, Progress
from isocost.economics.calibration import Calibration
from isocost.resources.label import LabelledItem, Purpose
from isocost.resources.method import Method
from isocost.resources.observation import Observation
from isocost.resources.run import EvaluationSet, Example, Prediction, Run, RunSpec, RunState
from isocost.resources.task import Item

__all__ = ["EVALUATION_SET", "TEST_SET", "Training", "finish_run", "majority_source"]

EVALUATION_SET = "evaluation"
TEST_SET = "test"
_FREE_SET = "free"
_ANSWERED_SET = "answered"
_TRAINED_ON = (Purpose.PILOT, Purpose.TRAINING)


@dataclass(frozen=True, slots=True)
class _Data:
    """What runs train and are measured on, as the trainer names it; and the source of each human label."""

    weak_digest: str
    human_digest: str
    evaluation_sets: tuple[EvaluationSet, ...]
    human_source_ids: tuple[str, ...] = ()


def _example(labelled: LabelledItem, calibration: Calibration | None = None) -> Example:
    probabilities = labelled.label.probabilities
    if calibration is not None:
        probabilities = calibration.apply(probabilities)
    return Example(labelled.item.item_id, labelled.item.fields, probabilities)


class Training:
    """The runs of one campaign.

    A mix and seed that is observed already is not run again; the trainer, for its part, trains no stage twice. The
    human stage trains on the labels of all grades, in the sequence in which they were bought; an observation names the
    grade that most of its labels are from.

    Args:
        config: The campaign file.
        budget, trainer: Clients of the services.
        progress: Where to report to.
        test_examples: The benchmark; may be empty.
        items: The campaign's pool.
        weak_source_id: The weak source whose labels are trained on.
        calibration: How its probabilities are corrected on their way to the trainer; the ledger keeps them as they are.
    """

    def __init__(
        self,
        config: CampaignConfig,
        budget: BudgetClient,
        trainer: TrainerClient,
        progress: Progress,
        test_examples: Sequence[Example],
        items: Sequence[Item],
        *,
        weak_source_id: str,
        calibration: Calibration,
    ) -> None:
        self._config = config
        self._budget = budget
        self._trainer = trainer
        self._progress = progress
        self._test_examples = test_examples
        self._items = items
        self._test_digest = ""
        self._weak_source_id = weak_source_id
        self._calibration = calibration

    async def n_labels(self) -> tuple[int, int]:
        """Weak and human labels bought so far to train on."""
        return len(await self._labels(self._weak_source_id)), len(await self.human_labels())

    async def human_labels(self) -> list[LabelledItem]:
        """The human labels that are trained on, of all grades, in sequence: the reference's pilot first."""
        labels = [labelled for human in self._config.humans for labelled in await self._labels(human.name)]
        return sorted(labels, key=lambda labelled: labelled.label.sequence)

    async def _labels(self, source_id: str) -> list[LabelledItem]:
        """The labels of a source that are trained on, in sequence."""
        stream = self._budget.labels(self._config.campaign, source_id=source_id, purposes=_TRAINED_ON)
        return [labelled async for labelled in stream]

    async def observe(self, name: str, mixes: Sequence[tuple[int, int]]) -> None:
        """Trains and records every mix that is not observed yet.

        Raises:
            FailedPreconditionError: where a run failed; what was observed before stays.
        """
        method = self._config.method.method()
        observed = {
            (observation.method, observation.n_weak, observation.n_human, observation.seed)
            for observation in await self._budget.list_observations(self._config.campaign)
        }
        # Seeds outside: the first picture of all mixes is complete before any is repeated.
        missing = [
            (mix, seed)
            for seed in range(self._config.n_seeds)
            for mix in mixes
            if (method.name, *mix, seed) not in observed
        ]
        if not missing:
            return
        # Nothing is bought while these runs train: the lists are read and sent once for all of them.
        data = await self._data()
        with self._progress.bar(f"training runs: {name}", len(missing)) as bar:
            for (n_weak, n_human), seed in missing:
                run = await finish_run(self._trainer, self._spec(data, method, n_weak, n_human, seed), bar)
                await self._record(run, data)

    async def rerun(self, observation: Observation) -> Run:
        """The run behind an observation, with its output; trained again only where its files are gone."""
        method = self._config.method.method()
        spec = self._spec(await self._data(), method, observation.n_weak, observation.n_human, observation.seed)
        with self._progress.bar("final model", 1) as bar:
            return await finish_run(self._trainer, spec, bar)

    async def weak_only_predictions(
        self, name: str, free: Sequence[Example], answered: Sequence[Example]
    ) -> tuple[list[Prediction], list[Prediction]]:
        """What the model trained on all weak labels, and no human one, makes of items, in their sequence.

        Args:
            name: Of the purchase that the items are looked at for.
            free: Items that nobody has labelled; at least one.
            answered: Items with human labels; may be empty.
        """
        weak = await self._weak_examples()
        sets = [EvaluationSet(_FREE_SET, await self._trainer.put_examples(free))]
        if answered:
            sets.append(EvaluationSet(_ANSWERED_SET, await self._trainer.put_examples(answered)))
        data = _Data(await self._trainer.put_examples(weak), "", tuple(sets))
        spec = self._spec(data, self._weak_only_method, len(weak), 0, seed=0)
        with self._progress.bar(f"choosing items: {name}", 1) as bar:
            run = await finish_run(self._trainer, replace(spec, discard_output=True), bar)
        made = [[one async for one in self._trainer.predictions(run.run_id, part.name)] for part in sets]
        return made[0], made[1] if answered else []

    @property
    def _weak_only_method(self) -> Method:
        # Without examples to show: the human labels are to be answered, not read.
        return replace(self._config.method.method(), few_shot_count=0, few_shot_kind=None)

    async def _weak_examples(self) -> list[Example]:
        return [_example(labelled, self._calibration) for labelled in await self._labels(self._weak_source_id)]

    async def _data(self) -> _Data:
        """Sends the labels bought so far, and the sets to measure on, to the trainer."""
        weak = await self._weak_examples()
        human_labels = await self.human_labels()
        human = [_example(labelled) for labelled in human_labels]
        # The reference's only: other sources have labels of this purpose too, which they are measured by.
        stream = self._budget.labels(
            self._config.campaign, source_id=self._config.human.name, purposes=(Purpose.EVALUATION,)
        )
        evaluation = [_example(labelled) async for labelled in stream]
        sets = [EvaluationSet(EVALUATION_SET, await self._trainer.put_examples(evaluation))]
        if self._test_examples:
            if not self._test_digest:
                self._test_digest = await self._trainer.put_examples(self._test_examples)
            sets.append(EvaluationSet(TEST_SET, self._test_digest))
        if self._config.evaluation.n_unlabelled:
            labelled_ids = {example.item_id for example in (*weak, *human, *evaluation)}
            others = unlabelled_examples(
                self._items, labelled_ids, self._config.evaluation.n_unlabelled, len(self._config.task.choices)
            )
            if others:
                sets.append(EvaluationSet(UNLABELLED_SET, await self._trainer.put_examples(others)))
        return _Data(
            await self._trainer.put_examples(weak),
            await self._trainer.put_examples(human),
            tuple(sets),
            tuple(labelled.label.source_id for labelled in human_labels),
        )

    def _spec(self, data: _Data, method: Method, n_weak: int, n_human: int, seed: int) -> RunSpec:
        config = self._config
        return RunSpec(
            task=config.task.task(),
            method=method,
            base_model=config.strong_model,
            weak_digest=data.weak_digest if n_weak else "",
            n_weak=n_weak,
            human_digest=data.human_digest if n_human or method.few_shot_count else "",
            n_human=n_human,
            seed=config.seed + seed,
            evaluation_sets=data.evaluation_sets,
        )

    async def _record(self, run: Run, data: _Data) -> None:
        evaluation = run.evaluation(EVALUATION_SET)
        assert evaluation is not None
        if run.evaluation(UNLABELLED_SET) is not None:
            answered, others = [
                [prediction async for prediction in self._trainer.predictions(run.run_id, name)]
                for name in (EVALUATION_SET, UNLABELLED_SET)
            ]
            evaluation = powered_evaluation(evaluation, answered, others)
        spec = run.spec
        observation = Observation(
            run_id=run.run_id,
            method=spec.method.name,
            n_weak=spec.n_weak,
            n_human=spec.n_human,
            seed=spec.seed - self._config.seed,
            evaluation=evaluation,
            test=run.evaluation(TEST_SET),
            weak_source_id=self._weak_source_id if spec.n_weak else "",
            human_source_id=majority_source(data.human_source_ids, spec.n_human),
        )
        request_id = f"{self._config.campaign}:observation:{run.run_id}"
        await self._budget.record_observation(request_id, self._config.campaign, observation)


async def finish_run(trainer: TrainerClient, spec: RunSpec, bar: Bar) -> Run:
    """Lets the trainer do a run, or finds it done; advances the bar by 1 in all.

    Raises:
        FailedPreconditionError: where it did not succeed.
    """
    run = await trainer.create_run(spec)
    done = 0.0
    try:
        async for run in trainer.watch_run(run.run_id):  # noqa: B020 - the same run, further on
            share = _share_done(run)
            bar.advance(max(0.0, share - done), note=_describe(run))
            done = max(done, share)
    except asyncio.CancelledError:
        await asyncio.shield(trainer.cancel_run(run.run_id))
        raise
    if run.state is not RunState.SUCCEEDED:
        reason = run.error or run.state.name.lower()
        raise FailedPreconditionError(
            f"the run of {spec.method.name} on {spec.n_weak} weak and {spec.n_human} human labels "
            f"(seed {spec.seed}) did not succeed: {reason}. Nothing bought is lost"
        )
    bar.advance(max(0.0, 1.0 - done), note=_describe(run))
    return run


def majority_source(source_ids: Sequence[str], n_labels: int) -> str:
    """The source that most of the first labels are from; of equals, that of the later ones; "" for no label.

    Args:
        source_ids: Of each label, in sequence.
        n_labels: How many of them count.
    """
    counts = Counter(reversed(source_ids[:n_labels]))
    return max(counts, key=lambda source_id: counts[source_id], default="")


def _share_done(run: Run) -> float:
    """How much of a run is done, 0 to 1: finished stages, and the steps of the one being trained."""
    if run.state is RunState.SUCCEEDED:
        return 1.0
    n_stages = max(1, sum(1 for stage in run.spec.method.stages if run.spec.n_labels(stage.label_kind)))
    in_stage = run.progress.step / run.progress.max_steps if run.progress.max_steps else 0.0
    return min(0.99, (min(run.progress.stage_index, n_stages - 1) + in_stage) / n_stages)


def _describe(run: Run) -> str:
    mix = f"{run.spec.n_weak} weak + {run.spec.n_human} human"
    evaluation = run.evaluation(EVALUATION_SET)
    return f"{mix}: accuracy {evaluation.accuracy:.3f}" if evaluation else mix
