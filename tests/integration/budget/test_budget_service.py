"""The budget service over real gRPC: the whole line, repeats, and the Python client against it."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from isocost.budget.proof import verify_ledger
from isocost.client.budget import BudgetClient
from isocost.core.errors import BudgetExceededError
from isocost.core.grpc_server import open_channel
from isocost.core.money import Money
from isocost.economics.interval import wilson_interval
from isocost.resources.campaign import Campaign, CampaignState, EntryKind, OrderState
from isocost.resources.label import Label, Purpose
from isocost.resources.observation import Evaluation, Observation
from isocost.resources.plan import Decision
from isocost.resources.task import Item, Source, SourceKind, Task
from isocost.v1 import budget_service_pb2 as pb
from isocost.v1 import budget_service_pb2_grpc, resources_pb2

TASK = Task("claims", "Is it true that {claim}?", ("no", "yes"))


async def test_a_campaign_from_creation_to_finish(rig: Any) -> None:
    async with BudgetClient(rig.address) as client:
        created = await client.create_campaign("r1", Campaign("c", TASK, Money(1_000_000), "strong", '{"a":1}'))
        assert created.state is CampaignState.ACTIVE
        assert created.create_time is not None
        weak = Source("weak", SourceKind.MODEL, Money(1_000), "small")
        human = Source("human", SourceKind.HUMAN, Money(100_000))
        assert [await client.create_source("r2", "c", weak), await client.create_source("r3", "c", human)] == [
            weak,
            human,
        ]
        assert await client.list_sources("c") == [weak, human]
        items = {f"i{index}": Item(f"i{index}", {"claim": f"claim {index}"}) for index in range(40)}
        added = await client.add_items("r3/items", "c", items.values())
        assert (added.n_added, added.n_duplicate, added.n_errors) == (40, 0, 0)

        order = await client.create_order("r4", "c", "weak", Purpose.TRAINING, 20)
        ordered = [item async for item in client.order_items(order.order_id)]
        assert len(ordered) == 20
        assert all(items[item.item_id] == item for item in ordered)
        labels = [
            Label(item.item_id, (0.125, 0.875), "model", "small@1", prompt_tokens=11, choices_mass=0.5)
            for item in ordered
        ]
        part = await client.submit_labels("r5", order.order_id, labels[:12])
        assert (part.n_accepted, part.order.state) == (12, OrderState.OPEN)
        pending = [item.item_id async for item in client.order_items(order.order_id, pending_only=True)]
        assert pending == [item.item_id for item in ordered[12:]]
        await client.submit_labels("r6", order.order_id, labels[12:])
        free = next(item_id for item_id in items if item_id not in {item.item_id for item in ordered})
        evaluation = await client.create_order("r7", "c", "human", Purpose.EVALUATION, item_ids=[free])
        await client.submit_labels("r8", evaluation.order_id, [Label(free, (1.0, 0.0), "ann")])

        stored = [labelled async for labelled in client.labels("c")]
        assert [labelled.label.sequence for labelled in stored] == list(range(1, 22))
        assert [labelled.item for labelled in stored] == [*ordered, items[free]]
        first = stored[0].label
        assert (first.source_id, first.order_id, first.purpose) == ("weak", order.order_id, Purpose.TRAINING)
        assert (first.probabilities, first.engine_fingerprint, first.prompt_tokens) == ((0.125, 0.875), "small@1", 11)
        by_human = [each.label.item_id async for each in client.labels("c", source_id="human")]
        for_training = [each async for each in client.labels("c", purposes=[Purpose.TRAINING, Purpose.PILOT])]
        assert by_human == [free]
        assert for_training == stored[:20]

        low, high = wilson_interval(0.75, 1)
        seen = Observation(
            "run", "weak_sft", 20, 0, 0, Evaluation("evaluation", 1, 0.75, low, high, 0.5), weak_source_id="weak"
        )
        assert (await client.record_observation("r9", "c", seen)).cost == Money(20_000)
        assert [each.run_id for each in await client.list_observations("c")] == ["run"]
        plan = await client.plan("r10", "c", Money(100_000))
        assert plan.decision is Decision.BUY
        assert await client.list_plans("c") == [plan]
        assert [point.cost for point in await client.get_frontier("c")] == [Money(20_000)]

        open_order = await client.create_order("r11", "c", "human", Purpose.TRAINING, 3)
        assert (await client.cancel_order("r12", open_order.order_id)).state is OrderState.CANCELLED
        assert (await client.finish_campaign("r13", "c")).state is CampaignState.FINISHED
        status = await client.get_campaign("c")
        assert (status.balance.settled, status.balance.reserved) == (Money(120_000), Money(0))
        assert (status.n_items, status.n_items_free) == (40, 19)
        entries = [entry async for entry in client.ledger("c")]
        assert [entry.sequence for entry in entries] == list(range(1, len(entries) + 1))
        assert status.n_entries == len(entries)
        assert status.n_labels == sum(entry.kind is EntryKind.SETTLE for entry in entries)
        assert sum(entry.amount.micros for entry in entries if entry.kind is EntryKind.SETTLE) == 120_000
        assert [order.state for order in await client.list_orders("c")] == [
            OrderState.SETTLED,
            OrderState.SETTLED,
            OrderState.CANCELLED,
        ]
        assert [campaign.campaign_id for campaign in await client.list_campaigns()] == ["c"]
    (proof,) = verify_ledger(rig.database_url, "c")
    assert (proof.n_labels, proof.settled) == (21, Money(120_000))


async def test_every_mutation_repeated_gives_its_first_answer(rig: Any) -> None:
    await rig.create()
    await rig.create()
    money = resources_pb2.Money(currency_code="USD", micros=50_000)
    order = await rig.order("o")
    labels = [resources_pb2.Label(item_id=item, probabilities=[0.5, 0.5]) for item in await rig.items(order.order_id)]
    evaluation = resources_pb2.Evaluation(
        name="e", n_eval=10, accuracy=0.5, accuracy_low=0.2, accuracy_high=0.8, auroc=0.5
    )
    observation = resources_pb2.Observation(
        run_id="run", method="m", n_weak=5, evaluation=evaluation, weak_source_id="weak"
    )
    calls: list[tuple[Any, Any]] = [
        (
            rig.stub.CreateOrder,
            pb.CreateOrderRequest(
                request_id="1", campaign_id="c", source_id="human", purpose=resources_pb2.PURPOSE_PILOT, n_labels=2
            ),
        ),
        (rig.stub.SubmitLabels, pb.SubmitLabelsRequest(request_id="2", order_id=order.order_id, labels=labels[:3])),
        (rig.stub.CancelOrder, pb.CancelOrderRequest(request_id="3", order_id=order.order_id)),
        (
            rig.stub.RecordObservation,
            pb.RecordObservationRequest(request_id="4", campaign_id="c", observation=observation),
        ),
        (rig.stub.Plan, pb.PlanRequest(request_id="5", campaign_id="c", tranche=money)),
        (rig.stub.FinishCampaign, pb.FinishCampaignRequest(request_id="6", campaign_id="c")),
    ]
    answers = [await call(request) for call, request in calls]
    balance = await rig.balance()
    assert [await call(request) for call, request in calls] == answers
    assert await rig.balance() == balance
    for call, request in calls:
        changed = type(request)()
        changed.CopyFrom(request)
        setattr(changed, "order_id" if hasattr(changed, "order_id") else "campaign_id", "other")
        with pytest.raises(grpc.aio.AioRpcError, match="another body") as refusal:
            await call(changed)
        assert refusal.value.code() is grpc.StatusCode.ALREADY_EXISTS
    with pytest.raises(grpc.aio.AioRpcError, match="used before by CreateOrder"):
        await rig.stub.CancelOrder(pb.CancelOrderRequest(request_id="1", order_id=order.order_id))


async def test_items_are_refused_one_by_one(rig: Any) -> None:
    await rig.create(n_items=2)

    def item(item_id: str, **fields: str) -> resources_pb2.Item:
        return resources_pb2.Item(item_id=item_id, fields=fields)

    response = await rig.stub.AddItems(
        iter(
            [
                pb.AddItemsRequest(
                    request_id="add1", campaign_id="c", items=[item("a", claim="x"), item("", claim="x"), item("b")]
                ),
                pb.AddItemsRequest(request_id="add2", campaign_id="c"),
                pb.AddItemsRequest(
                    request_id="add0",
                    campaign_id="c",
                    items=[item("i0", claim="claim 0"), item("i1", claim="changed"), item("a", claim="x")],
                ),
            ]
        )
    )
    assert (response.n_added, response.n_duplicate, response.n_errors) == (1, 2, 3)
    assert [(error.item_id, error.index) for error in response.errors] == [("", 1), ("b", 2), ("i1", 4)]
    assert "has no fields" in response.errors[1].message
    assert "other fields" in response.errors[2].message


async def test_item_errors_are_all_counted_but_not_all_named(rig: Any) -> None:
    await rig.create(n_items=0)
    bad = [resources_pb2.Item(item_id="x" * 5_000)] * 600
    batches = [pb.AddItemsRequest(request_id=f"add{n}", campaign_id="c", items=bad) for n in range(2)]
    response = await rig.stub.AddItems(iter(batches))
    assert (response.n_errors, len(response.errors)) == (1_200, 1_000)
    assert response.errors[-1].index == 999


async def test_a_repeated_batch_counts_as_the_first_time(rig: Any) -> None:
    await rig.create(n_items=0)

    def batch(request_id: str, *item_ids: str) -> pb.AddItemsRequest:
        items = [resources_pb2.Item(item_id=item_id, fields={"claim": item_id}) for item_id in item_ids]
        return pb.AddItemsRequest(request_id=request_id, campaign_id="c", items=items)

    first = await rig.stub.AddItems(iter([batch("1", "a", "b"), batch("2", "b", "c")]))
    again = await rig.stub.AddItems(iter([batch("1", "a", "b"), batch("2", "b", "c"), batch("3", "c", "d")]))
    assert (first.n_added, first.n_duplicate) == (3, 1)
    assert (again.n_added, again.n_duplicate) == (4, 2)
    with pytest.raises(grpc.aio.AioRpcError, match="used before with another body"):
        await rig.stub.AddItems(iter([batch("1", "a")]))


async def test_an_export_of_long_texts_is_cut_into_messages_that_fit(rig: Any) -> None:
    await rig.create(n_items=0)
    long = "x" * 1_000_000
    for start in range(0, 40, 10):
        items = [resources_pb2.Item(item_id=f"i{index}", fields={"claim": long}) for index in range(start, start + 10)]
        await rig.stub.AddItems(iter([pb.AddItemsRequest(request_id=f"long{start}", campaign_id="c", items=items)]))
    order = await rig.order("o", n_labels=40)
    sizes = [
        len(part.items) async for part in rig.stub.ExportOrderItems(pb.ExportOrderItemsRequest(order_id=order.order_id))
    ]
    assert sum(sizes) == 40
    assert max(sizes) <= 4


async def test_many_clients_race_for_the_last_dollars(rig: Any) -> None:
    """32 clients, 300 orders for 2 human labels each, money for 50 labels: exactly 25 succeed."""
    await rig.create(budget_micros=5_000_000, n_items=1_000)

    async def client(number: int) -> int:
        async with open_channel(rig.address) as channel:
            stub: Any = budget_service_pb2_grpc.BudgetServiceStub(channel)
            n_bought = 0
            for attempt in range(10):
                request = pb.CreateOrderRequest(
                    request_id=f"{number}/{attempt}",
                    campaign_id="c",
                    source_id="human",
                    purpose=resources_pb2.PURPOSE_TRAINING,
                    n_labels=2,
                )
                try:
                    await stub.CreateOrder(request)
                    n_bought += 1
                except grpc.aio.AioRpcError as error:
                    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED  # noqa: PT017
            return n_bought

    bought = await asyncio.gather(*(client(number) for number in range(32)))
    assert sum(bought) == 25
    balance = await rig.balance()
    assert (balance.reserved.micros, balance.available.micros) == (5_000_000, 0)
    (proof,) = verify_ledger(rig.database_url)
    assert proof.n_orders == 25


async def test_the_same_request_from_many_clients_at_once_buys_once(rig: Any) -> None:
    await rig.create()
    orders = await asyncio.gather(*(rig.order("same") for _ in range(20)))
    assert len({order.order_id for order in orders}) == 1
    assert (await rig.balance()).reserved.micros == 5_000


async def test_the_client_raises_what_the_service_raised(rig: Any) -> None:
    await rig.create(budget_micros=100)
    async with BudgetClient(rig.address) as client:
        with pytest.raises(BudgetExceededError, match=r"only \$0\.0001 is available") as refusal:
            await client.create_order("r", "c", "weak", Purpose.TRAINING, 1)
    assert refusal.value.field == "n_labels"
