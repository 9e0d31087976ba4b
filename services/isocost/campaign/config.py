"""The sections of a campaign file."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from isocost.campaign.section import Section
from isocost.campaign.source import HumanSource, ModelSource
from isocost.core.errors import InvalidArgumentError
from isocost.core.money import Money
from isocost.economics.mixes import STAGE_LABELS_MIN
from isocost.resources.method import Head, Method, Recipe, Stage, Tuning
from isocost.resources.task import LabelKind, Task

__all__ = ["MEASURED_MIN", "CampaignConfig", "DataConfig"]

#: Fewer measured items say nothing about a source.
MEASURED_MIN = 10


class TaskConfig(Section):
    """The question asked of each item."""

    name: str
    """A short name."""
    template: str
    """Text with {field} placeholders."""
    choices: tuple[str, ...]
    """Two or more answers."""

    def task(self) -> Task:
        """The domain object.

        Raises:
            InvalidArgumentError: names the field that is wrong.
        """
        return Task(self.name, self.template, self.choices)


class HubConfig(Section):
    """A dataset on the Hugging Face hub."""

    name: str
    """For example "fancyzhx/ag_news"."""
    config: str | None = None
    """Name of its configuration, where it has several."""
    split: str = "train"
    """The split that is read."""


class DataConfig(Section):
    """Where items come from: exactly one of path and hub."""

    path: str | None = None
    """A .csv, .jsonl or .parquet file, relative to the campaign file, or "microworld" for the carried testbed."""
    hub: HubConfig | None = None
    """A dataset on the hub."""
    id_column: str | None = None
    """Column of the items' ids; where not set, ids are made from the items' content."""
    gold_column: str | None = None
    """Column of known answers: what a simulated annotator reads, and what a test set is measured against."""
    gold_values: dict[str, str] | None = None
    """Choice by gold value; where not set, text must equal a choice, whole numbers and booleans are ranked."""
    fields: Annotated[dict[str, str | list[str]], Field(default_factory=dict)]
    """By field of the template, a pattern over columns, or several of which the first that fits is used."""
    n_items_max: Annotated[int, Field(gt=0)] | None = None
    """Keep only so many rows, from the top."""

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.path is None) == (self.hub is None):
            raise ValueError("give exactly one of 'path' and 'hub'")
        return self


class MethodConfig(Section):
    """How the strong model is trained: weak labels first, then human labels."""

    name: str = "sequential_sft"
    """Names the method in observations."""
    head: Literal["language_model", "classification"] = "language_model"
    """What the classifier reads its answer from."""
    tuning: Literal["lora", "full", "head_only"] = "lora"
    """Which weights change."""
    lora_rank: Annotated[int, Field(ge=1)] = 8
    """Rank of the adapters."""
    lora_alpha: Annotated[float, Field(gt=0)] = 16.0
    """Their scale is lora_alpha / lora_rank."""
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout probability inside the adapters."""
    few_shot_count: Annotated[int, Field(ge=0)] = 0
    """Human labels shown before each text."""
    weak_recipe: Recipe = Recipe()
    """How the stage on weak labels is trained."""
    human_recipe: Recipe = Recipe()
    """How the stage on human labels is trained."""

    def method(self) -> Method:
        """The domain object.

        Raises:
            InvalidArgumentError: names the field that is wrong.
        """
        return Method(
            name=self.name,
            stages=(Stage(LabelKind.WEAK, self.weak_recipe), Stage(LabelKind.HUMAN, self.human_recipe)),
            head=Head[self.head.upper()],
            tuning=Tuning[self.tuning.upper()],
            few_shot_count=self.few_shot_count,
            few_shot_kind=LabelKind.HUMAN if self.few_shot_count else None,
            lora_rank=self.lora_rank,
            lora_alpha=self.lora_alpha,
            lora_dropout=self.lora_dropout,
        )


class EvaluationConfig(Section):
    """Human labels bought to measure accuracy with; never trained on."""

    n_labels: Annotated[int, Field(ge=10)]
    """How many; at least 10, since fewer measure nothing."""
    n_unlabelled: Annotated[int, Field(ge=0, le=100_000)] = 0
    """Items without label whose predictions tighten the accuracy's interval (prediction-powered inference); needs
    compute, no money. 0 uses none."""


class PilotConfig(Section):
    """The first purchase, made before any plan."""

    n_weak: Annotated[int, Field(ge=4)]
    """Weak labels."""
    n_human: Annotated[int, Field(ge=4)]
    """Human labels."""
    n_measured: Annotated[int, Field(ge=0)] | None = None
    """Of these, items that every weak source and every other grade of human labels as well, to be measured on; where
    not set, those that no source shows as examples, or a quarter where one is fine-tuned."""


