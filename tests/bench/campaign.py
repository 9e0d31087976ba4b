"""A campaign to measure with, made over gRPC."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from isocost.v1 import budget_service_pb2 as pb
from isocost.v1 import resources_pb2

__all__ = ["CAMPAIGN_ID", "PRICE_MICROS", "create_campaign", "item_batches", "order_labels"]

CAMPAIGN_ID = "bench"
PRICE_MICROS = 1_000
_BATCH_ITEMS = 1_000


def item_batches(n_items: int) -> Iterator[pb.AddItemsRequest]:
    """Items i0, i1, ... in batches of 1,000."""
    for start in range(0, n_items, _BATCH_ITEMS):
        items = [
            resources_pb2.Item(item_id=f"i{index}", fields={"text": f"review number {index}: neither long nor short"})
            for index in range(start, min(start + _BATCH_ITEMS, n_items))
        ]
        yield pb.AddItemsRequest(request_id=f"items/{start}", campaign_id=CAMPAIGN_ID, items=items)


async def create_campaign(stub: Any, *, n_items: int) -> None:
    """A campaign with a source at 1,000 micros, a budget for more than every item, and its items."""
    campaign = resources_pb2.Campaign(
        campaign_id=CAMPAIGN_ID,
        task=resources_pb2.Task(name="reviews", template="Review: {text}", choices=["no", "yes"]),
        budget=resources_pb2.Money(currency_code="USD", micros=PRICE_MICROS * (n_items + 1)),
        strong_model="strong",
    )
    source = resources_pb2.Source(
        source_id="weak",
        kind=resources_pb2.SOURCE_KIND_MODEL,
        unit_price=resources_pb2.Money(currency_code="USD", micros=PRICE_MICROS),
    )
    await stub.CreateCampaign(pb.CreateCampaignRequest(request_id="campaign", campaign=campaign))
    await stub.CreateSource(pb.CreateSourceRequest(request_id="source", campaign_id=CAMPAIGN_ID, source=source))
    if n_items:
        response = await stub.AddItems(item_batches(n_items))
        assert response.n_added == n_items


async def order_labels(stub: Any, request_id: str, n_labels: int) -> str:
    """Orders labels of random items; returns the order's id."""
    request = pb.CreateOrderRequest(
        request_id=request_id,
        campaign_id=CAMPAIGN_ID,
        source_id="weak",
        purpose=resources_pb2.PURPOSE_TRAINING,
        n_labels=n_labels,
    )
    order_id: str = (await stub.CreateOrder(request)).order.order_id
    return order_id
