"""The sections of a sweep's spec."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from isocost.core.errors import InvalidArgumentError
from isocost.core.ids import check_id
from isocost.resources.method import Recipe

__all__ = [
    "MICROWORLD",
    "FineTuneConfig",
    "MethodConfig",
    "PoolConfig",
    "Section",
    "StrongModelConfig",
    "SweepConfig",
    "TaskConfig",
    "TrainingConfig",
    "WeakLabellerConfig",
    "merged_recipe",
]

#: Name of the carried testbed, as a task.
MICROWORLD = "microworld"

_RECIPE: TypeAdapter[Recipe] = TypeAdapter(Recipe)


def merged_recipe(*patches: Mapping[str, Any]) -> Recipe:
    """A recipe out of changes to the defaults; later ones win.

    Raises:
        InvalidArgumentError: names the value of the recipe that is wrong.
    """
    merged: dict[str, Any] = {}
    for patch in patches:
        merged.update(patch)
    try:
        return _RECIPE.validate_python(merged)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        known = ", ".join(Recipe.__dataclass_fields__)
        unknown = first["type"] in ("unexpected_keyword_argument", "extra_forbidden")
        message = f"unknown; a recipe has {known}" if unknown else f"{first['msg']} (given: {first['input']!r})"
        raise InvalidArgumentError(f"recipe.{name}", message) from None


def _checked_patch(patch: dict[str, Any]) -> dict[str, Any]:
    try:
        merged_recipe(patch)
    except InvalidArgumentError as error:
        raise ValueError(f"{error.field.removeprefix('recipe.')}: {error.message}") from None
    return patch


def _checked_name(name: str) -> str:
    try:
        return check_id("name", name)
    except InvalidArgumentError as error:
        raise ValueError(error.message) from None


def _named(key: str) -> BeforeValidator:
    """Lets a section be written as one word: the value of its first key."""
    return BeforeValidator(lambda value: {key: value} if isinstance(value, str) else value)


def _different(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if twice := next((value for value in values if values.count(value) > 1), None):
        raise ValueError(f"{twice} is given twice")
    return values


RecipePatch = Annotated[dict[str, Any], AfterValidator(_checked_patch)]
Name = Annotated[str, AfterValidator(_checked_name)]
_Money = Annotated[Decimal, Field(gt=0, allow_inf_nan=False)]
_Share = Annotated[Decimal, Field(ge=0, le=1)]
_Count = Annotated[int, Field(ge=0, le=1_000_000)]


class Section(BaseModel):
    """Part of a spec: no unknown keys, unchangeable once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class TaskConfig(Section):
    """A benchmark. One word stands for `{benchmark: WORD}`."""

    benchmark: str
    """`microworld`, a task of the library by its name, or a task file (.yaml), relative to the spec."""
    data: str | None = None
    """Folder with `train` and `test` files, or one file, relative to the spec; where not set, the folder of the task's
    name in the spec's `data`, and where that is not set either, the hub."""


class FineTuneConfig(Section):
    """A weak labeller that is fine-tuned on gold labels first; those labels are not on the cost axis."""

    n_labels: Annotated[int, Field(ge=4)]
    """Gold labels; at most a third of the task's items, which then are in no training set."""
    head: Literal["language_model", "classification"] = "classification"
    """What its labels are read from."""
    tuning: Literal["lora", "full"] = "full"
    """Which weights change."""
    n_layers: _Count = 0
    """Layers of the model kept, from the input; 0 keeps all."""
    recipe: RecipePatch = {}
    """Changes to the recipe's defaults; the spec's own `recipe` is for strong models."""


