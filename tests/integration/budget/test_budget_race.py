"""64 clients at once, each on a connection of its own."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest

from isocost.budget.proof import verify_ledger
from isocost.core.errors import BudgetExceededError, FailedPreconditionError, IsocostError, from_rpc_error
from isocost.v1 import budget_service_pb2 as pb
from isocost.v1 import budget_service_pb2_grpc, queue_service_pb2_grpc, resources_pb2
from isocost.v1 import queue_service_pb2 as queue_pb

N_CLIENTS = 64
PRICE_MICROS = 100_000


@pytest.fixture
async def channels(rig: Any) -> AsyncIterator[list[grpc.aio.Channel]]:
    # Without the option all channels to one address share one connection.
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(grpc.aio.insecure_channel(rig.address, options=options))
            for _ in range(N_CLIENTS)
        ]


async def race(channels: list[grpc.aio.Channel], call: Callable[[int, grpc.aio.Channel], Awaitable[Any]]) -> list[Any]:
    """What each client got: an answer, or the error that the service raised."""

    async def client(number: int, channel: grpc.aio.Channel) -> Any:
        try:
            return await call(number, channel)
        except grpc.aio.AioRpcError as error:
            return from_rpc_error(error)

    await asyncio.gather(*(channel.channel_ready() for channel in channels))
    return await asyncio.gather(*(client(*each) for each in enumerate(channels)))


def order_request(request_id: str, n_labels: int) -> pb.CreateOrderRequest:
    return pb.CreateOrderRequest(
        request_id=request_id,
        campaign_id="c",
        source_id="human",
        purpose=resources_pb2.PURPOSE_TRAINING,
        n_labels=n_labels,
    )


@pytest.mark.parametrize(("n_labels", "n_affordable"), [(1, 41), (3, 13)])
async def test_the_last_dollars_are_spent_exactly_once(
    rig: Any, channels: list[grpc.aio.Channel], n_labels: int, n_affordable: int
) -> None:
    await rig.create(budget_micros=41 * PRICE_MICROS, n_items=N_CLIENTS * 3)

    async def buy(number: int, channel: grpc.aio.Channel) -> Any:
        stub: Any = budget_service_pb2_grpc.BudgetServiceStub(channel)
        return await stub.CreateOrder(order_request(f"buy/{number}", n_labels))

    answers = await race(channels, buy)
    bought = [answer for answer in answers if isinstance(answer, pb.CreateOrderResponse)]
    assert len(bought) == n_affordable
    assert Counter(type(answer) for answer in answers) == {
        pb.CreateOrderResponse: n_affordable,
        BudgetExceededError: N_CLIENTS - n_affordable,
    }
    items = [item_id for answer in bought for item_id in await rig.items(answer.order.order_id)]
    assert len(set(items)) == len(items) == n_affordable * n_labels
    # Each saw the money of one instant, and no two the same.
    spent = n_labels * PRICE_MICROS
    assert sorted(answer.balance.reserved.micros for answer in bought) == [
        spent * count for count in range(1, n_affordable + 1)
    ]
    (proof,) = verify_ledger(rig.database_url)
    assert proof.reserved.micros == n_affordable * spent


async def test_one_purchase_repeated_by_everyone_is_made_once(rig: Any, channels: list[grpc.aio.Channel]) -> None:
    await rig.create(budget_micros=100 * PRICE_MICROS, n_items=N_CLIENTS)

    async def buy(_: int, channel: grpc.aio.Channel) -> Any:
        stub: Any = budget_service_pb2_grpc.BudgetServiceStub(channel)
        return await stub.CreateOrder(order_request("the same", 2))

    first, *others = await race(channels, buy)
    assert isinstance(first, pb.CreateOrderResponse)
    assert others == [first] * (N_CLIENTS - 1)
    (proof,) = verify_ledger(rig.database_url)
    assert (proof.n_orders, proof.reserved.micros) == (1, 2 * PRICE_MICROS)


async def test_a_label_that_everyone_submits_is_paid_once(rig: Any, channels: list[grpc.aio.Channel]) -> None:
    await rig.create(n_items=10)
    order = await rig.order("o", "human", 5)
    labels = [
        resources_pb2.Label(item_id=item_id, annotator="ann", probabilities=[0, 1])
        for item_id in await rig.items(order.order_id)
    ]

    async def submit(number: int, channel: grpc.aio.Channel) -> Any:
        stub: Any = budget_service_pb2_grpc.BudgetServiceStub(channel)
        request = pb.SubmitLabelsRequest(request_id=f"submit/{number}", order_id=order.order_id, labels=labels)
        return await stub.SubmitLabels(request)

    answers = await race(channels, submit)
    assert Counter((answer.n_accepted, answer.n_duplicate) for answer in answers) == {(5, 0): 1, (0, 5): N_CLIENTS - 1}
    (proof,) = verify_ledger(rig.database_url)
    assert (proof.n_labels, proof.settled.micros) == (5, 5 * PRICE_MICROS)


async def test_64_annotators_never_hold_the_same_label(rig: Any, channels: list[grpc.aio.Channel]) -> None:
    await rig.create(budget_micros=100 * PRICE_MICROS, n_items=25)
    await rig.order("o", "human", 50, overlap=2)

    async def lease_and_answer(number: int, channel: grpc.aio.Channel) -> Any:
        queue: Any = queue_service_pb2_grpc.QueueServiceStub(channel)
        leased = await queue.LeaseItems(
            queue_pb.LeaseItemsRequest(
                request_id=f"lease/{number}", campaign_id="c", source_id="human", annotator=f"ann{number}", n_items=2
            )
        )
        if not leased.HasField("lease"):
            return []
        item_ids = [item.item_id for item in leased.items]
        answers = [resources_pb2.Label(item_id=item_id, probabilities=[1, 0]) for item_id in item_ids]
        request = queue_pb.AnswerItemsRequest(
            request_id=f"answer/{number}", lease_id=leased.lease.lease_id, labels=answers
        )
        assert (await queue.AnswerItems(request)).n_accepted == len(item_ids)
        return item_ids

    handed_out = await race(channels, lease_and_answer)
    assert not [part for part in handed_out if isinstance(part, IsocostError)]
    assert all(len(set(part)) == len(part) for part in handed_out)
    assert set(Counter(item_id for part in handed_out for item_id in part).values()) == {2}
    (proof,) = verify_ledger(rig.database_url)
    assert (proof.n_labels, proof.settled.micros, proof.reserved.micros) == (50, 50 * PRICE_MICROS, 0)


async def test_items_of_an_order_that_is_cancelled_meanwhile_are_bought_once(
    rig: Any, channels: list[grpc.aio.Channel]
) -> None:
    """Half the clients want two items each of an order with 40, while one gives up what is pending there."""
    await rig.create(budget_micros=100 * PRICE_MICROS, n_items=60)
    human = await rig.order("human", "human", 40)
    items = await rig.items(human.order_id)
    labels = [resources_pb2.Label(item_id=item_id, probabilities=[0, 1]) for item_id in items[:10]]
    await rig.stub.SubmitLabels(pb.SubmitLabelsRequest(request_id="labels", order_id=human.order_id, labels=labels))

    async def buy_or_cancel(number: int, channel: grpc.aio.Channel) -> Any:
        stub: Any = budget_service_pb2_grpc.BudgetServiceStub(channel)
        if number == 5:
            return await stub.CancelOrder(pb.CancelOrderRequest(request_id="cancel", order_id=human.order_id))
        if number % 2:
            return None
        request = order_request(f"buy/{number}", 2)
        request.source_id, request.items_of_order_id = "weak", human.order_id
        return await stub.CreateOrder(request)

    answers = await race(channels, buy_or_cancel)
    bought = [answer.order.order_id for answer in answers if isinstance(answer, pb.CreateOrderResponse)]
    refused = [answer for answer in answers if isinstance(answer, IsocostError)]
    assert all(isinstance(answer, FailedPreconditionError) for answer in refused)
    assert len(bought) + len(refused) == N_CLIENTS // 2
    # What is labelled may be bought before and after; the rest only before it was given up.
    assert 5 <= len(bought) <= 20
    sold = [item_id for order_id in bought for item_id in await rig.items(order_id)]
    assert sorted(sold) == sorted(items[: len(sold)])
    (proof,) = verify_ledger(rig.database_url)
    assert (proof.n_labels, proof.reserved.micros) == (10, len(sold) * 1_000)


async def test_a_metered_label_that_everyone_submits_is_paid_once(rig: Any, channels: list[grpc.aio.Channel]) -> None:
    await rig.create(n_items=10)
    await rig.add_metered()
    order = await rig.order("o", "metered", 5)
    labels = [
        resources_pb2.Label(item_id=item_id, probabilities=[0, 1], prompt_tokens=100)
        for item_id in await rig.items(order.order_id)
    ]

    async def submit(number: int, channel: grpc.aio.Channel) -> Any:
        stub: Any = budget_service_pb2_grpc.BudgetServiceStub(channel)
        request = pb.SubmitLabelsRequest(request_id=f"submit/{number}", order_id=order.order_id, labels=labels)
        return await stub.SubmitLabels(request)

    answers = await race(channels, submit)
    assert Counter((answer.n_accepted, answer.n_duplicate) for answer in answers) == {(5, 0): 1, (0, 5): N_CLIENTS - 1}
    (proof,) = verify_ledger(rig.database_url)
    # Reserved, five paid, and what they did not cost released in one.
    assert (proof.n_entries, proof.settled.micros, proof.reserved.micros) == (7, 5 * 150, 0)
