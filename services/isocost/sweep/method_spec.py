"""The methods of a sweep, as data: what each preset trains, and how a spec's options make methods of it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from isocost.core.errors import InvalidArgumentError
from isocost.resources.campaign import Sampling
from isocost.resources.method import Head, Method, Quantization, Stage, Tuning
from isocost.resources.task import LabelKind
from isocost.sweep.config import MethodConfig, StrongModelConfig, SweepConfig, TrainingConfig, merged_recipe

__all__ = ["PRESETS", "MethodVariant", "Preset", "StagePreset", "expand_methods"]

#: The paper's largest share of the model's own hardened prediction in the target (Burns et al. 2023).
_LOG_CONFIDENCE_WEIGHT = 0.5


@dataclass(frozen=True, slots=True)
class StagePreset:
    """One stage of a preset; the arguments are those of `Stage`, recipe holds changes to the recipe's defaults."""

    label_kind: LabelKind
    mixed_with: tuple[LabelKind, ...] = ()
    sampling: Sampling = Sampling.RANDOM
    recipe: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Preset:
    """What a method fine-tunes on.

    Attributes:
        sft: "none", "weak", "human", "weak>human" (one after the other) or "weak+human" (together).
        stages: In order.
    """

    sft: Literal["none", "weak", "human", "weak>human", "weak+human"]
    stages: tuple[StagePreset, ...] = ()


_WEAK, _HUMAN = StagePreset(LabelKind.WEAK), StagePreset(LabelKind.HUMAN)

#: By name in a spec.
PRESETS: Mapping[str, Preset] = {
    "few_shot_prompting": Preset("none"),
    "weak_sft": Preset("weak", (_WEAK,)),
    "human_sft": Preset("human", (_HUMAN,)),
    "sequential_sft": Preset("weak>human", (_WEAK, _HUMAN)),
    "sequential_sft_uncertainty": Preset(
        "weak>human", (_WEAK, StagePreset(LabelKind.HUMAN, sampling=Sampling.UNCERTAINTY))
    ),
    "sequential_sft_log_confidence": Preset(
        "weak>human",
        (StagePreset(LabelKind.WEAK, recipe={"log_confidence_weight": _LOG_CONFIDENCE_WEIGHT}), _HUMAN),
    ),
    "joint_sft": Preset("weak+human", (StagePreset(LabelKind.WEAK, mixed_with=(LabelKind.HUMAN,)),)),
}


@dataclass(frozen=True, slots=True)
class MethodVariant:
    """One method of a sweep.

    Attributes:
        name: Unique in the sweep; `family` and, where there is a few-shot block, its size and kind.
        family: The method without its few-shot setting.
        preset: What it fine-tunes on.
        few_shot_count: Labelled examples before each text.
        few_shot_kind: Of which kind their labels are; None where there are none.
        labels: Train on weak labels as they are, or hardened.
        config: The spec's section.
    """

    name: str
    family: str
    preset: Preset
    few_shot_count: int
    few_shot_kind: LabelKind | None
    labels: Literal["soft", "hard"]
    config: MethodConfig

    @property
    def is_prompting(self) -> bool:
        """Whether nothing is trained."""
        return not self.preset.stages

    @property
    def samples_by_uncertainty(self) -> bool:
        """Whether a stage chooses its labels among the whole list."""
        return any(stage.sampling is Sampling.UNCERTAINTY for stage in self.preset.stages)

    def n_shown(self, kind: LabelKind) -> int:
        """Labels of a kind in the few-shot block."""
        return self.few_shot_count if self.few_shot_kind is kind else 0

    def method(self, config: SweepConfig, strong: StrongModelConfig) -> Method:
        """The method as it is trained on a strong model.

        Raises:
            InvalidArgumentError: names the field that is wrong.
        """
        # From the widest section to the narrowest, which wins.
        wider, own = (config, strong), self.config
        sections: tuple[TrainingConfig, ...] = (*wider, own)
        stages = tuple(
            Stage(
                preset.label_kind,
                merged_recipe(*_patches(wider, preset.label_kind), preset.recipe, *_patches((own,), preset.label_kind)),
                preset.mixed_with,
                preset.sampling,
            )
            for preset in self.preset.stages
        )
        # A prompted model has no other head than its own, and no weights that change.
        head = "language_model" if self.is_prompting else _last(sections, "head", "language_model")
        tuning = "lora" if self.is_prompting else _last(sections, "tuning", "lora")
        return Method(
            name=self.name,
            stages=stages,
            head=Head[head.upper()],
            tuning=Tuning[tuning.upper()],
            few_shot_count=self.few_shot_count,
            few_shot_kind=self.few_shot_kind,
            lora_rank=_last(sections, "lora_rank", 8),
            lora_alpha=_last(sections, "lora_alpha", 16.0),
            lora_dropout=_last(sections, "lora_dropout", 0.0),
            n_layers=_last(sections, "n_layers", 0),
            quantization=Quantization[_last(sections, "quantization", "none").upper()],
        )


