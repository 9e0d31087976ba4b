"""Rpcs of the human queue: all that an annotator may call."""

# The methods are named as their rpcs, and take a context whether they need it or not.
# ruff: noqa: ARG002, N802

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from isocost.budget import leases, queue
from isocost.budget.requests import RequestKey
from isocost.budget.rpcs.transactions import Transactions
from isocost.budget.validation import check_text
from isocost.budget.waiting import list_queues
from isocost.budget.wire import answers_from_wire, id_from_wire, lease_request_from_wire
from isocost.core.caller import Role, current_caller
from isocost.core.errors import PermissionDeniedError
from isocost.v1 import queue_service_pb2 as pb
from isocost.v1 import queue_service_pb2_grpc

__all__ = ["QueueRpcs"]


class QueueRpcs(Transactions, queue_service_pb2_grpc.QueueServiceServicer):
    """The servicer of `isocost.v1.QueueService`."""

    async def GetCaller(self, request: pb.GetCallerRequest, context: Any) -> pb.GetCallerResponse:
        """Who the server takes the caller for."""
        who = current_caller()
        return pb.GetCallerResponse(principal=who.principal, role=who.role or "")

    async def ListQueues(self, request: pb.ListQueuesRequest, context: Any) -> pb.ListQueuesResponse:
        """Lists the queues in which items may wait."""
        annotator = check_text("annotator", _annotator(request.annotator), required=True, bytes_max=512)
        found = await self._read(lambda connection: list_queues(connection, annotator))
        return pb.ListQueuesResponse(queues=[one.to_proto() for one in found])

    async def LeaseItems(self, request: pb.LeaseItemsRequest, context: Any) -> pb.LeaseItemsResponse:
        """Hands out items that await a label."""
        # Before the key is made, so that two annotators with the same request id are told apart.
        request.annotator = _annotator(request.annotator)
        key = RequestKey.of("LeaseItems", request.request_id, request)
        asked = lease_request_from_wire(request)
        gold = queue.GoldRule(
            fraction=self.settings.gold_fraction,
            accuracy_min=self.settings.gold_accuracy_min,
            n_answers_min=self.settings.gold_answers_min,
        )

        def work(connection: Connection) -> pb.LeaseItemsResponse:
            leased = queue.lease_items(connection, asked, gold)
            if leased is None:
                return pb.LeaseItemsResponse()
            return pb.LeaseItemsResponse(
                lease=leased.lease.to_proto(),
                items=[item.to_proto() for item in leased.items],
                task=leased.task.to_proto(),
            )

        return await self._once(
            key,
            pb.LeaseItemsResponse,
            work,
            lambda _: asked.campaign_id,
            nothing_done=lambda response: not response.HasField("lease"),
        )

    async def ExtendLease(self, request: pb.ExtendLeaseRequest, context: Any) -> pb.ExtendLeaseResponse:
        """A heartbeat: the lease ends its whole duration from now."""
        key = RequestKey.of("ExtendLease", request.request_id, request)
        lease_id = await self._own_lease(request.lease_id)

        def work(connection: Connection) -> pb.ExtendLeaseResponse:
            return pb.ExtendLeaseResponse(lease=leases.extend_lease(connection, lease_id).to_proto())

        return await self._once(key, pb.ExtendLeaseResponse, work, lambda response: response.lease.campaign_id)

    async def AnswerItems(self, request: pb.AnswerItemsRequest, context: Any) -> pb.AnswerItemsResponse:
        """Stores answers and pays for each."""
        key = RequestKey.of("AnswerItems", request.request_id, request)
        answers = answers_from_wire(request.labels)
        for index, answer in enumerate(answers):
            _annotator(answer.annotator, f"labels[{index}].annotator")
        lease_id = await self._own_lease(request.lease_id)

        def work(connection: Connection) -> pb.AnswerItemsResponse:
            result = queue.answer_items(connection, lease_id, answers)
            return pb.AnswerItemsResponse(
                n_accepted=result.n_accepted, n_duplicate=result.n_duplicate, lease=result.lease.to_proto()
            )

        return await self._once(key, pb.AnswerItemsResponse, work, lambda response: response.lease.campaign_id)

    async def ReleaseLease(self, request: pb.ReleaseLeaseRequest, context: Any) -> pb.ReleaseLeaseResponse:
        """Gives the items that are not answered back to the queue."""
        key = RequestKey.of("ReleaseLease", request.request_id, request)
        lease_id = await self._own_lease(request.lease_id)

        def work(connection: Connection) -> pb.ReleaseLeaseResponse:
            return pb.ReleaseLeaseResponse(lease=leases.release_lease(connection, lease_id).to_proto())

        return await self._once(key, pb.ReleaseLeaseResponse, work, lambda response: response.lease.campaign_id)

    async def _own_lease(self, lease_id: str) -> str:
        """Returns the lease's id where the caller may touch it."""
        lease_id = id_from_wire("lease_id", lease_id)
        who = current_caller()
        if who.role is Role.ANNOTATOR:
            lease = await self._read(lambda connection: leases.read_lease(connection, lease_id))
            if lease.annotator != who.principal:
                raise PermissionDeniedError(f"lease {lease_id!r} is another annotator's", field="lease_id")
        return lease_id


def _annotator(named: str, field: str = "annotator") -> str:
    """Who answers: the one whom an annotator's token names, or the one whom any other caller names."""
    who = current_caller()
    if who.role is not Role.ANNOTATOR:
        return named
    if named not in ("", who.principal):
        raise PermissionDeniedError(
            f"{named!r} is not you; leave it empty, as your token names {who.principal!r}", field=field
        )
    return who.principal
