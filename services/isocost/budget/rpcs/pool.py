"""Rpcs of the pool of items."""

# The methods are named as their rpcs, and take a context whether they need it or not.
# ruff: noqa: ARG002, N802

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterable
from typing import Any

from sqlalchemy import Connection

from isocost.budget import campaigns, pool
from isocost.budget.paging import Page
from isocost.budget.requests import RequestKey
from isocost.budget.rpcs.transactions import Transactions, messages
from isocost.budget.validation import BATCH_MAX, check_count, check_text
from isocost.budget.wire import id_from_wire, item_state_from_wire, scores_from_wire
from isocost.core.errors import InvalidArgumentError
from isocost.resources.campaign import Campaign
from isocost.resources.pool import PoolItem
from isocost.resources.task import Item
from isocost.v1 import budget_service_pb2 as pb
from isocost.v1 import resources_pb2

__all__ = ["PoolRpcs"]

#: Item errors named in one answer; all of them are counted.
_ERRORS_MAX = 1_000
#: Characters of a refused item's id that its error repeats; no valid id is longer.
_ERROR_ID_CHARACTERS = 512


class PoolRpcs(Transactions):
    """Items in, items out."""

    async def AddItems(self, request_iterator: Any, context: Any) -> pb.AddItemsResponse:
        """Adds items to the pool, one transaction for each message of the stream."""
        campaign: Campaign | None = None
        total = pb.AddItemsResponse()
        n_seen = 0
        async for request in request_iterator:
            campaign_id = id_from_wire("campaign_id", request.campaign_id)
            if campaign is None:
                campaign = await self._read(functools.partial(campaigns.read_campaign, campaign_id=campaign_id))
            elif campaign_id != campaign.campaign_id:
                raise InvalidArgumentError(
                    "campaign_id", f"{campaign_id!r}, but the stream began with {campaign.campaign_id!r}"
                )
            added = await self._add_batch(campaign, request)
            total.n_added += added.n_added
            total.n_duplicate += added.n_duplicate
            total.n_errors += added.n_errors
            for error in added.errors[: _ERRORS_MAX - len(total.errors)]:
                # A batch counts from 0 wherever in a stream it comes, so that its answer is the same in another stream.
                error.index += n_seen
                total.errors.append(error)
            n_seen += len(request.items)
        if campaign is None:
            raise InvalidArgumentError("campaign_id", "the stream holds no message; name the campaign in the first")
        return total

    async def _add_batch(self, campaign: Campaign, request: pb.AddItemsRequest) -> pb.AddItemsResponse:
        key = RequestKey.of("AddItems", request.request_id, request)
        check_count("items", len(request.items), maximum=BATCH_MAX)
        candidates, errors = _parse_items(campaign, request.items)

        def work(connection: Connection) -> pb.AddItemsResponse:
            added = pool.add_items(connection, campaign.campaign_id, candidates)
            found = sorted([*errors, *added.errors], key=lambda error: error.index)
            return pb.AddItemsResponse(
                n_added=added.n_added,
                n_duplicate=added.n_duplicate,
                n_errors=len(found),
                errors=[
                    pb.ItemError(item_id=error.item_id, index=error.index, message=error.message)
                    for error in found[:_ERRORS_MAX]
                ],
            )

        return await self._once(key, pb.AddItemsResponse, work, lambda _: campaign.campaign_id)

    async def ScoreItems(self, request: pb.ScoreItemsRequest, context: Any) -> pb.ScoreItemsResponse:
        """Stores how uncertain a model is about items."""
        key = RequestKey.of("ScoreItems", request.request_id, request)
        campaign_id = id_from_wire("campaign_id", request.campaign_id)
        scores = scores_from_wire(request.scores)

        def work(connection: Connection) -> pb.ScoreItemsResponse:
            pool.score_items(connection, campaign_id, scores)
            return pb.ScoreItemsResponse(n_scored=len(scores))

        return await self._once(key, pb.ScoreItemsResponse, work, lambda _: campaign_id)

    async def ListItems(self, request: pb.ListItemsRequest, context: Any) -> pb.ListItemsResponse:
        """Lists a campaign's items by id."""
        page = Page.of(request)
        campaign_id, after = id_from_wire("campaign_id", request.campaign_id), page.after("")
        state = item_state_from_wire(request.state)
        found = await self._read(
            lambda connection: pool.pool_items(
                connection, campaign_id, after_item_id=after, limit=page.size, state=state
            )
        )
        return pb.ListItemsResponse(
            items=[item.to_proto() for item in found],
            next_page_token=page.next_token(len(found), found[-1].item.item_id if found else ""),
        )

    async def ExportItems(self, request: pb.ExportItemsRequest, context: Any) -> AsyncIterator[pb.ExportItemsResponse]:
        """Streams a campaign's items by id, one transaction for each page."""
        campaign_id = id_from_wire("campaign_id", request.campaign_id)
        state = item_state_from_wire(request.state)
        after_item_id = check_text("after_item_id", request.after_item_id)

        def page(connection: Connection, after: str) -> list[PoolItem]:
            return pool.pool_items(
                connection, campaign_id, after_item_id=after, limit=self.settings.page_rows, state=state
            )

        async for rows in self._pages(page, lambda row: row.item.item_id, after_item_id):
            for batch in messages(row.to_proto() for row in rows):
                yield pb.ExportItemsResponse(items=batch)


def _parse_items(
    campaign: Campaign, found: Iterable[resources_pb2.Item]
) -> tuple[list[tuple[int, Item]], list[pool.ItemError]]:
    """Valid items with their index in the batch, and an error for each of the others."""
    candidates: list[tuple[int, Item]] = []
    errors: list[pool.ItemError] = []
    for index, message in enumerate(found):
        try:
            candidates.append((index, pool.parse_item(campaign.task, Item.from_proto(message))))
        except InvalidArgumentError as error:
            errors.append(pool.ItemError(message.item_id[:_ERROR_ID_CHARACTERS], index, str(error)))
    return candidates, errors
