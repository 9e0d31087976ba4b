"""Rpcs of the ledger."""

# The methods are named as their rpcs, and take a context whether they need it or not.
# ruff: noqa: ARG002, N802

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from sqlalchemy import Connection

from isocost.budget import campaigns, ledger
from isocost.budget.requests import RequestKey
from isocost.budget.rpcs.transactions import Transactions, messages
from isocost.budget.validation import check_count, check_text, parse_money
from isocost.budget.wire import id_from_wire
from isocost.resources.campaign import LedgerEntry
from isocost.v1 import budget_service_pb2 as pb

__all__ = ["LedgerRpcs"]

_REASON_BYTES_MAX = 4_096
_SEQUENCE_MAX = 2**62


class LedgerRpcs(Transactions):
    """The ledger and its corrections."""

    async def ExportLedger(
        self, request: pb.ExportLedgerRequest, context: Any
    ) -> AsyncIterator[pb.ExportLedgerResponse]:
        """Streams the ledger, in sequence, one transaction for each page."""
        campaign_id = id_from_wire("campaign_id", request.campaign_id)
        after_sequence = check_count("after_sequence", request.after_sequence, maximum=_SEQUENCE_MAX)
        await self._read(lambda connection: campaigns.read_campaign(connection, campaign_id))

        def page(connection: Connection, after: int) -> list[LedgerEntry]:
            return ledger.entries(connection, campaign_id, after_sequence=after, limit=self.settings.page_rows)

        async for rows in self._pages(page, lambda row: row.sequence, after_sequence):
            for batch in messages(row.to_proto() for row in rows):
                yield pb.ExportLedgerResponse(entries=batch)

    async def CreateCorrection(self, request: pb.CreateCorrectionRequest, context: Any) -> pb.CreateCorrectionResponse:
        """Corrects a payment by a new entry."""
        key = RequestKey.of("CreateCorrection", request.request_id, request)
        campaign_id = id_from_wire("campaign_id", request.campaign_id)
        sequence = check_count("corrects_sequence", request.corrects_sequence, minimum=1, maximum=_SEQUENCE_MAX)
        amount = parse_money("amount", request.amount)
        reason = check_text("reason", request.reason, required=True, bytes_max=_REASON_BYTES_MAX)

        def work(connection: Connection) -> pb.CreateCorrectionResponse:
            entry = ledger.correct(connection, campaign_id, corrects_sequence=sequence, amount=amount, reason=reason)
            balance = ledger.balance(connection, campaign_id)
            return pb.CreateCorrectionResponse(entry=entry.to_proto(), balance=balance.to_proto())

        return await self._once(key, pb.CreateCorrectionResponse, work, lambda _: campaign_id)
