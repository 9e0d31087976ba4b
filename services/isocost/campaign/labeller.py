"""The weak labellers of a campaign: which model each is, and how it is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from isocost.campaign.config import CampaignConfig
from isocost.campaign.source import FineTuneConfig, ModelSource
from isocost.campaign.training import finish_run
from isocost.client.labeler import Runner
from isocost.client.trainer import TrainerClient
from isocost.core.progress import Progress
from isocost.resources.label import LabelledItem
from isocost.resources.method import Head, Method, Stage, Tuning
from isocost.resources.run import Example, RunSpec
from isocost.resources.task import Item, LabelKind, Task
from isocost.tasks.prompt import FewShotExample

__all__ = ["WeakLabeller", "labels_to_show", "make_labeller"]


@dataclass(frozen=True, slots=True)
class WeakLabeller:
    """The model that makes a source's labels, and how it is asked."""

    source_id: str
    task: Task
    model: str
    runner: Runner
    few_shot_examples: tuple[FewShotExample, ...] = field(default=())


def labels_to_show(
    pilot_labels: Sequence[LabelledItem], pilot_items: Sequence[Item], n_measured: int
) -> list[LabelledItem]:
    """The human labels that weak labellers may see: not those of the pilot's first items, which measure them.

    Args:
        pilot_labels: Human labels of the pilot, in sequence.
        pilot_items: Its items, in the order's sequence, which need not be that in which people answered.
        n_measured: Items that weak sources are measured on.
    """
    measured = {item.item_id for item in pilot_items[:n_measured]}
    return [labelled for labelled in pilot_labels if labelled.item.item_id not in measured]


async def make_labeller(
    section: ModelSource,
    config: CampaignConfig,
    human_labels: Sequence[LabelledItem],
    trainer: TrainerClient,
    progress: Progress,
) -> WeakLabeller:
    """A source's labeller as the campaign file describes it; fine-tuned first where it says so.

    Args:
        section: The source.
        config: The campaign file.
        human_labels: Those of the pilot that it may see. Of the pilot only: a labeller that changed with every purchase
            would change the labels' meaning. And not those that it is measured by.
        trainer: Makes the fine-tuned model; a repeat finds it.
        progress: Where to report to.

    Raises:
        FailedPreconditionError: where fine-tuning failed.
    """
    task = section.task(config.task.task())
    model = section.model
    if section.fine_tune is not None:
        spec = RunSpec(
            task=task,
            method=_method(section.fine_tune),
            base_model=section.model,
            human_digest=await trainer.put_examples(_example(labelled) for labelled in human_labels),
            n_human=len(human_labels),
            seed=config.seed,
        )
        with progress.bar(f"fine-tuning the weak labeller {section.name}", 1) as bar:
            model = (await finish_run(trainer, spec, bar)).output_path
    return WeakLabeller(
        section.name,
        task,
        model,
        section.runner,
        tuple(
            FewShotExample(labelled.item.fields, labelled.label.choice)
            for labelled in human_labels[: section.few_shot_count]
        ),
    )


def _method(fine_tune: FineTuneConfig) -> Method:
    return Method(
        name="weak_labeller",
        stages=(Stage(LabelKind.HUMAN, fine_tune.recipe),),
        head=Head.CLASSIFICATION,
        tuning=Tuning.FULL,
        n_layers=fine_tune.n_layers,
    )


def _example(labelled: LabelledItem) -> Example:
    return Example(labelled.item.item_id, labelled.item.fields, labelled.label.probabilities)