class WeakLabellerConfig(Section):
    """Who makes weak labels: a model that is prompted, a model that is fine-tuned, or a column of the data."""

    name: Name
    """Names it in the results."""
    model: str = ""
    """Folder of a model or of an adapter, hub name, or `microworld:weak`."""
    runner: Literal["generate", "classify"] = "generate"
    """A causal language model that is prompted, or a classification model; decided by `fine_tune` where that is set."""
    template: str | None = None
    """Its own way to put the question; the task's where not set."""
    few_shot_count: Annotated[int, Field(ge=0, le=64)] = 0
    """Gold answers shown before each item, not on the cost axis; `generate` only."""
    fine_tune: FineTuneConfig | None = None
    """Fine-tune the model first."""
    column: str = ""
    """Instead of a model: column of the data with the weak labels, each a choice, its number from 0, or a list of
    probabilities."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if bool(self.model) == bool(self.column):
            raise ValueError("give exactly one of 'model' and 'column'")
        if self.column and (self.fine_tune or self.few_shot_count or self.template):
            raise ValueError("labels of a 'column' are there already; leave fine_tune, few_shot_count and template out")
        if self.few_shot_count and (self.fine_tune or self.runner == "classify"):
            raise ValueError("'few_shot_count' is for models that are prompted; leave it out")
        return self

    @property
    def n_gold(self) -> int:
        """Gold labels that it sees."""
        return self.fine_tune.n_labels if self.fine_tune else self.few_shot_count


class TrainingConfig(Section):
    """How a model is trained. A value that is not set is taken from the next wider section, and at last the default."""

    head: Literal["language_model", "classification"] | None = None
    """What the answer is read from; language_model by default."""
    tuning: Literal["lora", "full", "head_only"] | None = None
    """Which weights change; lora by default."""
    quantization: Literal["none", "nf4"] | None = None
    """Form of the frozen weights; none by default, nf4 is 4 bits, on CUDA and with lora only."""
    lora_rank: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Rank of the adapters; 8 by default."""
    lora_alpha: Annotated[float, Field(gt=0)] | None = None
    """Their scale is lora_alpha / lora_rank; 16 by default."""
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Dropout probability inside the adapters; 0 by default."""
    n_layers: _Count | None = None
    """Layers of the model kept, from the input; 0, the default, keeps all."""
    recipe: RecipePatch = {}
    """Changes to the recipe of every stage."""
    weak_recipe: RecipePatch = {}
    """Changes to the recipe of stages on weak labels, joint ones included; win over `recipe`."""
    human_recipe: RecipePatch = {}
    """Changes to the recipe of stages on human labels; win over `recipe`."""


class StrongModelConfig(TrainingConfig):
    """A model whose knowledge is elicited. One word stands for `{model: WORD}`."""

    model: str
    """Folder, hub name, or `microworld:strong`."""
    methods: tuple[str, ...] = ()
    """Names of the methods tried on it, as in `methods`; empty for all."""
    n_seeds: Annotated[int, Field(ge=1)] | None = None
    """Try only so many of the seeds, from the first."""


class MethodConfig(TrainingConfig):
    """A method, or several that differ in the few-shot block. One word stands for `{method: WORD}`."""

    method: str
    """One of the methods that docs/sweep.md lists."""
    name: Name | None = None
    """Names it in the results; the method itself where not set."""
    few_shot_counts: Annotated[tuple[Annotated[int, Field(ge=0, le=256)], ...], Field(min_length=1)] = (0,)
    """Sizes of the block of labelled examples before each text: one method for each."""
    few_shot_kinds: Annotated[tuple[Literal["weak", "human"], ...], Field(min_length=1)] = ("human",)
    """Kinds of the block's labels: one method for each, where the block has a size."""
    labels: Literal["soft", "hard"] = "soft"
    """Train on the weak labeller's probabilities, or on its answer as if it were certain."""

    @model_validator(mode="after")
    def _no_repeats(self) -> Self:
        _different(self.few_shot_counts)
        _different(self.few_shot_kinds)
        return self


class PoolConfig(Section):
    """Limits of each task's items. Human and weak labels are of different items, the test's contexts are apart."""

    n_test: Annotated[int, Field(ge=10)] = 1000
    """Test items, the same for all runs of a task; all there are where there are fewer."""
    n_human_max: Annotated[int, Field(ge=4)] | None = None
    """Most items for human labels; where not set, what the grid asks for, but half of the items at most, and where
    uncertainty sampling chooses among them, all that no weak label needs."""
    n_weak_max: Annotated[int, Field(ge=4)] | None = None
    """Most items for weak labels; where not set, what the grid asks for and human labels leave."""


class SweepConfig(TrainingConfig):
    """A whole spec."""

    sweep: Name
    """Names the sweep."""
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "USD"
    """ISO 4217 code of every amount."""
    human_price: _Money = Decimal(1)
    """Price of a human label."""
    weak_prices: Annotated[tuple[_Money, ...], Field(min_length=1)]
    """Prices of a weak label; each makes a grid of its own."""
    budgets: Annotated[tuple[_Money, ...], Field(min_length=1)]
    """Isocost lines."""
    weak_fractions: Annotated[tuple[_Share, ...], Field(min_length=1)] = (Decimal(0), Decimal("0.5"), Decimal(1))
    """Shares of a budget spent on weak labels."""
    labels_min: Annotated[int, Field(ge=1)] = 4
    """Money for fewer labels of a kind goes to the other kind: a stage on fewer learns nothing."""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
    """Each draws its own items, sets and initialisation."""
    data: str | None = None
    """Folder with a folder of data for each task, relative to the spec; where not set, data come from the hub."""
    pool: PoolConfig = PoolConfig()
    tasks: Annotated[tuple[Annotated[TaskConfig, _named("benchmark")], ...], Field(min_length=1)]
    weak_labellers: Annotated[tuple[WeakLabellerConfig, ...], Field(min_length=1)]
    strong_models: Annotated[tuple[Annotated[StrongModelConfig, _named("model")], ...], Field(min_length=1)]
    methods: Annotated[tuple[Annotated[MethodConfig, _named("method")], ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _nothing_twice(self) -> Self:
        for key in ("weak_prices", "budgets", "weak_fractions", "seeds"):
            try:
                _different(getattr(self, key))
            except ValueError as error:
                raise ValueError(f"{key}: {error}") from None
        for key, names in (
            ("weak_labellers", [labeller.name for labeller in self.weak_labellers]),
            ("strong_models", [strong.model for strong in self.strong_models]),
            ("tasks", [task.benchmark for task in self.tasks]),
        ):
            if twice := next((name for name in names if names.count(name) > 1), None):
                raise ValueError(f"{key}: two are {twice!r}; keep one, or give each its own name")
        known = {method.name or method.method for method in self.methods}
        for strong in self.strong_models:
            if unknown := next((name for name in strong.methods if name not in known), None):
                raise ValueError(
                    f"strong_models: {strong.model} is to try {unknown!r}, but 'methods' has {', '.join(sorted(known))}"
                )
        return self