def _last(sections: Sequence[TrainingConfig], name: str, default: Any) -> Any:
    """The value of the narrowest section that sets it."""
    return next(
        (value for section in reversed(sections) if (value := getattr(section, name)) is not None),
        default,
    )


def _patches(sections: Sequence[TrainingConfig], kind: LabelKind) -> list[Mapping[str, Any]]:
    of_kind = "weak_recipe" if kind is LabelKind.WEAK else "human_recipe"
    return [patch for section in sections for patch in (section.recipe, getattr(section, of_kind))]


def expand_methods(config: SweepConfig) -> tuple[MethodVariant, ...]:
    """Every method of a spec: each entry once for each few-shot count and, where that is above 0, each kind.

    Raises:
        InvalidArgumentError: names the entry that is wrong, or that makes a method of a name that another has.
    """
    variants: dict[str, MethodVariant] = {}
    for index, section in enumerate(config.methods):
        for variant in _expand(section, f"methods.{index}"):
            if variant.name in variants:
                raise InvalidArgumentError(
                    f"methods.{index}.name", f"two methods are called {variant.name!r}; give this one another name"
                )
            variants[variant.name] = variant
            for strong in config.strong_models:
                _check(variant, config, strong, f"methods.{index}")
    return tuple(variants.values())


def _check(variant: MethodVariant, config: SweepConfig, strong: StrongModelConfig, field_name: str) -> None:
    try:
        variant.method(config, strong)
    except InvalidArgumentError as error:
        part = error.field.removeprefix("method.")
        raise InvalidArgumentError(
            f"{field_name}.{part}", f"{error.message} (method {variant.name}, model {strong.model})"
        ) from None


def _expand(section: MethodConfig, field_name: str) -> list[MethodVariant]:
    preset = PRESETS.get(section.method)
    if preset is None:
        near = difflib.get_close_matches(section.method, PRESETS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"give one of {', '.join(PRESETS)}"
        raise InvalidArgumentError(f"{field_name}.method", f"there is no method {section.method!r}; {hint}")
    family = section.name or section.method
    variants = []
    for count in section.few_shot_counts:
        for kind in section.few_shot_kinds if count else (None,):
            suffix = f"_{count}shot" + (f"_{kind}" if kind else "") if count or not preset.stages else ""
            few_shot_kind = LabelKind[kind.upper()] if kind else None
            variants.append(
                MethodVariant(f"{family}{suffix}", family, preset, count, few_shot_kind, section.labels, section)
            )
    chooses = any(variant.samples_by_uncertainty for variant in variants)
    if chooses and any(variant.few_shot_kind is LabelKind.HUMAN for variant in variants):
        raise InvalidArgumentError(
            f"{field_name}.few_shot_kinds",
            "uncertainty sampling chooses its human labels itself; show weak ones, or set few_shot_counts to [0]",
        )
    return variants
