"""Client of the human queue: all that an annotator's tool needs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from isocost.client.answer import AnsweredItems, LeasedItems
from isocost.client.heartbeat import Heartbeat
from isocost.client.retry import RetryPolicy
from isocost.client.service_client import ServiceClient
from isocost.core.caller import Caller, Role
from isocost.core.channel import ChannelSettings
from isocost.core.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    IsocostError,
    LimitExceededError,
    UnavailableError,
)
from isocost.core.ids import new_id
from isocost.resources.label import Label
from isocost.resources.queue import Lease, LeaseState, Queue
from isocost.resources.task import Item, Task
from isocost.v1 import queue_service_pb2 as pb
from isocost.v1 import queue_service_pb2_grpc

__all__ = ["AnsweredItems", "KeptLease", "LeasedItems", "QueueClient"]


@dataclass(slots=True)
class KeptLease:
    """A lease that heartbeats keep alive.

    Attributes:
        lease: As the last heartbeat left it.
        error: Why there are no more heartbeats, for example because every item is answered; None while there are.
    """

    lease: Lease
    error: IsocostError | None = None


class QueueClient(ServiceClient):
    """Leases and answers over gRPC, at the budget service's address.

    Usage::

        async with QueueClient("127.0.0.1:7601") as queue:
            leased = await queue.lease_items("l1", "ag_news", "human", "ann")
            async with queue.keep_lease(leased.lease):
                labels = [ask(item, leased.task) for item in leased.items]
                await queue.answer_items("a1", leased.lease.lease_id, labels)

    Errors, repeats and request ids are as in `BudgetClient`.
    """

    def __init__(
        self, address: str, *, channel: ChannelSettings | None = None, retry: RetryPolicy | None = None
    ) -> None:
        super().__init__(address, channel=channel, retry=retry)
        self._stub = queue_service_pb2_grpc.QueueServiceStub(self._channel)

    async def get_caller(self) -> Caller:
        """Who the server takes this client for; its role is None where calls carry no token."""
        response = await self._repeater.unary(self._stub.GetCaller, pb.GetCallerRequest())
        return Caller(response.principal, Role(response.role) if response.role else None)

    async def list_queues(self, annotator: str = "") -> list[Queue]:
        """The queues in which items may wait, by campaign, oldest first.

        Args:
            annotator: Who would answer; may be left out where the token names the annotator.
        """
        response = await self._repeater.unary(self._stub.ListQueues, pb.ListQueuesRequest(annotator=annotator))
        return [Queue.from_proto(queue) for queue in response.queues]

    async def lease_items(
        self,
        request_id: str,
        campaign_id: str,
        source_id: str,
        annotator: str = "",
        n_items: int = 10,
        *,
        duration: timedelta | None = None,
    ) -> LeasedItems:
        """Hands out up to n_items items that await a label, oldest order first.

        Args:
            request_id: The caller's id of this mutation.
            campaign_id: The campaign.
            source_id: The HUMAN source to answer for.
            annotator: Who answers; may be left out where the token names the annotator.
            n_items: At most so many, 1 to 1,000.
            duration: How long, 1 second to 24 hours; 30 minutes where it is None.
        """
        request = pb.LeaseItemsRequest(
            request_id=request_id,
            campaign_id=campaign_id,
            source_id=source_id,
            annotator=annotator,
            n_items=n_items,
        )
        if duration is not None:
            request.duration.FromTimedelta(duration)
        response = await self._repeater.unary(self._stub.LeaseItems, request)
        if not response.HasField("lease"):
            return LeasedItems(None, (), None)
        items = tuple(Item.from_proto(item) for item in response.items)
        return LeasedItems(Lease.from_proto(response.lease), items, Task.from_proto(response.task))

    async def extend_lease(self, request_id: str, lease_id: str) -> Lease:
        """A heartbeat: the lease ends its whole duration from now, but never later than 24 hours after it began."""
        request = pb.ExtendLeaseRequest(request_id=request_id, lease_id=lease_id)
        return Lease.from_proto((await self._repeater.unary(self._stub.ExtendLease, request)).lease)

    async def answer_items(self, request_id: str, lease_id: str, labels: Sequence[Label]) -> AnsweredItems:
        """Stores 1 to 1,000 answers to items of a lease and pays for each that was not there yet.

        A label that names no annotator is the lease's annotator's; only callers with another role than annotator may
        name somebody else.
        """
        request = pb.AnswerItemsRequest(
            request_id=request_id, lease_id=lease_id, labels=[label.to_proto() for label in labels]
        )
        response = await self._repeater.unary(self._stub.AnswerItems, request)
        return AnsweredItems(response.n_accepted, response.n_duplicate, Lease.from_proto(response.lease))

    async def release_lease(self, request_id: str, lease_id: str) -> Lease:
        """Gives the items that are not answered back to the queue."""
        request = pb.ReleaseLeaseRequest(request_id=request_id, lease_id=lease_id)
        return Lease.from_proto((await self._repeater.unary(self._stub.ReleaseLease, request)).lease)

    @asynccontextmanager
    async def keep_lease(self, lease: Lease, *, every: timedelta | None = None) -> AsyncIterator[KeptLease]:
        """Keeps a lease alive while the block runs, by heartbeats with request ids of their own.

        A server that is away is asked again at the next heartbeat. The heartbeats end with the lease: when every item
        is answered, when it was released, or 24 hours after it began. At the end of the block it is left as it is.

        Args:
            lease: The lease as `lease_items` gave it.
            every: Time between heartbeats; a third of the lease's duration where it is None.

        Raises:
            InvalidArgumentError: where `every` is not above zero.
        """
        if every is None:
            if lease.create_time is None or lease.expire_time is None:
                raise InvalidArgumentError("every", "not given, and the lease does not tell its duration; give it")
            every = (lease.expire_time - lease.create_time) / 3
        if every <= timedelta(0):
            raise InvalidArgumentError("every", f"{every}; give a time greater than zero")
        kept = KeptLease(lease)

        async def beat() -> bool:
            try:
                kept.lease = await self.extend_lease(new_id("heartbeat"), kept.lease.lease_id)
            except (UnavailableError, DeadlineExceededError, LimitExceededError):
                return True
            except IsocostError as error:
                kept.error = error
                return False
            return kept.lease.state is LeaseState.OPEN

        async with Heartbeat(beat, every.total_seconds()):
            yield kept
