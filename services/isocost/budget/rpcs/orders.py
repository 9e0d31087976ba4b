"""Rpcs of orders and their labels."""

# The methods are named as their rpcs, and take a context whether they need it or not.
# ruff: noqa: ARG002, N802

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from sqlalchemy import Connection

from isocost.budget import campaigns, labels, ledger, orders, slots, sources
from isocost.budget.paging import Page
from isocost.budget.requests import RequestKey
from isocost.budget.rpcs.transactions import Transactions, messages
from isocost.budget.validation import check_count, check_text
from isocost.budget.wire import (
    id_from_wire,
    labels_from_wire,
    optional_id_from_wire,
    order_request_from_wire,
    purposes_from_wire,
)
from isocost.resources.label import LabelledItem
from isocost.v1 import budget_service_pb2 as pb

__all__ = ["OrderRpcs"]


class OrderRpcs(Transactions):
    """Orders, their items and their labels."""

    async def CreateOrder(self, request: pb.CreateOrderRequest, context: Any) -> pb.CreateOrderResponse:
        """Chooses items and reserves the money for their labels."""
        key = RequestKey.of("CreateOrder", request.request_id, request)
        asked = order_request_from_wire(request)

        def work(connection: Connection) -> pb.CreateOrderResponse:
            order = orders.create_order(connection, asked)
            balance = ledger.balance(connection, order.campaign_id)
            return pb.CreateOrderResponse(order=order.to_proto(), balance=balance.to_proto())

        return await self._once(key, pb.CreateOrderResponse, work, lambda _: asked.campaign_id)

    async def GetOrder(self, request: pb.GetOrderRequest, context: Any) -> pb.GetOrderResponse:
        """Reads an order."""
        order_id = id_from_wire("order_id", request.order_id)
        order = orders.require_order(order_id, await self._read_by_id(orders.load_orders, order_id))
        return pb.GetOrderResponse(order=order.to_proto())

    async def ListOrders(self, request: pb.ListOrdersRequest, context: Any) -> pb.ListOrdersResponse:
        """Lists a campaign's orders, oldest first."""
        page = Page.of(request)
        campaign_id, after = id_from_wire("campaign_id", request.campaign_id), page.after(0)
        found = await self._read(
            lambda connection: orders.list_orders(connection, campaign_id, after_position=after, limit=page.size)
        )
        return pb.ListOrdersResponse(
            orders=[order.to_proto() for order in found],
            next_page_token=page.next_token(len(found), after + len(found)),
        )

    async def CancelOrder(self, request: pb.CancelOrderRequest, context: Any) -> pb.CancelOrderResponse:
        """Gives up an order's labels that have not arrived, and releases their money."""
        key = RequestKey.of("CancelOrder", request.request_id, request)
        order_id = id_from_wire("order_id", request.order_id)

        def work(connection: Connection) -> pb.CancelOrderResponse:
            return pb.CancelOrderResponse(order=orders.cancel_order(connection, order_id).to_proto())

        return await self._once(key, pb.CancelOrderResponse, work, lambda response: response.order.campaign_id)

    async def ExportOrderItems(
        self, request: pb.ExportOrderItemsRequest, context: Any
    ) -> AsyncIterator[pb.ExportOrderItemsResponse]:
        """Streams the items of an order, in the order's sequence, one transaction for each page."""
        order_id = id_from_wire("order_id", request.order_id)
        after_item_id = check_text("after_item_id", request.after_item_id)

        def start(connection: Connection) -> int:
            orders.read_order(connection, order_id)
            return slots.position_of(connection, order_id, after_item_id)

        def page(connection: Connection, after: int) -> list[slots.PlacedItem]:
            return slots.items_of_order(
                connection,
                order_id,
                after_position=after,
                limit=self.settings.page_rows,
                pending_only=request.pending_only,
            )

        async for rows in self._pages(page, lambda row: row.position, await self._read(start)):
            for batch in messages(row.item.to_proto() for row in rows):
                yield pb.ExportOrderItemsResponse(items=batch)

    async def SubmitLabels(self, request: pb.SubmitLabelsRequest, context: Any) -> pb.SubmitLabelsResponse:
        """Stores labels of an order and pays for each."""
        key = RequestKey.of("SubmitLabels", request.request_id, request)
        order_id = id_from_wire("order_id", request.order_id)
        submitted = labels_from_wire(request.labels)

        def work(connection: Connection) -> pb.SubmitLabelsResponse:
            result = labels.submit_labels(connection, order_id, submitted)
            return pb.SubmitLabelsResponse(
                n_accepted=result.n_accepted, n_duplicate=result.n_duplicate, order=result.order.to_proto()
            )

        return await self._once(key, pb.SubmitLabelsResponse, work, lambda response: response.order.campaign_id)

    async def ExportLabels(
        self, request: pb.ExportLabelsRequest, context: Any
    ) -> AsyncIterator[pb.ExportLabelsResponse]:
        """Streams labels with their items, in sequence, one transaction for each page."""
        campaign_id = id_from_wire("campaign_id", request.campaign_id)
        source_id = optional_id_from_wire("source_id", request.source_id)
        purposes = purposes_from_wire(request.purposes)
        after_sequence = check_count("after_sequence", request.after_sequence)

        def check(connection: Connection) -> None:
            campaigns.read_campaign(connection, campaign_id)
            if source_id:
                sources.read_source(connection, campaign_id, source_id)

        def page(connection: Connection, after: int) -> list[LabelledItem]:
            return labels.labelled_items(
                connection,
                campaign_id,
                after_sequence=after,
                limit=self.settings.page_rows,
                source_id=source_id,
                purposes=purposes,
            )

        await self._read(check)
        async for rows in self._pages(page, lambda row: row.label.sequence, after_sequence):
            for batch in messages(row.to_proto() for row in rows):
                yield pb.ExportLabelsResponse(labelled_items=batch)
