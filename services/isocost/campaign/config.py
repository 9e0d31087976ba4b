"""The sections of a campaign file."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from isocost.core.errors import InvalidArgumentError
from isocost.core.money import Money
from isocost.resources.method import Head, Method, Recipe, Stage, Tuning
from isocost.resources.task import LabelKind, Source, SourceKind, Task

__all__ = [
    "CampaignConfig",
    "DataConfig",
    "FileChannel",
    "HumanSource",
    "ModelSource",
    "SimulatedChannel",
]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class TaskConfig(_Section):
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


class HubConfig(_Section):
    """A dataset on the Hugging Face hub."""

    name: str
    """For example "fancyzhx/ag_news"."""
    config: str | None = None
    """Name of its configuration, where it has several."""
    split: str = "train"
    """The split that is read."""


class DataConfig(_Section):
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
    fields: dict[str, str | list[str]] = {}
    """By field of the template, a pattern over columns, or several of which the first that fits is used."""
    n_items_max: Annotated[int, Field(gt=0)] | None = None
    """Keep only so many rows, from the top."""

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.path is None) == (self.hub is None):
            raise ValueError("give exactly one of 'path' and 'hub'")
        return self


class FineTuneConfig(_Section):
    """How a weak labeller is made: a truncated copy of a model, fine-tuned on the human labels of the pilot."""

    n_layers: Annotated[int, Field(ge=0)] = 0
    """Layers kept, from the input; 0 keeps all."""
    recipe: Recipe = Recipe(learning_rate=3e-4)
    """How it is trained."""


class ModelSource(_Section):
    """A weak labeller."""

    kind: Literal["model"]
    name: str = "weak"
    """Names the source in the ledger."""
    unit_price: Annotated[Decimal, Field(gt=0, allow_inf_nan=False)]
    """Price of one label, in units of the campaign's currency."""
    model: str
    """Folder, hub name, or "microworld:weak"."""
    runner: Literal["generate", "classify"] = "generate"
    """A causal language model that is prompted, or a sequence-classification model."""
    few_shot_count: Annotated[int, Field(ge=0)] = 0
    """Human labels of the pilot shown before each item; generate only."""
    fine_tune: FineTuneConfig | None = None
    """Fine-tune the model on the pilot's human labels first; classify only."""

    @model_validator(mode="after")
    def _fits_runner(self) -> Self:
        if self.fine_tune is not None and self.runner != "classify":
            raise ValueError("fine_tune makes a classification model; set runner: classify")
        if self.few_shot_count and self.runner != "generate":
            raise ValueError("few_shot_count needs runner: generate")
        return self


class SimulatedChannel(_Section):
    """An annotator for experiments, who reads the gold column."""

    kind: Literal["simulated"]
    noise: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Probability of a wrong answer, drawn evenly among the other choices; the same item always gets the same."""


class FileChannel(_Section):
    """People who write their answers into a file."""

    kind: Literal["file"]
    path: str
    """A .csv, .jsonl or .parquet file with columns item_id, label (a choice) and, if wished, annotator."""


class HumanSource(_Section):
    """People."""

    kind: Literal["human"]
    name: str = "human"
    """Names the source in the ledger."""
    unit_price: Annotated[Decimal, Field(gt=0, allow_inf_nan=False)]
    """Price of one label, in units of the campaign's currency."""
    channel: Annotated[SimulatedChannel | FileChannel, Field(discriminator="kind")]
    """How their labels arrive."""


class MethodConfig(_Section):
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


class EvaluationConfig(_Section):
    """Human labels bought to measure accuracy with; never trained on."""

    n_labels: Annotated[int, Field(ge=10)]
    """How many; at least 10, since fewer measure nothing."""


class PilotConfig(_Section):
    """The first purchase, made before any plan."""

    n_weak: Annotated[int, Field(ge=4)]
    """Weak labels."""
    n_human: Annotated[int, Field(ge=4)]
    """Human labels."""


class CampaignConfig(_Section):
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
    n_seeds: Annotated[int, Field(ge=1, le=50)] = 1
    """Runs of each mix of labels, each with its own seed."""

    @model_validator(mode="after")
    def _one_source_of_each_kind(self) -> Self:
        kinds = sorted(source.kind for source in self.sources)
        if kinds != ["human", "model"]:
            raise ValueError("'sources' needs exactly one source of kind model and one of kind human")
        if self.weak.name == self.human.name:
            raise ValueError("the two sources have the same name; give each its own")
        return self

    @property
    def weak(self) -> ModelSource:
        """The source of weak labels."""
        return next(source for source in self.sources if isinstance(source, ModelSource))

    @property
    def human(self) -> HumanSource:
        """The source of human labels."""
        return next(source for source in self.sources if isinstance(source, HumanSource))

    def money(self, amount: Decimal, field: str) -> Money:
        """An amount of the file as money."""
        return Money.parse(amount, self.currency, field=field)

    def source(self, section: ModelSource | HumanSource) -> Source:
        """The domain object of one of the sources."""
        is_model = isinstance(section, ModelSource)
        return Source(
            source_id=section.name,
            kind=SourceKind.MODEL if is_model else SourceKind.HUMAN,
            unit_price=self.money(section.unit_price, f"sources.{section.name}.unit_price"),
            model=section.model if isinstance(section, ModelSource) else "",
        )

    def check_affordable(self) -> None:
        """Checks that the budget pays for the evaluation labels and the pilot.

        Raises:
            InvalidArgumentError: names `budget`, what is needed and what is there.
        """
        weak, human = self.source(self.weak).unit_price, self.source(self.human).unit_price
        n_human = self.evaluation.n_labels + self.pilot.n_human
        needed = Money(self.pilot.n_weak * weak.micros + n_human * human.micros, self.currency)
        budget = self.money(self.budget, "budget")
        if needed.micros > budget.micros:
            raise InvalidArgumentError(
                "budget",
                f"{budget} does not pay for the pilot: {self.evaluation.n_labels} evaluation and {self.pilot.n_human} "
                f"pilot labels at {human} and {self.pilot.n_weak} weak labels at {weak} cost {needed}; "
                "raise the budget or lower evaluation.n_labels, pilot.n_human or pilot.n_weak",
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
