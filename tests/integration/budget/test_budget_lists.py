"""Lists in pages, and streams that go on where they stopped."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from isocost.v1 import budget_service_pb2 as pb
from isocost.v1 import resources_pb2


async def _pages(call: Any, request: Any, field: str) -> list[list[Any]]:
    pages: list[list[Any]] = []
    while True:
        response = await call(request)
        pages.append(list(getattr(response, field)))
        if not response.next_page_token:
            return pages
        request.page_token = response.next_page_token


async def test_pages_hold_everything_once(rig: Any) -> None:
    await rig.create(n_items=20)
    orders = [(await rig.order(f"o{number}", n_labels=1)).order_id for number in range(7)]
    pages = await _pages(rig.stub.ListOrders, pb.ListOrdersRequest(campaign_id="c", page_size=3), "orders")
    assert [[order.order_id for order in page] for page in pages] == [orders[:3], orders[3:6], orders[6:]]
    pages = await _pages(rig.stub.ListItems, pb.ListItemsRequest(campaign_id="c", page_size=10), "items")
    assert [item.item.item_id for page in pages for item in page] == sorted(f"i{number}" for number in range(20))
    free = pb.ListItemsRequest(campaign_id="c", page_size=5, state=pb.ITEM_STATE_FREE)
    assert sum(map(len, await _pages(rig.stub.ListItems, free, "items"))) == 13
    audit = await _pages(rig.stub.ListAuditEntries, pb.ListAuditEntriesRequest(page_size=4), "entries")
    methods = [entry.method for page in audit for entry in page]
    assert methods == ["CreateCampaign", "CreateSource", "CreateSource", "AddItems", *["CreateOrder"] * 7]
    assert {entry.campaign_id for page in audit for entry in page} == {"c"}


async def test_campaigns_are_listed_oldest_first(rig: Any) -> None:
    for campaign_id in ("zoo", "ant", "mid"):
        await rig.create(campaign_id=campaign_id, n_items=0)
    pages = await _pages(rig.stub.ListCampaigns, pb.ListCampaignsRequest(page_size=1), "campaigns")
    assert [campaign.campaign_id for page in pages for campaign in page] == ["zoo", "ant", "mid"]


async def test_a_token_of_another_list_is_refused(rig: Any) -> None:
    await rig.create(n_items=20)
    for number in range(3):
        await rig.order(f"o{number}", n_labels=1)
    token = (await rig.stub.ListOrders(pb.ListOrdersRequest(campaign_id="c", page_size=1))).next_page_token
    for refused in (
        pb.ListOrdersRequest(campaign_id="other", page_size=1, page_token=token),
        pb.ListOrdersRequest(campaign_id="c", page_token="nonsense"),
        pb.ListOrdersRequest(campaign_id="c", page_token="é"),
        pb.ListOrdersRequest(campaign_id="c", page_size=1_001),
        pb.ListOrdersRequest(campaign_id="c", page_size=-1),
    ):
        with pytest.raises(grpc.aio.AioRpcError, match=r"page_token|page_size") as refusal:
            await rig.stub.ListOrders(refused)
        assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(grpc.aio.AioRpcError, match="page_token"):
        await rig.stub.ListItems(pb.ListItemsRequest(campaign_id="c", page_token=token))
    # The size may change from page to page.
    rest = await rig.stub.ListOrders(pb.ListOrdersRequest(campaign_id="c", page_size=50, page_token=token))
    assert len(rest.orders) == 2


async def test_streams_go_on_where_they_stopped(rig: Any) -> None:
    await rig.create(n_items=20)
    order = await rig.order("o", n_labels=12)
    item_ids = await rig.items(order.order_id)
    labels = [resources_pb2.Label(item_id=item_id, probabilities=[0.5, 0.5]) for item_id in item_ids]
    await rig.stub.SubmitLabels(pb.SubmitLabelsRequest(request_id="s", order_id=order.order_id, labels=labels))

    async def rest(call: Any, request: Any, field: str) -> list[Any]:
        return [row async for part in call(request) for row in getattr(part, field)]

    after = pb.ExportOrderItemsRequest(order_id=order.order_id, after_item_id=item_ids[8])
    found = await rest(rig.stub.ExportOrderItems, after, "items")
    assert [item.item_id for item in found] == item_ids[9:]
    labelled = pb.ExportLabelsRequest(campaign_id="c", after_sequence=9)
    found = await rest(rig.stub.ExportLabels, labelled, "labelled_items")
    assert [row.label.sequence for row in found] == [10, 11, 12]
    entries = pb.ExportLedgerRequest(campaign_id="c", after_sequence=11)
    assert [entry.sequence for entry in await rest(rig.stub.ExportLedger, entries, "entries")] == [12, 13]
    pool = pb.ExportItemsRequest(campaign_id="c", after_item_id="i7")
    assert [row.item.item_id for row in await rest(rig.stub.ExportItems, pool, "items")] == ["i8", "i9"]
    with pytest.raises(grpc.aio.AioRpcError, match="after_item_id"):
        await rest(
            rig.stub.ExportOrderItems, pb.ExportOrderItemsRequest(order_id=order.order_id, after_item_id="?"), "items"
        )