class CampaignConfig(Section):
    """A whole campaign file."""

    campaign: str
    """The campaign's id."""
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "USD"
    """ISO 4217 code of every amount in the file."""
    budget: Annotated[Decimal, Field(gt=0, allow_inf_nan=False)]
    """The most that may ever be spent, evaluation labels included, in units of the currency."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of everything random."""
    task: TaskConfig
    data: DataConfig
    test: DataConfig | None = None
    """A benchmark with gold answers, measured outside the ledger and reported beside the bought evaluation."""
    sources: tuple[Annotated[ModelSource | HumanSource, Field(discriminator="kind")], ...]
    strong_model: str
    """Folder, hub name, or "microworld:strong"."""
    method: MethodConfig = MethodConfig()
    evaluation: EvaluationConfig
    pilot: PilotConfig
    n_tranches: Annotated[int, Field(ge=1, le=50)] = 4
    """Purchases the money after the pilot is cut into."""
    human_sampling: Literal["random", "uncertainty", "cost_aware"] = "random"
    """Which items human labels are bought for after the pilot; see `isocost.economics.item_choice`."""
    target_accuracy: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Stop as soon as this accuracy is reached, at least cost; where not set, reach as much as the budget can buy."""
    gain_min: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Accuracy that what can still be bought must be expected to bring, or nothing more is bought; where not set, the
    policy's own."""
    n_seeds: Annotated[int, Field(ge=1, le=50)] = 1
    """Runs of each mix of labels, each with its own seed."""

    @model_validator(mode="after")
    def _right_sources(self) -> Self:
        if not self.models or not self.humans:
            raise ValueError("'sources' needs one or more of kind model and one or more of kind human")
        names = [source.name for source in self.sources]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two sources have the name {twice!r}; give each its own")
        return self

    @property
    def models(self) -> tuple[ModelSource, ...]:
        """The sources of weak labels, in the order of the file."""
        return tuple(source for source in self.sources if isinstance(source, ModelSource))

    @property
    def humans(self) -> tuple[HumanSource, ...]:
        """The grades of human labels, in the order of the file: the reference first."""
        return tuple(source for source in self.sources if isinstance(source, HumanSource))

    @property
    def human(self) -> HumanSource:
        """The reference: evaluation labels and the pilot are bought from it, and other sources are measured by it."""
        return self.humans[0]

    @property
    def n_measured(self) -> int:
        """Items of the pilot that other sources are measured on: no weak source sees their human labels before."""
        if self.pilot.n_measured is not None:
            return self.pilot.n_measured
        wanted = self.pilot.n_human // 4 if self._is_fine_tuned else self.pilot.n_human
        return max(0, min(wanted, self.pilot.n_human - self._n_seen))

    @property
    def _is_fine_tuned(self) -> bool:
        return any(model.fine_tune for model in self.models)

    @property
    def _n_seen(self) -> int:
        """Human labels of the pilot that sources are shown, or fine-tuned on at least."""
        n_examples = max(model.few_shot_count for model in self.models)
        return max(n_examples, STAGE_LABELS_MIN) if self._is_fine_tuned else n_examples

    def money(self, amount: Decimal, field: str) -> Money:
        """An amount of the file as money."""
        return Money.parse(amount, self.currency, field=field)

    def check_sources(self) -> None:
        """Checks what the sources, and what is to be reached, ask of the task and the pilot.

        Raises:
            InvalidArgumentError: names the field that is wrong.
        """
        task = self.task.task()
        for model in self.models:
            field = f"sources.{model.name}.template"
            try:
                unknown = [name for name in model.task(task).fields if name not in task.fields]
            except InvalidArgumentError as error:
                raise InvalidArgumentError(field, error.message) from None
            if unknown:
                raise InvalidArgumentError(
                    field,
                    f"shows {{{unknown[0]}}}, which items do not have; task.template shows "
                    f"{', '.join(f'{{{name}}}' for name in task.fields)}",
                )
        self._check_measured()
        chance = 1 / len(task.choices)
        if self.target_accuracy is not None and self.target_accuracy <= chance:
            raise InvalidArgumentError(
                "target_accuracy",
                f"{self.target_accuracy:g}; guessing has {chance:.3g} already: raise it, or leave it out to reach as "
                "much as the budget can buy",
            )
        if self.human_sampling != "random" and self.evaluation.n_unlabelled:
            raise InvalidArgumentError(
                "human_sampling",
                f"{self.human_sampling!r} takes the hard items out of the pool, so that those left over "
                "say too much good of a model; set evaluation.n_unlabelled to 0, or human_sampling to random",
            )

    def _check_measured(self) -> None:
        calibrated = next((model.name for model in self.models if model.calibration != "none"), None)
        compared = "weak sources" if len(self.models) > 1 else "grades of human labels" if len(self.humans) > 1 else ""
        if (calibrated or compared) and self.n_measured < MEASURED_MIN:
            why = f"{calibrated!r} is calibrated on them" if calibrated else f"{compared} are compared on them"
            raise InvalidArgumentError(
                "pilot.n_measured",
                f"{self.n_measured} items, but {why}, and fewer than {MEASURED_MIN} say nothing; raise it, or "
                "pilot.n_human",
            )
        # A human label that a source has seen cannot say how good the source is.
        if self.n_measured + self._n_seen > self.pilot.n_human:
            raise InvalidArgumentError(
                "pilot.n_human",
                f"{self.pilot.n_human} human labels, but sources are measured on {self.n_measured} and shown, or "
                f"fine-tuned on, {self._n_seen} others; raise it, or lower pilot.n_measured or few_shot_count",
            )

    def check_pool(self, n_items: int) -> None:
        """Checks that the pool has an item for every evaluation and pilot label.

        Raises:
            InvalidArgumentError: names `data`.
        """
        needed = self.evaluation.n_labels + self.pilot.n_human + self.pilot.n_weak
        if n_items < needed:
            raise InvalidArgumentError(
                "data",
                f"the pool has {n_items} items, but evaluation and pilot label {needed} different ones; "
                "add items or lower evaluation.n_labels, pilot.n_human or pilot.n_weak",
            )
