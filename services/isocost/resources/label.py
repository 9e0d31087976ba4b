"""Labels and labelled items."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum

from google.protobuf.timestamp_pb2 import Timestamp

from isocost.core.errors import InvalidArgumentError
from isocost.resources.task import Item
from isocost.v1 import budget_service_pb2, labeler_service_pb2, resources_pb2

__all__ = [
    "ItemErrorReason",
    "Label",
    "LabelledItem",
    "Purpose",
    "check_probabilities",
    "one_hot",
    "time_from_proto",
    "time_to_proto",
]


class Purpose(Enum):
    """What an order's labels are for."""

    TRAINING = resources_pb2.PURPOSE_TRAINING
    EVALUATION = resources_pb2.PURPOSE_EVALUATION
    PILOT = resources_pb2.PURPOSE_PILOT
    GOLD_QUESTION = resources_pb2.PURPOSE_GOLD_QUESTION


class ItemErrorReason(Enum):
    """Why an item has no label."""

    INVALID_ITEM = labeler_service_pb2.ITEM_ERROR_REASON_INVALID_ITEM
    """It is malformed, or lacks a field that the task's template shows."""
    PROMPT_TOO_LONG = labeler_service_pb2.ITEM_ERROR_REASON_PROMPT_TOO_LONG
    """Its prompt is longer than the model's context."""
    REFUSED_BY_ENGINE = labeler_service_pb2.ITEM_ERROR_REASON_REFUSED_BY_ENGINE
    """The engine refuses its prompt."""
    UNUSABLE_ANSWER = labeler_service_pb2.ITEM_ERROR_REASON_UNUSABLE_ANSWER
    """The model's answer is no distribution over the choices."""


def time_from_proto(message: Timestamp) -> datetime | None:
    """An aware UTC time, or None where the message is unset."""
    return message.ToDatetime(tzinfo=UTC) if message.seconds or message.nanos else None


def time_to_proto(time: datetime | None) -> Timestamp | None:
    """The wire form of an aware time."""
    if time is None:
        return None
    message = Timestamp()
    message.FromDatetime(time)
    return message


def check_probabilities(field: str, probabilities: tuple[float, ...]) -> tuple[float, ...]:
    """Returns the probabilities where they are two or more, none negative, summing to 1 within 1e-3.

    Raises:
        InvalidArgumentError: names `field` where they are not.
    """
    bad = any(not math.isfinite(p) or p < 0 for p in probabilities)
    if len(probabilities) < 2 or bad or abs(sum(probabilities) - 1) > 1e-3:
        raise InvalidArgumentError(
            field, f"{list(probabilities)} is not a distribution; give one probability a choice, summing to 1"
        )
    return probabilities


def one_hot(choice: int, n_choices: int) -> tuple[float, ...]:
    """The label of someone who is certain: probability 1 for one choice."""
    return tuple(1.0 if index == choice else 0.0 for index in range(n_choices))


@dataclass(frozen=True, slots=True)
class Label:
    """One source's answer to one item.

    Attributes:
        item_id: The item it answers.
        probabilities: One for each choice of the task, summing to 1 within 1e-3.
        annotator: Who or what answered; "" for a source with a single voice.
        engine_fingerprint: For MODEL sources, model, engine and versions that made it.
        prompt_tokens: For MODEL sources, tokens of the prompt.
        choices_mass: For MODEL sources, probability mass of the choices before normalising.
        label_id, source_id, order_id, create_time, sequence, purpose, lease_id: Set by the budget service; sequence
            counts from 1 in each campaign and never changes, so that prefixes are nested subsets.
    """

    item_id: str
    probabilities: tuple[float, ...]
    annotator: str = ""
    engine_fingerprint: str = ""
    prompt_tokens: int = 0
    choices_mass: float = 0.0
    label_id: str = ""
    source_id: str = ""
    order_id: str = ""
    create_time: datetime | None = None
    sequence: int = 0
    purpose: Purpose | None = None
    lease_id: str = ""

    def __post_init__(self) -> None:
        if not self.item_id:
            raise InvalidArgumentError("labels.item_id", "empty; name the item that the label answers")
        check_probabilities("labels.probabilities", self.probabilities)

    @property
    def choice(self) -> int:
        """Index of the most probable choice; the first where several tie."""
        return max(range(len(self.probabilities)), key=lambda index: self.probabilities[index])

    @classmethod
    def from_proto(cls, message: resources_pb2.Label) -> Label:
        """Converts from the wire."""
        return cls(
            item_id=message.item_id,
            probabilities=tuple(message.probabilities),
            annotator=message.annotator,
            engine_fingerprint=message.engine_fingerprint,
            prompt_tokens=message.prompt_tokens,
            choices_mass=message.choices_mass,
            label_id=message.label_id,
            source_id=message.source_id,
            order_id=message.order_id,
            create_time=time_from_proto(message.create_time),
            sequence=message.sequence,
            purpose=Purpose(message.purpose) if message.purpose else None,
            lease_id=message.lease_id,
        )

    def to_proto(self) -> resources_pb2.Label:
        """Converts to the wire."""
        return resources_pb2.Label(
            item_id=self.item_id,
            probabilities=self.probabilities,
            annotator=self.annotator,
            engine_fingerprint=self.engine_fingerprint,
            prompt_tokens=self.prompt_tokens,
            choices_mass=self.choices_mass,
            label_id=self.label_id,
            source_id=self.source_id,
            order_id=self.order_id,
            create_time=time_to_proto(self.create_time),
            sequence=self.sequence,
            purpose=self.purpose.value if self.purpose else resources_pb2.PURPOSE_UNSPECIFIED,
            lease_id=self.lease_id,
        )


@dataclass(frozen=True, slots=True)
class LabelledItem:
    """A label and the item it answers."""

    label: Label
    item: Item

    @classmethod
    def from_proto(cls, message: budget_service_pb2.LabelledItem) -> LabelledItem:
        """Converts from the wire."""
        return cls(Label.from_proto(message.label), Item.from_proto(message.item))

    def to_proto(self) -> budget_service_pb2.LabelledItem:
        """Converts to the wire."""
        return budget_service_pb2.LabelledItem(label=self.label.to_proto(), item=self.item.to_proto())
