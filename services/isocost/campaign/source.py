"""The `sources` section of a campaign file: who labels, and for what price."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from isocost.campaign.section import Section
from isocost.core.money import Money
from isocost.resources.method import Recipe
from isocost.resources.task import Source, SourceKind, Task

__all__ = ["FileChannel", "FineTuneConfig", "HumanSource", "ModelSource", "QueueChannel", "SimulatedChannel"]

_Price = Annotated[Decimal, Field(gt=0, allow_inf_nan=False)]


class FineTuneConfig(Section):
    """How a weak labeller is made: a truncated copy of a model, fine-tuned on human labels of the pilot."""

    n_layers: Annotated[int, Field(ge=0)] = 0
    """Layers kept, from the input; 0 keeps all."""
    recipe: Recipe = Recipe(learning_rate=3e-4)
    """How it is trained."""


class ModelSource(Section):
    """A weak labeller."""

    kind: Literal["model"]
    name: str = "weak"
    """Names the source in the ledger."""
    unit_price: _Price | None = None
    """Fixed price of one label, in units of the campaign's currency."""
    price_per_million_tokens: _Price | None = None
    """Metered instead: price of a million prompt tokens; a label costs its own, rounded up to a millionth of a unit."""
    model: str
    """Folder of a model or of a LoRA adapter, hub name, or "microworld:weak"."""
    runner: Literal["generate", "classify"] = "generate"
    """A causal language model that is prompted, or a sequence-classification model."""
    template: str | None = None
    """This source's own way to put the question; the task's where not set."""
    few_shot_count: Annotated[int, Field(ge=0)] = 0
    """Human labels of the pilot shown before each item; generate only."""
    fine_tune: FineTuneConfig | None = None
    """Fine-tune the model on human labels of the pilot first; classify only."""
    calibration: Literal["none", "temperature", "isotonic"] = "none"
    """How its probabilities are corrected before they are trained on."""

    @model_validator(mode="after")
    def _one_price(self) -> Self:
        if (self.unit_price is None) == (self.price_per_million_tokens is None):
            raise ValueError("give exactly one of 'unit_price' and 'price_per_million_tokens'")
        return self

    @model_validator(mode="after")
    def _fits_runner(self) -> Self:
        if self.fine_tune is not None and self.runner != "classify":
            raise ValueError("fine_tune makes a classification model; set runner: classify")
        if self.few_shot_count and self.runner != "generate":
            raise ValueError("few_shot_count needs runner: generate")
        return self

    def task(self, task: Task) -> Task:
        """The campaign's question as this source is asked it.

        Raises:
            InvalidArgumentError: where the template is wrong.
        """
        return task if self.template is None else Task(task.name, self.template, task.choices)

    def source(self, currency: str, n_tokens_max: int) -> Source:
        """The domain object.

        Args:
            currency: ISO 4217 code.
            n_tokens_max: The most prompt tokens that one label may take, for a metered source.

        Raises:
            InvalidArgumentError: where the name or the price is wrong.
        """
        if self.unit_price is not None:
            price = Money.parse(self.unit_price, currency, field=f"sources.{self.name}.unit_price")
            return Source(self.name, SourceKind.MODEL, price, self.model)
        field = f"sources.{self.name}.price_per_million_tokens"
        metered = Money.parse(self.price_per_million_tokens or 0, currency, field=field)
        # The price of the longest label is what the domain object itself would charge for it.
        cap = Source(self.name, SourceKind.MODEL, metered, self.model, metered).label_price(n_tokens_max)
        return Source(self.name, SourceKind.MODEL, cap, self.model, metered)


class SimulatedChannel(Section):
    """An annotator for experiments, who reads the gold column."""

    kind: Literal["simulated"]
    noise: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Probability of a wrong answer, drawn evenly among the other choices; the same item always gets the same."""


class FileChannel(Section):
    """People who write their answers into a file."""

    kind: Literal["file"]
    path: str
    """A .csv, .jsonl or .parquet file with columns item_id, label (a choice) and, if wished, annotator."""


class QueueChannel(Section):
    """People who lease items from the budget service's human queue and answer there."""

    kind: Literal["queue"]


class HumanSource(Section):
    """People."""

    kind: Literal["human"]
    name: str = "human"
    """Names the source in the ledger."""
    unit_price: _Price
    """Price of one label, in units of the campaign's currency."""
    channel: Annotated[SimulatedChannel | FileChannel | QueueChannel, Field(discriminator="kind")]
    """How their labels arrive."""

    def source(self, currency: str) -> Source:
        """The domain object.

        Raises:
            InvalidArgumentError: where the name or the price is wrong.
        """
        price = Money.parse(self.unit_price, currency, field=f"sources.{self.name}.unit_price")
        return Source(self.name, SourceKind.HUMAN, price)
