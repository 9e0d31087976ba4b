"""The human queue: leases, and how well annotators agree."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from isocost.resources.label import Purpose, time_from_proto, time_to_proto
from isocost.resources.task import Item, Task
from isocost.v1 import queue_service_pb2, resources_pb2

__all__ = ["LEASE_ITEMS_MAX", "Agreement", "AnnotatorRecord", "Consensus", "Lease", "LeaseState", "Queue"]

#: Items of one lease, and answers to them in one call.
LEASE_ITEMS_MAX = 1_000


class LeaseState(Enum):
    """Where a lease stands."""

    OPEN = resources_pb2.LEASE_STATE_OPEN
    ANSWERED = resources_pb2.LEASE_STATE_ANSWERED
    RELEASED = resources_pb2.LEASE_STATE_RELEASED
    EXPIRED = resources_pb2.LEASE_STATE_EXPIRED


@dataclass(frozen=True, slots=True)
class Lease:
    """Items handed to one annotator for a while.

    Attributes:
        lease_id, campaign_id, source_id: Its own id, its campaign, and the HUMAN source that is paid.
        annotator: Who answers.
        state: Where it stands.
        n_items: Items handed out.
        n_answered: Of those, answered and paid.
        expire_time: When the items that are not answered go back to the queue.
        create_time: When it was made.
    """

    lease_id: str
    campaign_id: str
    source_id: str
    annotator: str
    state: LeaseState
    n_items: int
    n_answered: int
    expire_time: datetime | None = None
    create_time: datetime | None = None

    @classmethod
    def from_proto(cls, message: resources_pb2.Lease) -> Lease:
        """Converts from the wire."""
        return cls(
            lease_id=message.lease_id,
            campaign_id=message.campaign_id,
            source_id=message.source_id,
            annotator=message.annotator,
            state=LeaseState(message.state),
            n_items=message.n_items,
            n_answered=message.n_answered,
            expire_time=time_from_proto(message.expire_time),
            create_time=time_from_proto(message.create_time),
        )

    def to_proto(self) -> resources_pb2.Lease:
        """Converts to the wire."""
        return resources_pb2.Lease(
            lease_id=self.lease_id,
            campaign_id=self.campaign_id,
            source_id=self.source_id,
            annotator=self.annotator,
            state=self.state.value,
            n_items=self.n_items,
            n_answered=self.n_answered,
            expire_time=time_to_proto(self.expire_time),
            create_time=time_to_proto(self.create_time),
        )


@dataclass(frozen=True, slots=True)
class AnnotatorRecord:
    """What one annotator did for one source, and how well.

    Attributes:
        annotator: The annotator.
        n_labels: Answers given and paid, gold questions included.
        n_gold, n_gold_right: Of those, answers to gold questions, and right ones.
        estimated_accuracy: Probability of a right answer by the Dawid-Skene model; None where no item has two answers.
    """

    annotator: str
    n_labels: int
    n_gold: int
    n_gold_right: int
    estimated_accuracy: float | None = None

    @classmethod
    def from_proto(cls, message: resources_pb2.AnnotatorRecord) -> AnnotatorRecord:
        """Converts from the wire."""
        return cls(
            annotator=message.annotator,
            n_labels=message.n_labels,
            n_gold=message.n_gold,
            n_gold_right=message.n_gold_right,
            estimated_accuracy=message.estimated_accuracy if message.HasField("estimated_accuracy") else None,
        )

    def to_proto(self) -> resources_pb2.AnnotatorRecord:
        """Converts to the wire."""
        return resources_pb2.AnnotatorRecord(
            annotator=self.annotator,
            n_labels=self.n_labels,
            n_gold=self.n_gold,
            n_gold_right=self.n_gold_right,
            estimated_accuracy=self.estimated_accuracy,
        )


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well annotators agree on the items that two or more of them answered.

    Attributes:
        n_items, n_labels: Such items, and the answers to them.
        pairwise_agreement: Share of pairs of answers to one item that are equal; None where there is no pair.
        cohen_kappa: Mean over pairs of annotators, weighted by the items both answered; None where undefined.
        fleiss_kappa: Over the items with the most frequent number of answers; None where undefined.
    """

    n_items: int = 0
    n_labels: int = 0
    pairwise_agreement: float | None = None
    cohen_kappa: float | None = None
    fleiss_kappa: float | None = None

    @classmethod
    def from_proto(cls, message: resources_pb2.Agreement) -> Agreement:
        """Converts from the wire."""
        return cls(
            n_items=message.n_items,
            n_labels=message.n_labels,
            pairwise_agreement=message.pairwise_agreement if message.HasField("pairwise_agreement") else None,
            cohen_kappa=message.cohen_kappa if message.HasField("cohen_kappa") else None,
            fleiss_kappa=message.fleiss_kappa if message.HasField("fleiss_kappa") else None,
        )

    def to_proto(self) -> resources_pb2.Agreement:
        """Converts to the wire."""
        return resources_pb2.Agreement(
            n_items=self.n_items,
            n_labels=self.n_labels,
            pairwise_agreement=self.pairwise_agreement,
            cohen_kappa=self.cohen_kappa,
            fleiss_kappa=self.fleiss_kappa,
        )


@dataclass(frozen=True, slots=True)
class Consensus:
    """One item's answer as its annotators together give it.

    Attributes:
        item: The item.
        probabilities: One a choice, by the Dawid-Skene model.
        n_labels: Answers it is made of.
        share_agreeing: Share of them that gave the most probable choice.
        purpose: What the labels were bought for.
    """

    item: Item
    probabilities: tuple[float, ...]
    n_labels: int
    share_agreeing: float
    purpose: Purpose

    @classmethod
    def from_proto(cls, message: resources_pb2.Consensus) -> Consensus:
        """Converts from the wire."""
        return cls(
            item=Item.from_proto(message.item),
            probabilities=tuple(message.probabilities),
            n_labels=message.n_labels,
            share_agreeing=message.share_agreeing,
            purpose=Purpose(message.purpose),
        )

    def to_proto(self) -> resources_pb2.Consensus:
        """Converts to the wire."""
        return resources_pb2.Consensus(
            item=self.item.to_proto(),
            probabilities=self.probabilities,
            n_labels=self.n_labels,
            share_agreeing=self.share_agreeing,
            purpose=self.purpose.value,
        )


@dataclass(frozen=True, slots=True)
class Queue:
    """The items of a campaign that await human labels of one source, as one annotator sees them.

    Attributes:
        campaign_id, source_id: The campaign, and its HUMAN source.
        task: The question asked of each item.
        n_waiting: Items that the annotator could lease now, gold questions included.
        n_awaited: Labels that the open orders await from anybody, those in somebody's hands included.
        n_answered: Labels that the annotator has given for the source.
    """

    campaign_id: str
    source_id: str
    task: Task
    n_waiting: int
    n_awaited: int
    n_answered: int

    @classmethod
    def from_proto(cls, message: queue_service_pb2.Queue) -> Queue:
        """Converts from the wire."""
        return cls(
            campaign_id=message.campaign_id,
            source_id=message.source_id,
            task=Task.from_proto(message.task),
            n_waiting=message.n_waiting,
            n_awaited=message.n_awaited,
            n_answered=message.n_answered,
        )

    def to_proto(self) -> queue_service_pb2.Queue:
        """Converts to the wire."""
        return queue_service_pb2.Queue(
            campaign_id=self.campaign_id,
            source_id=self.source_id,
            task=self.task.to_proto(),
            n_waiting=self.n_waiting,
            n_awaited=self.n_awaited,
            n_answered=self.n_answered,
        )
