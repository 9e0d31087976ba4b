"""Wire messages to checked domain objects. What the service itself sets is ignored where a caller sends it."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from datetime import timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from isocost.budget.labels import check_label
from isocost.budget.orders import OrderRequest
from isocost.budget.plan_inputs import PlanRequest
from isocost.budget.queue import LeaseRequest
from isocost.budget.validation import BATCH_MAX, check_count, check_text, parse_enum, parse_money
from isocost.core.errors import InvalidArgumentError
from isocost.resources.campaign import Campaign, Sampling, Sharing
from isocost.resources.label import Label, Purpose
from isocost.resources.observation import Observation
from isocost.resources.pool import ItemState
from isocost.resources.queue import LEASE_ITEMS_MAX
from isocost.resources.task import CHOICES_MAX, Source, SourceKind
from isocost.v1 import budget_service_pb2 as pb
from isocost.v1 import queue_service_pb2 as queue_pb
from isocost.v1 import resources_pb2

__all__ = [
    "answers_from_wire",
    "campaign_from_wire",
    "id_from_wire",
    "item_state_from_wire",
    "labels_from_wire",
    "lease_request_from_wire",
    "observation_from_wire",
    "optional_id_from_wire",
    "order_request_from_wire",
    "plan_request_from_wire",
    "purposes_from_wire",
    "scores_from_wire",
    "source_from_wire",
]

_ID_BYTES_MAX = 512
_CAMPAIGN_OUTPUT = ("state", "create_time")
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
    if message.HasField("price_per_million_tokens"):
        parse_money("source.price_per_million_tokens", message.price_per_million_tokens)
    return Source.from_proto(message)


def optional_id_from_wire(field: str, value: str) -> str:
    """The id of something that a request may name; "" where it does not.

    Raises:
        InvalidArgumentError: where it could not be an id.
    """
    return check_text(field, value, bytes_max=_ID_BYTES_MAX)


def _duration_from_wire(field: str, message: Duration) -> timedelta:
    try:
        return message.ToTimedelta()
    except (ValueError, OverflowError):
        raise InvalidArgumentError(field, "is out of range") from None


def order_request_from_wire(request: pb.CreateOrderRequest) -> OrderRequest:
    """What an order asks for.

    Raises:
        InvalidArgumentError: names the field that is wrong.
    """
    sampling, item_ids = request.sampling, tuple(request.item_ids)
    items_of_order_id = optional_id_from_wire("items_of_order_id", request.items_of_order_id)
    if sampling == resources_pb2.SAMPLING_UNSPECIFIED:
        named = item_ids or items_of_order_id
        sampling = resources_pb2.SAMPLING_GIVEN if named else resources_pb2.SAMPLING_RANDOM
    if sampling != resources_pb2.SAMPLING_GIVEN and item_ids:
        raise InvalidArgumentError("item_ids", "given, but the sampling is not GIVEN; leave them out or give GIVEN")
    if sampling == resources_pb2.SAMPLING_GIVEN and not (item_ids or items_of_order_id):
        raise InvalidArgumentError("item_ids", "empty, but the sampling is GIVEN; name the items")
    return OrderRequest(
        request_id=request.request_id,
        campaign_id=id_from_wire("campaign_id", request.campaign_id),
        source_id=id_from_wire("source_id", request.source_id),
        purpose=parse_enum("purpose", Purpose, request.purpose),
        n_labels=check_count("n_labels", request.n_labels),
        sampling=parse_enum("sampling", Sampling, sampling),
        item_ids=item_ids,
        overlap=check_count("overlap", request.overlap) or 1,
        time_to_live=(
            _duration_from_wire("time_to_live", request.time_to_live) if request.HasField("time_to_live") else None
        ),
        sharing=parse_enum("sharing", Sharing, request.sharing or resources_pb2.SHARING_NONE),
        items_of_order_id=items_of_order_id,
    )


def lease_request_from_wire(request: queue_pb.LeaseItemsRequest) -> LeaseRequest:
    """What a lease asks for.

    Raises:
        InvalidArgumentError: names the field that is wrong.
    """
    default = LeaseRequest("c", "s", "a")
    return LeaseRequest(
        campaign_id=id_from_wire("campaign_id", request.campaign_id),
        source_id=id_from_wire("source_id", request.source_id),
        annotator=request.annotator,
        n_items=check_count("n_items", request.n_items) or default.n_items,
        duration=(
            _duration_from_wire("duration", request.duration) if request.HasField("duration") else default.duration
        ),
    )


def scores_from_wire(messages: Collection[pb.ItemScore]) -> list[tuple[str, float]]:
    """1 to 10,000 (item_id, uncertainty).

    Raises:
        InvalidArgumentError: names the score that is wrong by its place in the request.
    """
    check_count("scores", len(messages), minimum=1, maximum=BATCH_MAX)
    scores: dict[str, float] = {}
    for index, message in enumerate(messages):
        item_id = id_from_wire(f"scores[{index}].item_id", message.item_id)
        if item_id in scores:
            raise InvalidArgumentError(f"scores[{index}].item_id", f"{item_id!r} is scored twice; score it once")
        if not math.isfinite(message.uncertainty):
            raise InvalidArgumentError(f"scores[{index}].uncertainty", f"{message.uncertainty} is not a finite number")
        scores[item_id] = message.uncertainty
    return list(scores.items())


def item_state_from_wire(number: int) -> ItemState | None:
    """A filter by where items stand; None for all.

    Raises:
        InvalidArgumentError: where the state is unknown.
    """
    return parse_enum("state", ItemState, number) if number else None


def labels_from_wire(messages: Collection[resources_pb2.Label]) -> list[Label]:
    """1 to 10,000 submitted labels.

    Raises:
        InvalidArgumentError: names the field that is wrong by its place in the request, as `labels[3].probabilities`.
    """
    return _labels_from_wire(messages, BATCH_MAX)


def answers_from_wire(messages: Collection[resources_pb2.Label]) -> list[Label]:
    """1 to 1,000 answers to the items of a lease.

    Raises:
        InvalidArgumentError: as `labels_from_wire`.
    """
    return _labels_from_wire(messages, LEASE_ITEMS_MAX)


def _labels_from_wire(messages: Collection[resources_pb2.Label], n_labels_max: int) -> list[Label]:
    check_count("labels", len(messages), minimum=1, maximum=n_labels_max)
    labels: list[Label] = []
    for index, message in enumerate(messages):
        try:
            label = _label_from_wire(message)
        except InvalidArgumentError as error:
            field = error.field.removeprefix("labels.")
            raise InvalidArgumentError(
                f"labels[{index}].{field}", f"{error.message} (item {message.item_id!r})"
            ) from None
        labels.append(check_label(index, label))
    return labels


def _label_from_wire(message: resources_pb2.Label) -> Label:
    """The part of a label that its sender decides."""
    probabilities = tuple(message.probabilities)
    if not 2 <= len(probabilities) <= CHOICES_MAX:
        check_count("probabilities", len(probabilities), minimum=2, maximum=CHOICES_MAX)
    return Label(
        item_id=message.item_id,
        probabilities=probabilities,
        annotator=message.annotator,
        engine_fingerprint=message.engine_fingerprint,
        prompt_tokens=message.prompt_tokens,
        choices_mass=message.choices_mass,
    )


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


def plan_request_from_wire(message: pb.PlanRequest) -> PlanRequest:
    """What a plan is asked for.

    Raises:
        InvalidArgumentError: names the field that is wrong.
    """
    return PlanRequest(
        tranche=parse_money("tranche", message.tranche) if message.HasField("tranche") else None,
        weak_source_id=optional_id_from_wire("weak_source_id", message.weak_source_id),
        human_source_id=optional_id_from_wire("human_source_id", message.human_source_id),
        target_accuracy=message.target_accuracy if message.HasField("target_accuracy") else None,
        gain_min=message.gain_min if message.HasField("gain_min") else None,
    )
