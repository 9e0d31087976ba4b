"""Elicitation methods as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import ClassVar

from isocost.core.errors import InvalidArgumentError
from isocost.core.ids import check_id
from isocost.resources.campaign import Sampling
from isocost.resources.task import LabelKind
from isocost.v1 import resources_pb2

__all__ = ["Head", "Method", "Quantization", "Recipe", "Stage", "StoppingRule", "Tuning"]


class Head(Enum):
    """What the classifier reads its answer from."""

    LANGUAGE_MODEL = resources_pb2.HEAD_LANGUAGE_MODEL
    CLASSIFICATION = resources_pb2.HEAD_CLASSIFICATION


class Tuning(Enum):
    """Which weights a stage changes."""

    LORA = resources_pb2.TUNING_LORA
    FULL = resources_pb2.TUNING_FULL
    HEAD_ONLY = resources_pb2.TUNING_HEAD_ONLY


class Quantization(Enum):
    """In what form the frozen weights of the base model are kept."""

    NONE = resources_pb2.QUANTIZATION_UNSPECIFIED
    """As they are: bf16 on CUDA, float32 on a CPU."""
    NF4 = resources_pb2.QUANTIZATION_NF4
    """In 4 bits, NormalFloat (Dettmers et al. 2023); on CUDA and with LoRA only."""


class StoppingRule(StrEnum):
    """When a stage stops early, and which of its weights are kept."""

    AUROC = "auroc"
    """The paper's: held-out labels drawn at random; AUROC alone, the first best weights."""
    AUROC_AND_LOSS = "auroc_and_loss"
    """Held-out labels drawn within each choice; a falling held-out loss counts as well, and breaks ties."""


def _require(condition: bool, name: str, message: str) -> None:
    if not condition:
        raise InvalidArgumentError(f"recipe.{name}", message)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one stage is trained. Defaults are the paper's (Mallen & Belrose 2024), except the learning rate, which the
    paper tunes by model, gradient clipping, which is the Hugging Face Trainer's default, and the stopping rule.
    """

    # Read by pydantic where a recipe stands in a campaign file: an unknown key is an error.
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    learning_rate: float = 5e-4
    """Peak learning rate of AdamW; greater than zero."""
    batch_size: int = 32
    """Examples a step."""
    max_examples: int = 30_000
    """Examples seen, counted with repetition, at most."""
    warmup_steps: int = 40
    """Warm-up steps; never more than one epoch, at least 2."""
    weight_decay: float = 0.01
    """AdamW weight decay."""
    adam_beta2: float = 0.95
    """AdamW beta2."""
    holdout_fraction: float = 0.2
    """Share of the stage's labels held out for early stopping; at least 2 labels are."""
    eval_every_steps: int = 50
    """Steps between evaluations on the held-out labels; never more than one epoch."""
    patience: int = 4
    """Stop after this many evaluations without improvement."""
    min_improvement: float = 0.01
    """Improvement of AUROC that counts."""
    max_grad_norm: float = 1.0
    """Gradient norm is clipped to this; 0 means no clipping."""
    stopping_rule: StoppingRule = StoppingRule.AUROC_AND_LOSS
    """When the stage stops early, and which weights are kept."""
    log_confidence_weight: float = 0.0
    """Log-confidence loss (Burns et al. 2023): largest share, 0 to 1, of the model's own hardened prediction in the
    target; 0 is plain cross-entropy to the label. The paper's is 0.5."""
    log_confidence_warmup_steps: int = 200
    """Steps over which that share rises from 0."""

    def __post_init__(self) -> None:
        _require(
            0 < self.learning_rate <= 1, "learning_rate", f"{self.learning_rate}; give a number above 0, at most 1"
        )
        _require(self.batch_size >= 1, "batch_size", f"{self.batch_size}; give at least 1")
        _require(self.max_examples >= self.batch_size, "max_examples", "smaller than batch_size")
        _require(self.warmup_steps >= 0, "warmup_steps", "negative")
        _require(self.weight_decay >= 0, "weight_decay", "negative")
        _require(0 < self.adam_beta2 < 1, "adam_beta2", "must lie between 0 and 1")
        _require(0 < self.holdout_fraction < 1, "holdout_fraction", "must lie between 0 and 1")
        _require(self.eval_every_steps >= 1, "eval_every_steps", "give at least 1")
        _require(self.patience >= 1, "patience", "give at least 1")
        _require(self.min_improvement >= 0, "min_improvement", "negative")
        _require(self.max_grad_norm >= 0, "max_grad_norm", "negative")
        _require(0 <= self.log_confidence_weight <= 1, "log_confidence_weight", "must lie between 0 and 1")
        _require(self.log_confidence_warmup_steps >= 0, "log_confidence_warmup_steps", "negative")

    @classmethod
    def from_proto(cls, message: resources_pb2.Recipe) -> Recipe:
        """Converts from the wire."""
        return cls(
            learning_rate=message.learning_rate,
            batch_size=message.batch_size,
            max_examples=message.max_examples,
            warmup_steps=message.warmup_steps,
            weight_decay=message.weight_decay,
            adam_beta2=message.adam_beta2,
            holdout_fraction=message.holdout_fraction,
            eval_every_steps=message.eval_every_steps,
            patience=message.patience,
            min_improvement=message.min_improvement,
            max_grad_norm=message.max_grad_norm,
            stopping_rule=(
                StoppingRule.AUROC
                if message.stopping_rule == resources_pb2.STOPPING_RULE_AUROC
                else StoppingRule.AUROC_AND_LOSS
            ),
            log_confidence_weight=message.log_confidence_weight,
            log_confidence_warmup_steps=message.log_confidence_warmup_steps,
        )

    def to_proto(self) -> resources_pb2.Recipe:
        """Converts to the wire."""
        return resources_pb2.Recipe(
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            max_examples=self.max_examples,
            warmup_steps=self.warmup_steps,
            weight_decay=self.weight_decay,
            adam_beta2=self.adam_beta2,
            holdout_fraction=self.holdout_fraction,
            eval_every_steps=self.eval_every_steps,
            patience=self.patience,
            min_improvement=self.min_improvement,
            max_grad_norm=self.max_grad_norm,
            stopping_rule=resources_pb2.StoppingRule.Value(f"STOPPING_RULE_{self.stopping_rule.name}"),
            log_confidence_weight=self.log_confidence_weight,
            log_confidence_warmup_steps=self.log_confidence_warmup_steps,
        )


