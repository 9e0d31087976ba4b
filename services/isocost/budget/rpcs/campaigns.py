"""Rpcs of campaigns, their sources, and the audit log."""

# The methods are named as their rpcs, and take a context whether they need it or not.
# ruff: noqa: ARG002, N802

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from isocost.budget import campaigns, orders, requests, sources
from isocost.budget.paging import Page
from isocost.budget.requests import RequestKey
from isocost.budget.rpcs.transactions import Transactions
from isocost.budget.wire import campaign_from_wire, id_from_wire, optional_id_from_wire, source_from_wire
from isocost.v1 import budget_service_pb2 as pb

__all__ = ["CampaignRpcs"]


class CampaignRpcs(Transactions):
    """Campaigns, sources, audit."""

    async def CreateCampaign(self, request: pb.CreateCampaignRequest, context: Any) -> pb.CreateCampaignResponse:
        """Creates a campaign."""
        key = RequestKey.of("CreateCampaign", request.request_id, request)
        campaign = campaign_from_wire(request.campaign)

        def work(connection: Connection) -> pb.CreateCampaignResponse:
            return pb.CreateCampaignResponse(campaign=campaigns.create_campaign(connection, campaign).to_proto())

        return await self._once(key, pb.CreateCampaignResponse, work, lambda response: response.campaign.campaign_id)

    async def GetCampaign(self, request: pb.GetCampaignRequest, context: Any) -> pb.GetCampaignResponse:
        """Reads a campaign, its balance and its counts."""
        campaign_id = id_from_wire("campaign_id", request.campaign_id)
        found = await self._read_by_id(campaigns.load_statuses, campaign_id)
        status = campaigns.require_status(campaign_id, found)
        return pb.GetCampaignResponse(
            campaign=status.campaign.to_proto(),
            balance=status.balance.to_proto(),
            n_items=status.n_items,
            n_items_free=status.n_items_free,
            n_labels=status.n_labels,
            n_entries=status.n_entries,
        )

    async def ListCampaigns(self, request: pb.ListCampaignsRequest, context: Any) -> pb.ListCampaignsResponse:
        """Lists the campaigns, oldest first."""
        page = Page.of(request)
        after = page.after("")
        found = await self._read(
            lambda connection: campaigns.list_campaigns(connection, after_campaign_id=after, limit=page.size)
        )
        return pb.ListCampaignsResponse(
            campaigns=[campaign.to_proto() for campaign in found],
            next_page_token=page.next_token(len(found), found[-1].campaign_id if found else ""),
        )

    async def FinishCampaign(self, request: pb.FinishCampaignRequest, context: Any) -> pb.FinishCampaignResponse:
        """Cancels a campaign's open orders and marks it as finished."""
        key = RequestKey.of("FinishCampaign", request.request_id, request)
        campaign_id = id_from_wire("campaign_id", request.campaign_id)

        def work(connection: Connection) -> pb.FinishCampaignResponse:
            return pb.FinishCampaignResponse(campaign=orders.finish_campaign(connection, campaign_id).to_proto())

        return await self._once(key, pb.FinishCampaignResponse, work, lambda _: campaign_id)

    async def CreateSource(self, request: pb.CreateSourceRequest, context: Any) -> pb.CreateSourceResponse:
        """Adds a source with its price to a campaign."""
        key = RequestKey.of("CreateSource", request.request_id, request)
        campaign_id = id_from_wire("campaign_id", request.campaign_id)
        source = source_from_wire(request.source)

        def work(connection: Connection) -> pb.CreateSourceResponse:
            return pb.CreateSourceResponse(source=sources.create_source(connection, campaign_id, source).to_proto())

        return await self._once(key, pb.CreateSourceResponse, work, lambda _: campaign_id)

    async def ListSources(self, request: pb.ListSourcesRequest, context: Any) -> pb.ListSourcesResponse:
        """Lists a campaign's sources, oldest first."""
        page = Page.of(request)
        campaign_id, after = id_from_wire("campaign_id", request.campaign_id), page.after(0)
        found = await self._read(
            lambda connection: sources.list_sources(connection, campaign_id, after_position=after, limit=page.size)
        )
        return pb.ListSourcesResponse(
            sources=[source.to_proto() for source in found],
            next_page_token=page.next_token(len(found), after + len(found)),
        )

    async def ListAuditEntries(self, request: pb.ListAuditEntriesRequest, context: Any) -> pb.ListAuditEntriesResponse:
        """Lists what was changed, by whom and when, oldest first."""
        page = Page.of(request)
        campaign_id, after = optional_id_from_wire("campaign_id", request.campaign_id), page.after("")
        found = await self._read(
            lambda connection: requests.list_audit_entries(
                connection, campaign_id=campaign_id, after_request_id=after, limit=page.size
            )
        )
        return pb.ListAuditEntriesResponse(
            entries=[entry.to_proto() for entry in found],
            next_page_token=page.next_token(len(found), found[-1].request_id if found else ""),
        )
