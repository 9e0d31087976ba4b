"""The budget service over gRPC: from the wire, one transaction of the domain, to the wire."""

# The methods are named as their rpcs, and take a context whether they need it or not.
# ruff: noqa: ARG002, N802

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from sqlalchemy import Connection

from isocost.budget import campaigns, labels, ledger, observations, orders, plans, pool, sources
from isocost.budget.database import Database
from isocost.budget.requests import RequestKey, answer_once
from isocost.budget.settings import BudgetSettings
from isocost.budget.validation import BATCH_MAX, check_count, parse_enum, parse_money
from isocost.budget.wire import (
    campaign_from_wire,
    id_from_wire,
    item_ids_from_wire,
    labels_from_wire,
    observation_from_wire,
    purposes_from_wire,
    source_from_wire,
)
from isocost.core.errors import InvalidArgumentError
from isocost.resources.campaign import Campaign, LedgerEntry
from isocost.resources.label import LabelledItem, Purpose
from isocost.resources.task import Item
from isocost.v1 import budget_service_pb2 as pb
from isocost.v1 import budget_service_pb2_grpc, resources_pb2

__all__ = ["BudgetService"]

#: Item errors named in one answer; all of them are counted.
_ERRORS_MAX = 1_000
#: Characters of a refused item's id that its error repeats; no valid id is longer.
_ERROR_ID_CHARACTERS = 512
#: A message of an export is sent before it grows beyond this, well below the limit of one message.
_MESSAGE_BYTES = 4 << 20

_Response = TypeVar("_Response", bound=Message)
_Result = TypeVar("_Result")
_Wire = TypeVar("_Wire", bound=Message)


