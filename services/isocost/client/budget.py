"""Client of the budget service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import timedelta

from isocost.client.answer import (
    AddedItems,
    AnnotatorAgreement,
    CampaignStatus,
    Correction,
    ItemError,
    SubmittedLabels,
)
from isocost.client.call import MESSAGE_BYTES, MESSAGE_ITEMS, batches, message_batches
from isocost.client.retry import RetryPolicy
from isocost.client.service_client import ServiceClient
from isocost.core.channel import ChannelSettings
from isocost.core.money import Money
from isocost.resources.audit import AuditEntry
from isocost.resources.campaign import Balance, Campaign, LedgerEntry, Order, Sampling, Sharing
from isocost.resources.label import Label, LabelledItem, Purpose
from isocost.resources.observation import FrontierPoint, Observation
from isocost.resources.plan import Plan
from isocost.resources.pool import ItemState, PoolItem
from isocost.resources.queue import Agreement, AnnotatorRecord, Consensus, Lease
from isocost.resources.task import Item, Source
from isocost.v1 import budget_service_pb2 as pb
from isocost.v1 import budget_service_pb2_grpc

__all__ = ["AddedItems", "BudgetClient", "CampaignStatus", "ItemError", "SubmittedLabels"]

#: Messages of items, and their bytes, that are sent and held in memory before the service has said what became of them.
_WINDOW_MESSAGES = 20
_WINDOW_BYTES = 16 << 20
#: Item errors that an answer names, as the service's own limit.
_ERRORS_MAX = 1_000
#: The most that one page holds.
_PAGE_SIZE = 1_000


class BudgetClient(ServiceClient):
    """Campaigns, orders, the ledger, the queue's state, observations and plans over gRPC.

    Usage::

        async with BudgetClient("127.0.0.1:7601") as budget:
            status = await budget.get_campaign("ag_news")

    Every method raises `IsocostError` subclasses: `InvalidArgumentError`, `NotFoundError`, `AlreadyExistsError`,
    `FailedPreconditionError`, `BudgetExceededError`, `LimitExceededError`, `UnauthenticatedError`,
    `PermissionDeniedError`, `UnavailableError`, `DeadlineExceededError`. The last two, and limits with a `retry_after`,
    are raised after the repeats that the `RetryPolicy` allows: the same call may succeed later. Mutations take a
    request id: a repeat with the same body returns the first answer, for ever, so that nothing is done twice.
    """

    def __init__(
        self, address: str, *, channel: ChannelSettings | None = None, retry: RetryPolicy | None = None
    ) -> None:
        super().__init__(address, channel=channel, retry=retry)
        self._stub = budget_service_pb2_grpc.BudgetServiceStub(self._channel)

    async def create_campaign(self, request_id: str, campaign: Campaign) -> Campaign:
        """Creates a campaign."""
        request = pb.CreateCampaignRequest(request_id=request_id, campaign=campaign.to_proto())
        return Campaign.from_proto((await self._repeater.unary(self._stub.CreateCampaign, request)).campaign)

    async def get_campaign(self, campaign_id: str) -> CampaignStatus:
        """Reads a campaign, its balance and its counts."""
        request = pb.GetCampaignRequest(campaign_id=campaign_id)
        response = await self._repeater.unary(self._stub.GetCampaign, request)
        return CampaignStatus(
            Campaign.from_proto(response.campaign),
            Balance.from_proto(response.balance),
            response.n_items,
            response.n_items_free,
            response.n_labels,
            response.n_entries,
        )

    async def list_campaigns(self) -> list[Campaign]:
        """Lists the campaigns, oldest first."""
        request = pb.ListCampaignsRequest(page_size=_PAGE_SIZE)
        pages = self._repeater.pages(self._stub.ListCampaigns, request)
        return [Campaign.from_proto(campaign) async for page in pages for campaign in page.campaigns]

    async def finish_campaign(self, request_id: str, campaign_id: str) -> Campaign:
        """Marks a campaign as finished: open orders are cancelled, nothing more can be bought."""
        request = pb.FinishCampaignRequest(request_id=request_id, campaign_id=campaign_id)
        return Campaign.from_proto((await self._repeater.unary(self._stub.FinishCampaign, request)).campaign)

    async def add_items(self, request_id: str, campaign_id: str, items: Iterable[Item]) -> AddedItems:
        """Streams items into the pool; a bad item gets its own error and stops nothing.

        The items are read as they are sent: at most 20 messages of 500 items are in memory, however many there are.
        Each message has a request id of its own, `request_id/0`, `request_id/1` and so on. To go on after an error,
        make the same call with the same items in the same sequence: what was added is answered as it was, and counted.
        """
        batched = message_batches((item.to_proto() for item in items), MESSAGE_ITEMS, MESSAGE_BYTES)
        requests = (
            pb.AddItemsRequest(campaign_id=campaign_id, items=batch, request_id=f"{request_id}/{index}")
            for index, batch in enumerate(batched)
        )
        n_seen = n_added = n_duplicate = n_errors = 0
        errors: list[ItemError] = []
        for window in message_batches(requests, _WINDOW_MESSAGES, _WINDOW_BYTES):
            response = await self._repeater.upload(self._stub.AddItems, window)
            n_added += response.n_added
            n_duplicate += response.n_duplicate
            n_errors += response.n_errors
            errors.extend(
                ItemError(error.item_id, n_seen + error.index, error.message)
                for error in response.errors[: _ERRORS_MAX - len(errors)]
            )
            n_seen += sum(len(request.items) for request in window)
        return AddedItems(n_added, n_duplicate, n_errors, tuple(errors))

    async def score_items(
        self, request_id: str, campaign_id: str, scores: Mapping[str, float] | Iterable[tuple[str, float]]
    ) -> int:
        """Stores how uncertain a model is about items (higher is more uncertain); returns how many were scored.

        Sent in batches with request ids of their own, as in `add_items`. A score replaces the one before.
        """
        pairs = scores.items() if isinstance(scores, Mapping) else scores
        n_scored = 0
        for index, batch in enumerate(batches(pairs)):
            request = pb.ScoreItemsRequest(
                request_id=f"{request_id}/{index}",
                campaign_id=campaign_id,
                scores=[pb.ItemScore(item_id=item_id, uncertainty=uncertainty) for item_id, uncertainty in batch],
            )
            n_scored += (await self._repeater.unary(self._stub.ScoreItems, request)).n_scored
        return n_scored

    async def list_items(self, campaign_id: str, *, state: ItemState | None = None) -> list[PoolItem]:
        """Lists a campaign's items by id, or those in one state; for large pools see `items`."""
        request = pb.ListItemsRequest(
            campaign_id=campaign_id,
            page_size=_PAGE_SIZE,
            state=pb.ITEM_STATE_UNSPECIFIED if state is None else state.value,
        )
        pages = self._repeater.pages(self._stub.ListItems, request)
        return [PoolItem.from_proto(item) async for page in pages for item in page.items]

    async def items(
        self, campaign_id: str, *, state: ItemState | None = None, after_item_id: str = ""
    ) -> AsyncIterator[PoolItem]:
        """Streams a campaign's items by id, or those in one state, or those after an id."""
        request = pb.ExportItemsRequest(
            campaign_id=campaign_id,
            state=pb.ITEM_STATE_UNSPECIFIED if state is None else state.value,
            after_item_id=after_item_id,
        )

        def advance(response: pb.ExportItemsResponse) -> None:
            if response.items:
                request.after_item_id = response.items[-1].item.item_id

        async for response in self._repeater.stream(self._stub.ExportItems, request, advance):
            for item in response.items:
                yield PoolItem.from_proto(item)

    async def create_source(self, request_id: str, campaign_id: str, source: Source) -> Source:
        """Adds a source with its price."""
        request = pb.CreateSourceRequest(request_id=request_id, campaign_id=campaign_id, source=source.to_proto())
        return Source.from_proto((await self._repeater.unary(self._stub.CreateSource, request)).source)

    async def list_sources(self, campaign_id: str) -> list[Source]:
        """Lists a campaign's sources, oldest first."""
        request = pb.ListSourcesRequest(campaign_id=campaign_id, page_size=_PAGE_SIZE)
        pages = self._repeater.pages(self._stub.ListSources, request)
        return [Source.from_proto(source) async for page in pages for source in page.sources]

    async def create_order(
        self,
        request_id: str,
        campaign_id: str,
        source_id: str,
        purpose: Purpose,
        n_labels: int = 0,
        item_ids: Sequence[str] = (),
        *,
        sampling: Sampling | None = None,
        overlap: int = 1,
        time_to_live: timedelta | None = None,
        sharing: Sharing = Sharing.NONE,
        items_of_order_id: str = "",
    ) -> Order:
        """Reserves the money for labels.

        Args:
            request_id: The caller's id of this mutation.
            campaign_id: The campaign.
            source_id: The source to buy from.
            purpose: What the labels are for.
            n_labels: How many: items times overlap. May be left out where the items are given.
            item_ids: The items, for GIVEN sampling.
            sampling: How items are chosen; GIVEN where item ids are given, RANDOM otherwise.
            overlap: Annotators who answer each item, 1 to 100; above 1 for HUMAN sources only.
            time_to_live: How long the labels are awaited, at least one second; for ever where it is None.
            sharing: Which items of other orders may be taken; NONE counts as SOURCES with `items_of_order_id`.
            items_of_order_id: An order of another source whose first n_labels / overlap items are labelled once more.

        Raises:
            BudgetExceededError: where the budget does not suffice.
            FailedPreconditionError: where the pool, or the other order, has too few items that the order may take.
        """
        chosen = sampling or (Sampling.GIVEN if item_ids or items_of_order_id else Sampling.RANDOM)
        request = pb.CreateOrderRequest(
            request_id=request_id,
            campaign_id=campaign_id,
            source_id=source_id,
            purpose=purpose.value,
            n_labels=n_labels,
            sampling=chosen.value,
            item_ids=item_ids,
            overlap=overlap,
            sharing=sharing.value,
            items_of_order_id=items_of_order_id,
        )
        if time_to_live is not None:
            request.time_to_live.FromTimedelta(time_to_live)
        return Order.from_proto((await self._repeater.unary(self._stub.CreateOrder, request)).order)

    async def get_order(self, order_id: str) -> Order:
        """Reads an order."""
        request = pb.GetOrderRequest(order_id=order_id)
        return Order.from_proto((await self._repeater.unary(self._stub.GetOrder, request)).order)

    async def list_orders(self, campaign_id: str) -> list[Order]:
        """Lists a campaign's orders, oldest first."""
        return [order async for order in self.orders(campaign_id)]

    async def orders(self, campaign_id: str) -> AsyncIterator[Order]:
        """Streams a campaign's orders, oldest first."""
        request = pb.ListOrdersRequest(campaign_id=campaign_id, page_size=_PAGE_SIZE)
        async for page in self._repeater.pages(self._stub.ListOrders, request):
            for order in page.orders:
                yield Order.from_proto(order)

    async def cancel_order(self, request_id: str, order_id: str) -> Order:
        """Gives up the labels that have not arrived and releases their money."""
        request = pb.CancelOrderRequest(request_id=request_id, order_id=order_id)
        return Order.from_proto((await self._repeater.unary(self._stub.CancelOrder, request)).order)

    async def order_items(
        self, order_id: str, *, pending_only: bool = False, after_item_id: str = ""
    ) -> AsyncIterator[Item]:
        """Streams an order's items in its sequence; with `pending_only` those that await a label and are not leased."""
        request = pb.ExportOrderItemsRequest(order_id=order_id, pending_only=pending_only, after_item_id=after_item_id)

        def advance(response: pb.ExportOrderItemsResponse) -> None:
            if response.items:
                request.after_item_id = response.items[-1].item_id

        async for response in self._repeater.stream(self._stub.ExportOrderItems, request, advance):
            for item in response.items:
                yield Item.from_proto(item)

    async def submit_labels(self, request_id: str, order_id: str, labels: Sequence[Label]) -> SubmittedLabels:
        """Stores 1 to 10,000 labels of an order and pays for each that was not there yet."""
        request = pb.SubmitLabelsRequest(
            request_id=request_id, order_id=order_id, labels=[label.to_proto() for label in labels]
        )
        response = await self._repeater.unary(self._stub.SubmitLabels, request)
        return SubmittedLabels(response.n_accepted, response.n_duplicate, Order.from_proto(response.order))

    async def labels(
        self, campaign_id: str, *, source_id: str = "", purposes: Sequence[Purpose] = (), after_sequence: int = 0
    ) -> AsyncIterator[LabelledItem]:
        """Streams labels with their items, in sequence; all filters are joined by and."""
        request = pb.ExportLabelsRequest(
            campaign_id=campaign_id,
            source_id=source_id,
            purposes=[purpose.value for purpose in purposes],
            after_sequence=after_sequence,
        )

        def advance(response: pb.ExportLabelsResponse) -> None:
            if response.labelled_items:
                request.after_sequence = response.labelled_items[-1].label.sequence

        async for response in self._repeater.stream(self._stub.ExportLabels, request, advance):
            for labelled in response.labelled_items:
                yield LabelledItem.from_proto(labelled)

    async def ledger(self, campaign_id: str, *, after_sequence: int = 0) -> AsyncIterator[LedgerEntry]:
        """Streams the ledger, in sequence, after the given one."""
        request = pb.ExportLedgerRequest(campaign_id=campaign_id, after_sequence=after_sequence)

        def advance(response: pb.ExportLedgerResponse) -> None:
            if response.entries:
                request.after_sequence = response.entries[-1].sequence

        async for response in self._repeater.stream(self._stub.ExportLedger, request, advance):
            for entry in response.entries:
                yield LedgerEntry.from_proto(entry)

    async def create_correction(
        self, request_id: str, campaign_id: str, corrects_sequence: int, amount: Money, reason: str
    ) -> Correction:
        """Adds an amount to the payment at a sequence of the ledger, negative for a refund; needs the admin role."""
        request = pb.CreateCorrectionRequest(
            request_id=request_id,
            campaign_id=campaign_id,
            corrects_sequence=corrects_sequence,
            amount=amount.to_proto(),
            reason=reason,
        )
        response = await self._repeater.unary(self._stub.CreateCorrection, request)
        return Correction(LedgerEntry.from_proto(response.entry), Balance.from_proto(response.balance))

    async def list_leases(self, campaign_id: str, *, annotator: str = "") -> list[Lease]:
        """Lists the leases of a campaign's queue, oldest first, or those of one annotator."""
        request = pb.ListLeasesRequest(campaign_id=campaign_id, page_size=_PAGE_SIZE, annotator=annotator)
        pages = self._repeater.pages(self._stub.ListLeases, request)
        return [Lease.from_proto(lease) async for page in pages for lease in page.leases]

    async def get_agreement(self, campaign_id: str, source_id: str) -> AnnotatorAgreement:
        """How well a HUMAN source's annotators agree with each other and with the gold questions."""
        request = pb.GetAgreementRequest(campaign_id=campaign_id, source_id=source_id)
        response = await self._repeater.unary(self._stub.GetAgreement, request)
        return AnnotatorAgreement(
            Agreement.from_proto(response.agreement),
            tuple(AnnotatorRecord.from_proto(record) for record in response.annotators),
        )

    async def consensus(
        self, campaign_id: str, source_id: str, *, purposes: Sequence[Purpose] = ()
    ) -> AsyncIterator[Consensus]:
        """Streams one answer for each item that has labels of a HUMAN source, by item id.

        Where the connection breaks, what has not arrived is computed anew, from the labels there are then.
        """
        request = pb.ExportConsensusRequest(
            campaign_id=campaign_id, source_id=source_id, purposes=[purpose.value for purpose in purposes]
        )
        seen: set[str] = set()
        async for response in self._repeater.stream(self._stub.ExportConsensus, request):
            for consensus in response.consensus:
                if consensus.item.item_id not in seen:
                    seen.add(consensus.item.item_id)
                    yield Consensus.from_proto(consensus)

    async def record_observation(self, request_id: str, campaign_id: str, observation: Observation) -> Observation:
        """Records what a run showed."""
        request = pb.RecordObservationRequest(
            request_id=request_id, campaign_id=campaign_id, observation=observation.to_proto()
        )
        return Observation.from_proto((await self._repeater.unary(self._stub.RecordObservation, request)).observation)

    async def list_observations(self, campaign_id: str) -> list[Observation]:
        """Lists a campaign's observations, oldest first."""
        request = pb.ListObservationsRequest(campaign_id=campaign_id, page_size=_PAGE_SIZE)
        pages = self._repeater.pages(self._stub.ListObservations, request)
        return [Observation.from_proto(observation) async for page in pages for observation in page.observations]

    async def plan(
        self,
        request_id: str,
        campaign_id: str,
        tranche: Money | None = None,
        *,
        weak_source_id: str = "",
        human_source_id: str = "",
        target_accuracy: float | None = None,
        gain_min: float | None = None,
    ) -> Plan:
        """Decides what to buy next, for at most `tranche` (default: all that is available).

        Of a kind whose source is named, only its labels, and runs on them, count; else the policy chooses among all.
        With a target, the cheapest labels that reach it are bought. The labels still to be bought must be expected to
        bring `gain_min` in accuracy (default: the policy's own), or the plan is to stop.
        """
        request = pb.PlanRequest(
            request_id=request_id,
            campaign_id=campaign_id,
            tranche=tranche.to_proto() if tranche else None,
            weak_source_id=weak_source_id,
            human_source_id=human_source_id,
            target_accuracy=target_accuracy,
            gain_min=gain_min,
        )
        return Plan.from_proto((await self._repeater.unary(self._stub.Plan, request)).plan)

    async def list_plans(self, campaign_id: str) -> list[Plan]:
        """Lists a campaign's plans, oldest first."""
        request = pb.ListPlansRequest(campaign_id=campaign_id, page_size=_PAGE_SIZE)
        pages = self._repeater.pages(self._stub.ListPlans, request)
        return [Plan.from_proto(plan) async for page in pages for plan in page.plans]

    async def get_frontier(self, campaign_id: str) -> list[FrontierPoint]:
        """The Pareto set of cost and accuracy, cheapest first."""
        request = pb.GetFrontierRequest(campaign_id=campaign_id)
        response = await self._repeater.unary(self._stub.GetFrontier, request)
        return [FrontierPoint.from_proto(point) for point in response.points]

    async def list_audit_entries(self, campaign_id: str = "") -> list[AuditEntry]:
        """Lists what was changed, by whom and when, oldest first; needs the admin role. See `audit_entries`."""
        return [entry async for entry in self.audit_entries(campaign_id)]

    async def audit_entries(self, campaign_id: str = "") -> AsyncIterator[AuditEntry]:
        """Streams the audit log, or what changed one campaign, oldest first; needs the admin role."""
        request = pb.ListAuditEntriesRequest(campaign_id=campaign_id, page_size=_PAGE_SIZE)
        async for page in self._repeater.pages(self._stub.ListAuditEntries, request):
            for entry in page.entries:
                yield AuditEntry.from_proto(entry)