@dataclass(frozen=True, slots=True)
class Stage:
    """One fine-tuning pass over one kind of label.

    Attributes:
        label_kind: Which labels.
        recipe: How it is trained.
        mixed_with: Other kinds trained on in the same pass, shuffled together with the first: joint training.
        sampling: RANDOM takes the first n labels of the list; UNCERTAINTY the n labels of the whole list about whose
            items the model is least certain before the stage (predictive entropy).

    Raises:
        InvalidArgumentError: names the field that is wrong.
    """

    label_kind: LabelKind
    recipe: Recipe = field(default_factory=Recipe)
    mixed_with: tuple[LabelKind, ...] = ()
    sampling: Sampling = Sampling.RANDOM

    def __post_init__(self) -> None:
        if len(set(self.label_kinds)) != len(self.label_kinds):
            raise InvalidArgumentError("method.stages.mixed_with", "names a kind of label twice")
        if self.sampling not in (Sampling.RANDOM, Sampling.UNCERTAINTY):
            raise InvalidArgumentError("method.stages.sampling", "give RANDOM or UNCERTAINTY")
        if self.sampling is Sampling.UNCERTAINTY and self.mixed_with:
            raise InvalidArgumentError(
                "method.stages.sampling", "a stage on several kinds of label takes the first ones"
            )

    @property
    def label_kinds(self) -> tuple[LabelKind, ...]:
        """All kinds trained on."""
        return (self.label_kind, *self.mixed_with)

    @classmethod
    def from_proto(cls, message: resources_pb2.Stage) -> Stage:
        """Converts from the wire."""
        if not message.label_kind:
            raise InvalidArgumentError("method.stages.label_kind", "not set; give WEAK or HUMAN")
        return cls(
            LabelKind(message.label_kind),
            Recipe.from_proto(message.recipe),
            tuple(LabelKind(kind) for kind in message.mixed_with),
            Sampling(message.sampling or Sampling.RANDOM.value),
        )

    def to_proto(self) -> resources_pb2.Stage:
        """Converts to the wire."""
        return resources_pb2.Stage(
            label_kind=self.label_kind.value,
            recipe=self.recipe.to_proto(),
            mixed_with=[kind.value for kind in self.mixed_with],
            sampling=self.sampling.value,
        )


