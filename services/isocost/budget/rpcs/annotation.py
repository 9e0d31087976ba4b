"""Rpcs about annotators: their leases, how well they agree, and what they say together."""

# The methods are named as their rpcs, and take a context whether they need it or not.
# ruff: noqa: ARG002, N802

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator
from typing import Any

from isocost.budget import adjudication, leases
from isocost.budget.paging import Page
from isocost.budget.rpcs.transactions import Transactions, messages
from isocost.budget.validation import check_text
from isocost.budget.wire import id_from_wire, purposes_from_wire
from isocost.v1 import budget_service_pb2 as pb

__all__ = ["AnnotationRpcs"]


class AnnotationRpcs(Transactions):
    """What pipelines see of the human queue."""

    async def ListLeases(self, request: pb.ListLeasesRequest, context: Any) -> pb.ListLeasesResponse:
        """Lists the leases of a campaign's human queue, oldest first."""
        page = Page.of(request)
        campaign_id, after = id_from_wire("campaign_id", request.campaign_id), page.after(0)
        annotator = check_text("annotator", request.annotator, bytes_max=512)
        found = await self._read(
            lambda connection: leases.list_leases(
                connection, campaign_id, after_position=after, limit=page.size, annotator=annotator
            )
        )
        return pb.ListLeasesResponse(
            leases=[lease.to_proto() for _, lease in found],
            next_page_token=page.next_token(len(found), found[-1][0] if found else 0),
        )

    async def GetAgreement(self, request: pb.GetAgreementRequest, context: Any) -> pb.GetAgreementResponse:
        """How well a source's annotators agree with each other and with the gold questions."""
        campaign_id = id_from_wire("campaign_id", request.campaign_id)
        source_id = id_from_wire("source_id", request.source_id)
        answers = await self._read(
            lambda connection: adjudication.read_answers(connection, campaign_id, source_id, frozenset())
        )
        found, annotators = await asyncio.to_thread(adjudication.agreement_of, answers)
        return pb.GetAgreementResponse(
            agreement=found.to_proto(), annotators=[record.to_proto() for record in annotators]
        )

    async def ExportConsensus(
        self, request: pb.ExportConsensusRequest, context: Any
    ) -> AsyncIterator[pb.ExportConsensusResponse]:
        """Streams one answer for each item that has labels of the source, by item id."""
        campaign_id = id_from_wire("campaign_id", request.campaign_id)
        source_id = id_from_wire("source_id", request.source_id)
        purposes = purposes_from_wire(request.purposes)
        answers = await self._read(
            lambda connection: adjudication.read_answers(connection, campaign_id, source_id, purposes)
        )
        answered = await asyncio.to_thread(adjudication.consensus_of, answers)
        for start in range(0, len(answered), self.settings.page_rows):
            part = answered[start : start + self.settings.page_rows]
            rows = await self._read(functools.partial(adjudication.with_items, campaign_id=campaign_id, answered=part))
            for batch in messages(row.to_proto() for row in rows):
                yield pb.ExportConsensusResponse(consensus=batch)