class BudgetService(budget_service_pb2_grpc.BudgetServiceServicer):
    """The servicer of `isocost.v1.BudgetService`.

    Usage::

        service = BudgetService(BudgetSettings(database_url="sqlite:///campaigns.db"))
        await service.start()
        service.register(server)
        ...
        await service.close()
    """

    SERVICE_NAME = "isocost.v1.BudgetService"

    def __init__(self, settings: BudgetSettings) -> None:
        self._settings = settings
        self._database: Database | None = None

    def register(self, server: grpc.aio.Server) -> None:
        """Adds the rpcs to a server."""
        budget_service_pb2_grpc.add_BudgetServiceServicer_to_server(self, server)

    async def start(self) -> None:
        """Opens the database and brings its tables to the newest revision.

        Raises:
            InvalidArgumentError: where the database's URL is not supported.
            FailedPreconditionError: where a newer isocost made the database.
            UnavailableError: where the database is away or locked.
        """
        database = Database(
            self._settings.database_url,
            busy_timeout_seconds=self._settings.busy_timeout_seconds,
            reader_threads=self._settings.reader_threads,
        )
        try:
            await asyncio.to_thread(database.migrate)
        except BaseException:
            database.close()
            raise
        self._database = database

    async def close(self) -> None:
        """Lets running transactions end and closes the database."""
        if self._database is not None:
            database, self._database = self._database, None
            await asyncio.to_thread(database.close)

    @property
    def _open_database(self) -> Database:
        if self._database is None:
            raise RuntimeError("the budget service is not started")
        return self._database

    async def _once(
        self, key: RequestKey, response_type: type[_Response], work: Callable[[Connection], _Response]
    ) -> _Response:
        """Does the work in one transaction, or gives the answer that the request id got before."""

        def transaction(connection: Connection) -> bytes:
            return answer_once(connection, key, lambda: work(connection).SerializeToString(deterministic=True))

        return response_type.FromString(await self._open_database.run_write(transaction))

    async def _read(self, work: Callable[[Connection], _Result]) -> _Result:
        return await self._open_database.run_read(work)

    async def CreateCampaign(self, request: pb.CreateCampaignRequest, context: Any) -> pb.CreateCampaignResponse:
        """Creates a campaign."""
        key = RequestKey.of("CreateCampaign", request.request_id, request)
        campaign = campaign_from_wire(request.campaign)

        def work(connection: Connection) -> pb.CreateCampaignResponse:
            return pb.CreateCampaignResponse(campaign=campaigns.create_campaign(connection, campaign).to_proto())

        return await self._once(key, pb.CreateCampaignResponse, work)

    async def GetCampaign(self, request: pb.GetCampaignRequest, context: Any) -> pb.GetCampaignResponse:
        """Reads a campaign, its balance and its counts."""
        campaign_id = id_from_wire("campaign_id", request.campaign_id)
        status = await self._read(lambda connection: campaigns.read_status(connection, campaign_id))
        return pb.GetCampaignResponse(
            campaign=status.campaign.to_proto(),
            balance=status.balance.to_proto(),
            n_items=status.n_items,
            n_items_free=status.n_items_free,
        )

    async def ListCampaigns(self, request: pb.ListCampaignsRequest, context: Any) -> pb.ListCampaignsResponse:
        """Lists the campaigns, oldest first."""
        found = await self._read(campaigns.list_campaigns)
        return pb.ListCampaignsResponse(campaigns=[campaign.to_proto() for campaign in found])

    async def FinishCampaign(self, request: pb.FinishCampaignRequest, context: Any) -> pb.FinishCampaignResponse:
        """Cancels a campaign's open orders and marks it as finished."""
        key = RequestKey.of("FinishCampaign", request.request_id, request)
        campaign_id = id_from_wire("campaign_id", request.campaign_id)

        def work(connection: Connection) -> pb.FinishCampaignResponse:
            return pb.FinishCampaignResponse(campaign=orders.finish_campaign(connection, campaign_id).to_proto())

        return await self._once(key, pb.FinishCampaignResponse, work)

    async def AddItems(self, request_iterator: Any, context: Any) -> pb.AddItemsResponse:
        """Adds items to the pool, one transaction for each message of the stream."""
        campaign: Campaign | None = None
        response = pb.AddItemsResponse()
        n_seen = 0
        async for request in request_iterator:
            campaign_id = id_from_wire("campaign_id", request.campaign_id)
            if campaign is None:
                campaign = await self._read(functools.partial(campaigns.read_campaign, campaign_id=campaign_id))
            elif campaign_id != campaign.campaign_id:
                raise InvalidArgumentError(
                    "campaign_id", f"{campaign_id!r}, but the stream began with {campaign.campaign_id!r}"
                )
            check_count("items", len(request.items), maximum=BATCH_MAX)
            candidates, errors = _parse_items(campaign, request.items, first_index=n_seen)
            n_seen += len(request.items)
            added = await self._open_database.run_write(
                functools.partial(pool.add_items, campaign_id=campaign_id, candidates=candidates)
            )
            response.n_added += added.n_added
            response.n_duplicate += added.n_duplicate
            errors = sorted([*errors, *added.errors], key=lambda error: error.index)
            response.n_errors += len(errors)
            response.errors.extend(
                pb.ItemError(item_id=error.item_id, index=error.index, message=error.message)
                for error in errors[: _ERRORS_MAX - len(response.errors)]
            )
        if campaign is None:
            raise InvalidArgumentError("campaign_id", "the stream holds no message; name the campaign in the first")
        return response

    async def CreateSource(self, request: pb.CreateSourceRequest, context: Any) -> pb.CreateSourceResponse:
        """Adds a source with its price to a campaign."""
        key = RequestKey.of("CreateSource", request.request_id, request)
        campaign_id = id_from_wire("campaign_id", request.campaign_id)
        source = source_from_wire(request.source)

        def work(connection: Connection) -> pb.CreateSourceResponse:
            return pb.CreateSourceResponse(source=sources.create_source(connection, campaign_id, source).to_proto())

        return await self._once(key, pb.CreateSourceResponse, work)

    async def ListSources(self, request: pb.ListSourcesRequest, context: Any) -> pb.ListSourcesResponse:
        """Lists a campaign's sources, oldest first."""
        campaign_id = id_from_wire("campaign_id", request.campaign_id)
        found = await self._read(lambda connection: sources.list_sources(connection, campaign_id))
        return pb.ListSourcesResponse(sources=[source.to_proto() for source in found])

    async def CreateOrder(self, request: pb.CreateOrderRequest, context: Any) -> pb.CreateOrderResponse:
        """Chooses items and reserves the money for their labels."""
        key = RequestKey.of("CreateOrder", request.request_id, request)
        campaign_id = id_from_wire("campaign_id", request.campaign_id)
        source_id = id_from_wire("source_id", request.source_id)
        purpose = parse_enum("purpose", Purpose, request.purpose)
        item_ids = item_ids_from_wire(request)

        def work(connection: Connection) -> pb.CreateOrderResponse:
            order = orders.create_order(
                connection,
                request_id=key.request_id,
                campaign_id=campaign_id,
                source_id=source_id,
                purpose=purpose,
                n_labels=request.n_labels,
                item_ids=item_ids,
            )
            balance = ledger.balance(connection, campaign_id)
            return pb.CreateOrderResponse(order=order.to_proto(), balance=balance.to_proto())

        return await self._once(key, pb.CreateOrderResponse, work)

    async def GetOrder(self, request: pb.GetOrderRequest, context: Any) -> pb.GetOrderResponse:
        """Reads an order."""
        order_id = id_from_wire("order_id", request.order_id)
        order = await self._read(lambda connection: orders.read_order(connection, order_id))
        return pb.GetOrderResponse(order=order.to_proto())

    async def ListOrders(self, request: pb.ListOrdersRequest, context: Any) -> pb.ListOrdersResponse:
        """Lists a campaign's orders, oldest first."""
        campaign_id = id_from_wire("campaign_id", request.campaign_id)
        found = await self._read(lambda connection: orders.list_orders(connection, campaign_id))
        return pb.ListOrdersResponse(orders=[order.to_proto() for order in found])

    async def CancelOrder(self, request: pb.CancelOrderRequest, context: Any) -> pb.CancelOrderResponse:
        """Gives up an order's labels that have not arrived, and releases their money."""
        key = RequestKey.of("CancelOrder", request.request_id, request)
        order_id = id_from_wire("order_id", request.order_id)

        def work(connection: Connection) -> pb.CancelOrderResponse:
            return pb.CancelOrderResponse(order=orders.cancel_order(connection, order_id).to_proto())

        return await self._once(key, pb.CancelOrderResponse, work)

    async def ExportOrderItems(
        self, request: pb.ExportOrderItemsRequest, context: Any
    ) -> AsyncIterator[pb.ExportOrderItemsResponse]:
        """Streams the items of an order, in the order's sequence, one transaction for each page."""
        order_id = id_from_wire("order_id", request.order_id)
        await self._read(lambda connection: orders.read_order(connection, order_id))

        def page(connection: Connection, after: int) -> list[pool.PlacedItem]:
            return pool.items_of_order(
                connection,
                order_id,
                after_position=after,
                limit=self._settings.page_rows,
                pending_only=request.pending_only,
            )

        async for rows in self._pages(page, lambda row: row.position):
            for batch in _messages(row.item.to_proto() for row in rows):
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

        return await self._once(key, pb.SubmitLabelsResponse, work)

    async def ExportLabels(
        self, request: pb.ExportLabelsRequest, context: Any
    ) -> AsyncIterator[pb.ExportLabelsResponse]:
        """Streams labels with their items, in sequence, one transaction for each page."""
        campaign_id = id_from_wire("campaign_id", request.campaign_id)
        source_id = id_from_wire("source_id", request.source_id) if request.source_id else ""
        purposes = purposes_from_wire(request.purposes)
        await self._read(lambda connection: campaigns.read_campaign(connection, campaign_id))
        if source_id:
            await self._read(lambda connection: sources.read_source(connection, campaign_id, source_id))

        def page(connection: Connection, after: int) -> list[LabelledItem]:
            return labels.labelled_items(
                connection,
                campaign_id,
                after_sequence=after,
                limit=self._settings.page_rows,
                source_id=source_id,
                purposes=purposes,
            )

        async for rows in self._pages(page, lambda row: row.label.sequence):
            for batch in _messages(row.to_proto() for row in rows):
                yield pb.ExportLabelsResponse(labelled_items=batch)

    async def ExportLedger(
        self, request: pb.ExportLedgerRequest, context: Any
    ) -> AsyncIterator[pb.ExportLedgerResponse]:
        """Streams the ledger, in sequence, one transaction for each page."""
        campaign_id = id_from_wire("campaign_id", request.campaign_id)
        await self._read(lambda connection: campaigns.read_campaign(connection, campaign_id))

        def page(connection: Connection, after: int) -> list[LedgerEntry]:
            return ledger.entries(connection, campaign_id, after_sequence=after, limit=self._settings.page_rows)

        async for rows in self._pages(page, lambda row: row.sequence):
            for batch in _messages(row.to_proto() for row in rows):
                yield pb.ExportLedgerResponse(entries=batch)

    async def _pages(
        self, page: Callable[..., list[_Result]], key: Callable[[_Result], int]
    ) -> AsyncIterator[list[_Result]]:
        """Pages by key, each in a transaction of its own, so that a slow reader holds nothing open."""
        after = 0
        while rows := await self._read(functools.partial(page, after=after)):
            yield rows
            if len(rows) < self._settings.page_rows:
                return
            after = key(rows[-1])

    async def RecordObservation(
        self, request: pb.RecordObservationRequest, context: Any
    ) -> pb.RecordObservationResponse:
        """Records what a run showed."""
        key = RequestKey.of("RecordObservation", request.request_id, request)
        campaign_id = id_from_wire("campaign_id", request.campaign_id)
        observation = observation_from_wire(request.observation)

        def work(connection: Connection) -> pb.RecordObservationResponse:
            recorded = observations.record_observation(connection, campaign_id, observation)
            return pb.RecordObservationResponse(observation=recorded.to_proto())

        return await self._once(key, pb.RecordObservationResponse, work)

    async def ListObservations(self, request: pb.ListObservationsRequest, context: Any) -> pb.ListObservationsResponse:
        """Lists a campaign's observations, oldest first."""
        campaign_id = id_from_wire("campaign_id", request.campaign_id)
        found = await self._read(lambda connection: observations.list_observations(connection, campaign_id))
        return pb.ListObservationsResponse(observations=[observation.to_proto() for observation in found])

    async def Plan(self, request: pb.PlanRequest, context: Any) -> pb.PlanResponse:
        """Decides what to buy next, and stores the plan with all its inputs."""
        key = RequestKey.of("Plan", request.request_id, request)
        campaign_id = id_from_wire("campaign_id", request.campaign_id)
        tranche = parse_money("tranche", request.tranche) if request.HasField("tranche") else None

        def work(connection: Connection) -> pb.PlanResponse:
            return pb.PlanResponse(plan=plans.make_plan(connection, campaign_id, tranche).to_proto())

        return await self._once(key, pb.PlanResponse, work)

    async def ListPlans(self, request: pb.ListPlansRequest, context: Any) -> pb.ListPlansResponse:
        """Lists a campaign's plans, oldest first."""
        campaign_id = id_from_wire("campaign_id", request.campaign_id)
        found = await self._read(lambda connection: plans.list_plans(connection, campaign_id))
        return pb.ListPlansResponse(plans=[plan.to_proto() for plan in found])

    async def GetFrontier(self, request: pb.GetFrontierRequest, context: Any) -> pb.GetFrontierResponse:
        """The Pareto set of cost and accuracy over the observations, cheapest first."""
        campaign_id = id_from_wire("campaign_id", request.campaign_id)
        points = await self._read(lambda connection: observations.frontier(connection, campaign_id))
        return pb.GetFrontierResponse(points=[point.to_proto() for point in points])


def _parse_items(
    campaign: Campaign, messages: Iterable[resources_pb2.Item], *, first_index: int
) -> tuple[list[tuple[int, Item]], list[pool.ItemError]]:
    """Valid items with their index in the stream, and an error for each of the others."""
    candidates: list[tuple[int, Item]] = []
    errors: list[pool.ItemError] = []
    for index, message in enumerate(messages, start=first_index):
        try:
            candidates.append((index, pool.parse_item(campaign.task, message.item_id, dict(message.fields))))
        except InvalidArgumentError as error:
            errors.append(pool.ItemError(message.item_id[:_ERROR_ID_CHARACTERS], index, str(error)))
    return candidates, errors


def _messages(parts: Iterable[_Wire]) -> Iterator[list[_Wire]]:
    """Cuts rows into lists that fit into one message each, whatever the length of their texts."""
    batch: list[_Wire] = []
    n_bytes = 0
    for part in parts:
        if batch and n_bytes + part.ByteSize() > _MESSAGE_BYTES:
            yield batch
            batch, n_bytes = [], 0
        batch.append(part)
        n_bytes += part.ByteSize()
    if batch:
        yield batch
