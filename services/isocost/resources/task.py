"""Tasks, items and label sources."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from isocost.core.errors import InvalidArgumentError
from isocost.core.ids import check_id
from isocost.core.money import Money
from isocost.v1 import resources_pb2

__all__ = ["CHOICES_MAX", "TOKENS_PER_PRICE", "Item", "LabelKind", "Source", "SourceKind", "Task"]

#: vLLM answers at most 128 token ids a request.
CHOICES_MAX = 128
#: Metered prices are for a million tokens.
TOKENS_PER_PRICE = 1_000_000
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


class SourceKind(Enum):
    """Where a label comes from."""

    MODEL = resources_pb2.SOURCE_KIND_MODEL
    HUMAN = resources_pb2.SOURCE_KIND_HUMAN


class LabelKind(Enum):
    """The two kinds of label."""

    WEAK = resources_pb2.LABEL_KIND_WEAK
    HUMAN = resources_pb2.LABEL_KIND_HUMAN


def _field_names(template: str) -> tuple[str, ...]:
    names: dict[str, None] = {}
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise InvalidArgumentError("task.template", f"{error}; write {{{{ and }}}} for literal braces") from None
    for _, name, spec, conversion in parts:
        if name is None:
            continue
        if not _FIELD.match(name) or spec or conversion:
            raise InvalidArgumentError("task.template", f"{{{name}}} is not a plain field name")
        names[name] = None
    return tuple(names)


@dataclass(frozen=True, slots=True)
class Task:
    """The question asked of each item.

    Attributes:
        name: A short name.
        template: Text with `{field}` placeholders.
        choices: Two or more different answers; a label is a distribution over them, in this order.

    Raises:
        InvalidArgumentError: names the field that is wrong.
    """

    name: str
    template: str
    choices: tuple[str, ...]
    #: Names of the template's placeholders, in their order of first appearance.
    fields: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_id("task.name", self.name)
        if len(self.choices) < 2:
            raise InvalidArgumentError("task.choices", f"{len(self.choices)} given; a task needs at least two choices")
        if len(self.choices) > CHOICES_MAX:
            raise InvalidArgumentError(
                "task.choices", f"{len(self.choices)} given; at most {CHOICES_MAX} are supported"
            )
        if any(not choice.strip() for choice in self.choices):
            raise InvalidArgumentError("task.choices", "a choice is empty; give each a word")
        if len(set(self.choices)) != len(self.choices):
            raise InvalidArgumentError("task.choices", "two choices are the same; each must differ")
        object.__setattr__(self, "fields", _field_names(self.template))
        if not self.fields:
            raise InvalidArgumentError(
                "task.template", "shows no field of the item; put at least one {field} placeholder into it"
            )

    def render(self, fields: Mapping[str, str]) -> str:
        """The question about one item.

        Raises:
            InvalidArgumentError: where a field that the template shows is missing.
        """
        missing = [name for name in self.fields if name not in fields]
        if missing:
            raise InvalidArgumentError(f"fields.{missing[0]}", f"missing; the task's template shows {{{missing[0]}}}")
        return self.template.format_map(dict(fields))

    @classmethod
    def from_proto(cls, message: resources_pb2.Task) -> Task:
        """Converts from the wire."""
        return cls(message.name, message.template, tuple(message.choices))

    def to_proto(self) -> resources_pb2.Task:
        """Converts to the wire."""
        return resources_pb2.Task(name=self.name, template=self.template, choices=self.choices)


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to be labelled.

    Attributes:
        item_id: The caller's id, unique in its campaign; 1 to 512 characters.
        fields: Text by field name.
        gold_choice: Index of the known right choice, which makes the item a gold question; None for all others.
    """

    item_id: str
    fields: Mapping[str, str]
    gold_choice: int | None = None

    def __post_init__(self) -> None:
        if not 0 < len(self.item_id) <= 512:
            raise InvalidArgumentError("item_id", "empty or longer than 512 characters")
        if not self.fields:
            raise InvalidArgumentError("fields", f"item {self.item_id!r} has no fields")

    @classmethod
    def from_proto(cls, message: resources_pb2.Item) -> Item:
        """Converts from the wire."""
        gold_choice = message.gold_choice if message.HasField("gold_choice") else None
        return cls(message.item_id, dict(message.fields), gold_choice)

    def to_proto(self) -> resources_pb2.Item:
        """Converts to the wire."""
        return resources_pb2.Item(item_id=self.item_id, fields=self.fields, gold_choice=self.gold_choice)


@dataclass(frozen=True, slots=True)
class Source:
    """A label source with its price.

    Attributes:
        source_id: Chosen by the caller, unique in its campaign.
        kind: MODEL or HUMAN.
        unit_price: Price of one label; greater than zero. For a metered source, the most that one label may cost.
        model: For MODEL sources, folder or hub name of the weak labeller; else "".
        price_per_million_tokens: For metered MODEL sources, price of a million prompt tokens; None if fixed.

    Raises:
        InvalidArgumentError: names the field that is wrong.
    """

    source_id: str
    kind: SourceKind
    unit_price: Money
    model: str = ""
    price_per_million_tokens: Money | None = None

    def __post_init__(self) -> None:
        check_id("source.source_id", self.source_id)
        if self.unit_price.micros <= 0:
            raise InvalidArgumentError(
                "source.unit_price", f"{self.unit_price} for {self.source_id!r}; a price must be greater than zero"
            )
        if self.price_per_million_tokens is not None:
            self._check_metered(self.price_per_million_tokens)

    def _check_metered(self, price: Money) -> None:
        field = "source.price_per_million_tokens"
        if self.kind is not SourceKind.MODEL:
            raise InvalidArgumentError(field, f"given for {self.source_id!r}; only a MODEL source reads tokens")
        if price.micros <= 0:
            raise InvalidArgumentError(field, f"{price} for {self.source_id!r}; a price must be greater than zero")
        if price.currency_code != self.unit_price.currency_code:
            raise InvalidArgumentError(
                field,
                f"in {price.currency_code}, but unit_price is in {self.unit_price.currency_code}; give one",
            )

    def label_price(self, prompt_tokens: int) -> Money:
        """What one label of so many prompt tokens costs: the fixed price, or the metered one rounded up to a micro.

        It may be more than `unit_price`; such a label of a metered source is refused by the budget service.
        """
        price = self.price_per_million_tokens
        if price is None:
            return self.unit_price
        return Money(-(-prompt_tokens * price.micros // TOKENS_PER_PRICE), price.currency_code)

    @property
    def label_kind(self) -> LabelKind:
        """WEAK for MODEL sources, HUMAN for HUMAN ones."""
        return LabelKind.WEAK if self.kind is SourceKind.MODEL else LabelKind.HUMAN

    @classmethod
    def from_proto(cls, message: resources_pb2.Source) -> Source:
        """Converts from the wire."""
        if message.kind not in (kind.value for kind in SourceKind):
            raise InvalidArgumentError("source.kind", "not set; give MODEL or HUMAN")
        metered = message.HasField("price_per_million_tokens")
        return cls(
            message.source_id,
            SourceKind(message.kind),
            Money.from_proto(message.unit_price),
            message.model,
            Money.from_proto(message.price_per_million_tokens) if metered else None,
        )

    def to_proto(self) -> resources_pb2.Source:
        """Converts to the wire."""
        metered = self.price_per_million_tokens
        return resources_pb2.Source(
            source_id=self.source_id,
            kind=self.kind.value,
            unit_price=self.unit_price.to_proto(),
            model=self.model,
            price_per_million_tokens=metered.to_proto() if metered else None,
        )
