"""Wire messages to checked domain objects. What the service itself sets is ignored where a caller sends it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from google.protobuf.message import Message

from isocost.budget.labels import check_label
from isocost.budget.validation import BATCH_MAX, check_count, check_text, parse_enum, parse_money
from isocost.core.errors import InvalidArgumentError
from isocost.resources.campaign import Campaign
from isocost.resources.label import Label, Purpose
from isocost.resources.observation import Observation
from isocost.resources.task import CHOICES_MAX, Source, SourceKind
from isocost.v1 import budget_service_pb2 as pb
from isocost.v1 import resources_pb2

__all__ = [
    "campaign_from_wire",
    "id_from_wire",
    "item_ids_from_wire",
    "labels_from_wire",
    "observation_from_wire",
    "purposes_from_wire",
    "source_from_wire",
]

_ID_BYTES_MAX = 512
_CAMPAIGN_OUTPUT = ("state", "create_time")
_LABEL_OUTPUT = ("label_id", "source_id", "order_id", "create_time", "sequence", "purpose")
_OBSERVATION_OUTPUT = ("cost", "create_time")


def _clear(message: Message, fields: tuple[str, ...]) -> None:
    for field in fields:
        message.ClearField(field)


def id_from_wire(field: str, value: str) -> str:
    """The id of something that is looked up.

    Raises:
        InvalidArgumentError: where it is empty or could not be an id.
    """
    return check_text(field, value, required=True, bytes_max=_ID_BYTES_MAX)


def campaign_from_wire(message: resources_pb2.Campaign) -> Campaign:
    """A new campaign.

    Raises:
        InvalidArgumentError: names the field that is wrong.
    """
    parse_money("campaign.budget", message.budget)
    _clear(message, _CAMPAIGN_OUTPUT)
    return Campaign.from_proto(message)


def source_from_wire(message: resources_pb2.Source) -> Source:
    """A new source.

    Raises:
        InvalidArgumentError: names the field that is wrong.
    """
    parse_money("source.unit_price", message.unit_price)
    parse_enum("source.kind", SourceKind, message.kind)
    return Source.from_proto(message)


def item_ids_from_wire(request: pb.CreateOrderRequest) -> tuple[str, ...]:
    """The items an order is for; empty where they are chosen at random.

    Raises:
        InvalidArgumentError: where the sampling is unknown or does not fit the item ids.
    """
    known = (resources_pb2.SAMPLING_UNSPECIFIED, resources_pb2.SAMPLING_RANDOM, resources_pb2.SAMPLING_GIVEN)
    if request.sampling not in known:
        raise InvalidArgumentError("sampling", f"{request.sampling} is unknown; give RANDOM or GIVEN")
    if request.sampling == resources_pb2.SAMPLING_RANDOM and request.item_ids:
        raise InvalidArgumentError("item_ids", "given, but the sampling is RANDOM; leave them out or give GIVEN")
    if request.sampling == resources_pb2.SAMPLING_GIVEN and not request.item_ids:
        raise InvalidArgumentError("item_ids", "empty, but the sampling is GIVEN; name the items")
    return tuple(request.item_ids)


def labels_from_wire(messages: Collection[resources_pb2.Label]) -> list[Label]:
    """1 to 10,000 submitted labels.

    Raises:
        InvalidArgumentError: names the field that is wrong by its place in the request, as `labels[3].probabilities`.
    """
    check_count("labels", len(messages), minimum=1, maximum=BATCH_MAX)
    labels: list[Label] = []
    for index, message in enumerate(messages):
        _clear(message, _LABEL_OUTPUT)
        check_count(f"labels[{index}].probabilities", len(message.probabilities), minimum=2, maximum=CHOICES_MAX)
        try:
            label = Label.from_proto(message)
        except InvalidArgumentError as error:
            field = error.field.removeprefix("labels.")
            raise InvalidArgumentError(
                f"labels[{index}].{field}", f"{error.message} (item {message.item_id!r})"
            ) from None
        labels.append(check_label(index, label))
    return labels


def observation_from_wire(message: resources_pb2.Observation) -> Observation:
    """What a run showed.

    Raises:
        InvalidArgumentError: names the field that is wrong.
    """
    if not message.HasField("evaluation"):
        raise InvalidArgumentError("observation.evaluation", "not set; give the accuracy on the evaluation labels")
    _clear(message, _OBSERVATION_OUTPUT)
    for field, value in (("weak_source_id", message.weak_source_id), ("human_source_id", message.human_source_id)):
        check_text(f"observation.{field}", value, bytes_max=_ID_BYTES_MAX)
    return Observation.from_proto(message)


def purposes_from_wire(numbers: Sequence[int]) -> frozenset[Purpose]:
    """A filter by purpose; empty for all.

    Raises:
        InvalidArgumentError: where a purpose is unset or unknown.
    """
    return frozenset(parse_enum("purposes", Purpose, number) for number in numbers)
