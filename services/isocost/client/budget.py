"""Client of the budget service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from isocost.client.call import batches, unary, unwrap_stream
from isocost.core.grpc_server import open_channel
from isocost.core.money import Money
from isocost.resources.campaign import Balance, Campaign, LedgerEntry, Order
from isocost.resources.label import Label, LabelledItem, Purpose
from isocost.resources.observation import FrontierPoint, Observation, Plan
from isocost.resources.task import Item, Source
from isocost.v1 import budget_service_pb2 as pb
from isocost.v1 import budget_service_pb2_grpc, resources_pb2

__all__ = ["AddedItems", "BudgetClient", "CampaignStatus", "ItemError", "SubmittedLabels"]


@dataclass(frozen=True, slots=True)
class ItemError:
    """Why one item was refused; index counts from 0 in the stream."""

    item_id: str
    index: int
    message: str


@dataclass(frozen=True, slots=True)
class AddedItems:
    """What became of a stream of items; errors holds at most 1,000 of the n_errors."""

    n_added: int
    n_duplicate: int
    n_errors: int
    errors: tuple[ItemError, ...]


@dataclass(frozen=True, slots=True)
class CampaignStatus:
    """A campaign, its money, and the size of its pool (all items, and those no order has taken)."""

    campaign: Campaign
    balance: Balance
    n_items: int
    n_items_free: int


@dataclass(frozen=True, slots=True)
class SubmittedLabels:
    """What became of submitted labels, and the order after it."""

    n_accepted: int
    n_duplicate: int
    order: Order


class BudgetClient:
    """Campaigns, orders, the ledger, observations and plans over gRPC.

    Usage::

        async with BudgetClient("127.0.0.1:7601") as budget:
            status = await budget.get_campaign("ag_news")

    Every method raises `IsocostError` subclasses: `InvalidArgumentError`, `NotFoundError`, `AlreadyExistsError`,
    `FailedPreconditionError`, `BudgetExceededError`, `UnavailableError`. Mutations take a request id: a repeat with the
    same body returns the first answer.
    """

    def __init__(self, address: str) -> None:
        self._channel = open_channel(address)
        self._stub = budget_service_pb2_grpc.BudgetServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection."""
        await self._channel.close()

    async def create_campaign(self, request_id: str, campaign: Campaign) -> Campaign:
        """Creates a campaign."""
        request = pb.CreateCampaignRequest(request_id=request_id, campaign=campaign.to_proto())
        return Campaign.from_proto((await unary(self._stub.CreateCampaign(request))).campaign)

    async def get_campaign(self, campaign_id: str) -> CampaignStatus:
        """Reads a campaign, its balance and its counts."""
        response = await unary(self._stub.GetCampaign(pb.GetCampaignRequest(campaign_id=campaign_id)))
        return CampaignStatus(
            Campaign.from_proto(response.campaign),
            Balance.from_proto(response.balance),
            response.n_items,
            response.n_items_free,
        )

    async def list_campaigns(self) -> list[Campaign]:
        """Lists the campaigns, oldest first."""
        response = await unary(self._stub.ListCampaigns(pb.ListCampaignsRequest()))
        return [Campaign.from_proto(campaign) for campaign in response.campaigns]

    async def finish_campaign(self, request_id: str, campaign_id: str) -> Campaign:
        """Marks a campaign as finished: open orders are cancelled, nothing more can be bought."""
        request = pb.FinishCampaignRequest(request_id=request_id, campaign_id=campaign_id)
        return Campaign.from_proto((await unary(self._stub.FinishCampaign(request))).campaign)

    async def add_items(self, campaign_id: str, items: Iterable[Item]) -> AddedItems:
        """Streams items into the pool; a bad item gets its own error and stops nothing."""

        async def requests() -> AsyncIterator[pb.AddItemsRequest]:
            for batch in batches(items):
                yield pb.AddItemsRequest(campaign_id=campaign_id, items=[item.to_proto() for item in batch])

        response = await unary(self._stub.AddItems(requests()))
        errors = tuple(ItemError(error.item_id, error.index, error.message) for error in response.errors)
        return AddedItems(response.n_added, response.n_duplicate, response.n_errors, errors)

    async def create_source(self, request_id: str, campaign_id: str, source: Source) -> Source:
        """Adds a source with its price."""
        request = pb.CreateSourceRequest(request_id=request_id, campaign_id=campaign_id, source=source.to_proto())
        return Source.from_proto((await unary(self._stub.CreateSource(request))).source)

    async def list_sources(self, campaign_id: str) -> list[Source]:
        """Lists a campaign's sources, oldest first."""
        response = await unary(self._stub.ListSources(pb.ListSourcesRequest(campaign_id=campaign_id)))
        return [Source.from_proto(source) for source in response.sources]

    async def create_order(
        self,
        request_id: str,
        campaign_id: str,
        source_id: str,
        purpose: Purpose,
        n_labels: int = 0,
        item_ids: Sequence[str] = (),
    ) -> Order:
        """Reserves the money for n_labels labels of random free items, or for labels of the given items."""
        request = pb.CreateOrderRequest(
            request_id=request_id,
            campaign_id=campaign_id,
            source_id=source_id,
            purpose=purpose.value,
            n_labels=n_labels,
            sampling=resources_pb2.SAMPLING_GIVEN if item_ids else resources_pb2.SAMPLING_RANDOM,
            item_ids=item_ids,
        )
        return Order.from_proto((await unary(self._stub.CreateOrder(request))).order)

    async def get_order(self, order_id: str) -> Order:
        """Reads an order."""
        return Order.from_proto((await unary(self._stub.GetOrder(pb.GetOrderRequest(order_id=order_id)))).order)

    async def list_orders(self, campaign_id: str) -> list[Order]:
        """Lists a campaign's orders, oldest first."""
        response = await unary(self._stub.ListOrders(pb.ListOrdersRequest(campaign_id=campaign_id)))
        return [Order.from_proto(order) for order in response.orders]

    async def cancel_order(self, request_id: str, order_id: str) -> Order:
        """Gives up the labels that have not arrived and releases their money."""
        request = pb.CancelOrderRequest(request_id=request_id, order_id=order_id)
        return Order.from_proto((await unary(self._stub.CancelOrder(request))).order)

    async def order_items(self, order_id: str, *, pending_only: bool = False) -> AsyncIterator[Item]:
        """Streams an order's items in its sequence."""
        request = pb.ExportOrderItemsRequest(order_id=order_id, pending_only=pending_only)
        async for response in unwrap_stream(self._stub.ExportOrderItems(request)):
            for item in response.items:
                yield Item.from_proto(item)

    async def submit_labels(self, request_id: str, order_id: str, labels: Sequence[Label]) -> SubmittedLabels:
        """Stores labels of an order and pays for each that was not there yet."""
        request = pb.SubmitLabelsRequest(
            request_id=request_id, order_id=order_id, labels=[label.to_proto() for label in labels]
        )
        response = await unary(self._stub.SubmitLabels(request))
        return SubmittedLabels(response.n_accepted, response.n_duplicate, Order.from_proto(response.order))

    async def labels(
        self, campaign_id: str, *, source_id: str = "", purposes: Sequence[Purpose] = ()
    ) -> AsyncIterator[LabelledItem]:
        """Streams labels with their items, in sequence."""
        request = pb.ExportLabelsRequest(
            campaign_id=campaign_id, source_id=source_id, purposes=[purpose.value for purpose in purposes]
        )
        async for response in unwrap_stream(self._stub.ExportLabels(request)):
            for labelled in response.labelled_items:
                yield LabelledItem.from_proto(labelled)

    async def ledger(self, campaign_id: str) -> AsyncIterator[LedgerEntry]:
        """Streams the ledger, in sequence."""
        request = pb.ExportLedgerRequest(campaign_id=campaign_id)
        async for response in unwrap_stream(self._stub.ExportLedger(request)):
            for entry in response.entries:
                yield LedgerEntry.from_proto(entry)

    async def record_observation(self, request_id: str, campaign_id: str, observation: Observation) -> Observation:
        """Records what a run showed."""
        request = pb.RecordObservationRequest(
            request_id=request_id, campaign_id=campaign_id, observation=observation.to_proto()
        )
        return Observation.from_proto((await unary(self._stub.RecordObservation(request))).observation)

    async def list_observations(self, campaign_id: str) -> list[Observation]:
        """Lists a campaign's observations, oldest first."""
        response = await unary(self._stub.ListObservations(pb.ListObservationsRequest(campaign_id=campaign_id)))
        return [Observation.from_proto(observation) for observation in response.observations]

    async def plan(self, request_id: str, campaign_id: str, tranche: Money | None = None) -> Plan:
        """Decides what to buy next, for at most `tranche` (default: all that is available)."""
        request = pb.PlanRequest(
            request_id=request_id, campaign_id=campaign_id, tranche=tranche.to_proto() if tranche else None
        )
        return Plan.from_proto((await unary(self._stub.Plan(request))).plan)

    async def list_plans(self, campaign_id: str) -> list[Plan]:
        """Lists a campaign's plans, oldest first."""
        response = await unary(self._stub.ListPlans(pb.ListPlansRequest(campaign_id=campaign_id)))
        return [Plan.from_proto(plan) for plan in response.plans]

    async def get_frontier(self, campaign_id: str) -> list[FrontierPoint]:
        """The Pareto set of cost and accuracy, cheapest first."""
        response = await unary(self._stub.GetFrontier(pb.GetFrontierRequest(campaign_id=campaign_id)))
        return [FrontierPoint.from_proto(point) for point in response.points]