@dataclass(frozen=True, slots=True)
class Method:
    """An elicitation method.

    Attributes:
        name: For example "sequential_sft".
        stages: In order; a stage whose n is 0 in a run is skipped. Empty for few-shot prompting.
        head: What the classifier reads its answer from.
        tuning: Which weights change.
        few_shot_count: Labelled examples shown before each text.
        few_shot_kind: Kind of their labels; None where few_shot_count is 0.
        lora_rank, lora_alpha, lora_dropout: For Tuning.LORA.
        n_layers: Layers of the base model kept, from the input; 0 keeps all.
        quantization: In what form the frozen weights are kept.

    Raises:
        InvalidArgumentError: names the field that is wrong.
    """

    name: str
    stages: tuple[Stage, ...]
    head: Head = Head.LANGUAGE_MODEL
    tuning: Tuning = Tuning.LORA
    few_shot_count: int = 0
    few_shot_kind: LabelKind | None = None
    lora_rank: int = 8
    lora_alpha: float = 16.0
    lora_dropout: float = 0.0
    n_layers: int = 0
    quantization: Quantization = Quantization.NONE

    def __post_init__(self) -> None:
        check_id("method.name", self.name)
        if self.few_shot_count < 0:
            raise InvalidArgumentError("method.few_shot_count", "negative")
        if (self.few_shot_count > 0) != (self.few_shot_kind is not None):
            raise InvalidArgumentError("method.few_shot_kind", "give it exactly when few_shot_count is above 0")
        if self.tuning is Tuning.LORA and self.lora_rank < 1:
            raise InvalidArgumentError("method.lora_rank", f"{self.lora_rank}; give at least 1")
        if self.tuning is Tuning.HEAD_ONLY and self.head is not Head.CLASSIFICATION:
            raise InvalidArgumentError("method.head", "tuning the head alone needs the classification head")
        if self.n_layers < 0:
            raise InvalidArgumentError("method.n_layers", "negative")
        if self.quantization is not Quantization.NONE and self.tuning is not Tuning.LORA:
            raise InvalidArgumentError("method.quantization", "4-bit weights stay as they are; tune with LORA")
        if self.stages and self.head is Head.CLASSIFICATION and self.stages[0].sampling is Sampling.UNCERTAINTY:
            raise InvalidArgumentError(
                "method.stages.sampling", "an untrained classification head is uncertain of nothing in particular"
            )
        if not self.stages and self.head is Head.CLASSIFICATION:
            raise InvalidArgumentError(
                "method.stages", "a classification head without training knows nothing; add a stage"
            )

    @classmethod
    def from_proto(cls, message: resources_pb2.Method) -> Method:
        """Converts from the wire."""
        if not message.head:
            raise InvalidArgumentError("method.head", "not set; give LANGUAGE_MODEL or CLASSIFICATION")
        if not message.tuning:
            raise InvalidArgumentError("method.tuning", "not set; give LORA, FULL or HEAD_ONLY")
        return cls(
            name=message.name,
            stages=tuple(Stage.from_proto(stage) for stage in message.stages),
            head=Head(message.head),
            tuning=Tuning(message.tuning),
            few_shot_count=message.few_shot_count,
            few_shot_kind=LabelKind(message.few_shot_kind) if message.few_shot_kind else None,
            lora_rank=message.lora_rank,
            lora_alpha=message.lora_alpha,
            lora_dropout=message.lora_dropout,
            n_layers=message.n_layers,
            quantization=Quantization(message.quantization),
        )

    def to_proto(self) -> resources_pb2.Method:
        """Converts to the wire."""
        return resources_pb2.Method(
            name=self.name,
            stages=[stage.to_proto() for stage in self.stages],
            head=self.head.value,
            tuning=self.tuning.value,
            few_shot_count=self.few_shot_count,
            few_shot_kind=self.few_shot_kind.value if self.few_shot_kind else resources_pb2.LABEL_KIND_UNSPECIFIED,
            lora_rank=self.lora_rank,
            lora_alpha=self.lora_alpha,
            lora_dropout=self.lora_dropout,
            n_layers=self.n_layers,
            quantization=self.quantization.value,
        )
