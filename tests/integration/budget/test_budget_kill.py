"""The server is killed under load, again and again: nothing acknowledged is lost, nothing is paid twice."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from typing import Any

import grpc
import pytest

from isocost.budget.proof import verify_ledger
from isocost.v1 import budget_service_pb2 as pb
from isocost.v1 import budget_service_pb2_grpc, queue_service_pb2_grpc, resources_pb2
from isocost.v1 import queue_service_pb2 as queue_pb
from tests.budget_process import BudgetProcess, running_budget

SOAK = os.environ.get("ISOCOST_SOAK") == "1"
N_KILLS = {"sqlite": 130 if SOAK else 8, "postgresql": 70 if SOAK else 4}
N_WORKERS = 8
#: What a process acknowledges before it is killed, at most.
ACKNOWLEDGED_MAX = 60
PRICES_MICROS = {"weak": 1_000, "human": 100_000}
ITEMS_A_ROUND = 600


class Books:
    """What clients know: every request they ever made, with its answer where one came."""

    def __init__(self) -> None:
        self.unanswered: list[tuple[str, Any]] = []
        self.answered: list[tuple[str, Any, Any]] = []
        self.labels: set[tuple[str, str, str]] = set()

    def keep(self, method: str, request: Any, response: Any) -> None:
        """Remembers an answer, and the labels it acknowledges."""
        if method == "LeaseItems" and not response.items:
            # Nothing waited, nothing was changed: a repeat may get more.
            return
        self.answered.append((method, request, response))
        if method == "SubmitLabels":
            self.labels |= {(request.order_id, label.item_id, label.annotator) for label in request.labels}
        if method == "AnswerItems":
            self.labels |= {(request.lease_id, label.item_id, response.lease.annotator) for label in request.labels}


class Pipeline:
    """One client: buys, submits, leases, answers, cancels, until the server is gone."""

    def __init__(self, books: Books, name: str, chance: random.Random, channel: grpc.aio.Channel) -> None:
        self._books = books
        self._name = name
        self._chance = chance
        self._stubs: dict[str, Any] = {}
        for stub in (
            budget_service_pb2_grpc.BudgetServiceStub(channel),
            queue_service_pb2_grpc.QueueServiceStub(channel),
        ):
            self._stubs |= vars(stub)
        self._n_requests = 0

    async def work(self, acknowledged: asyncio.Queue[str]) -> None:
        """Purchases one after another, each answered in part."""
        try:
            while True:
                await self._purchase(acknowledged)
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.UNAVAILABLE, error  # noqa: PT017

    async def _call(self, acknowledged: asyncio.Queue[str], method: str, request: Any) -> Any:
        self._n_requests += 1
        request.request_id = f"{self._name}/{self._n_requests}"
        self._books.unanswered.append((method, request))
        response = await self._stubs[method](request)
        self._books.unanswered.remove((method, request))
        self._books.keep(method, request, response)
        acknowledged.put_nowait(method)
        return response

    async def _purchase(self, acknowledged: asyncio.Queue[str]) -> None:
        overlap = self._chance.randint(1, 2)
        people = self._chance.random() < 0.5
        request = pb.CreateOrderRequest(
            campaign_id="c",
            source_id="human" if people else "weak",
            purpose=resources_pb2.PURPOSE_TRAINING,
            n_labels=2 * overlap if people else self._chance.randint(1, 8),
            overlap=overlap if people else 1,
        )
        order = (await self._call(acknowledged, "CreateOrder", request)).order
        if people:
            await self._lease_and_answer(acknowledged)
        else:
            await self._submit(acknowledged, order.order_id)
        if self._chance.random() < 0.4:
            await self._call(acknowledged, "CancelOrder", pb.CancelOrderRequest(order_id=order.order_id))

    async def _submit(self, acknowledged: asyncio.Queue[str], order_id: str) -> None:
        export = self._stubs["ExportOrderItems"](pb.ExportOrderItemsRequest(order_id=order_id))
        item_ids = [item.item_id async for part in export for item in part.items]
        for chosen in (item_ids[: len(item_ids) // 2], item_ids[len(item_ids) // 2 : -1]):
            if chosen:
                request = pb.SubmitLabelsRequest(order_id=order_id, labels=[label(item_id) for item_id in chosen])
                await self._call(acknowledged, "SubmitLabels", request)

    async def _lease_and_answer(self, acknowledged: asyncio.Queue[str]) -> None:
        request = queue_pb.LeaseItemsRequest(
            campaign_id="c", source_id="human", annotator=f"annotator of {self._name}", n_items=3
        )
        leased = await self._call(acknowledged, "LeaseItems", request)
        if not leased.items:
            return
        answers = queue_pb.AnswerItemsRequest(
            lease_id=leased.lease.lease_id, labels=[label(item.item_id) for item in leased.items[:2]]
        )
        try:
            await self._call(acknowledged, "AnswerItems", answers)
        except grpc.aio.AioRpcError as error:
            # Another client has cancelled the order meanwhile.
            if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
                raise
            self._books.unanswered.remove(("AnswerItems", answers))
        await self._call(acknowledged, "ReleaseLease", queue_pb.ReleaseLeaseRequest(lease_id=leased.lease.lease_id))


def label(item_id: str) -> resources_pb2.Label:
    return resources_pb2.Label(item_id=item_id, probabilities=[0.25, 0.75])


async def create_campaign(stub: Any) -> None:
    await stub.CreateCampaign(
        pb.CreateCampaignRequest(
            request_id="campaign",
            campaign=resources_pb2.Campaign(
                campaign_id="c",
                task=resources_pb2.Task(name="claims", template="{claim}?", choices=["no", "yes"]),
                budget=resources_pb2.Money(currency_code="USD", micros=10**12),
                strong_model="strong",
            ),
        )
    )
    for source_id, kind in (("weak", resources_pb2.SOURCE_KIND_MODEL), ("human", resources_pb2.SOURCE_KIND_HUMAN)):
        price = resources_pb2.Money(currency_code="USD", micros=PRICES_MICROS[source_id])
        source = resources_pb2.Source(source_id=source_id, kind=kind, unit_price=price)
        await stub.CreateSource(pb.CreateSourceRequest(request_id=source_id, campaign_id="c", source=source))


async def add_items(stub: Any, number: int) -> None:
    """So many that no process runs out of them before it is killed."""
    items = [resources_pb2.Item(item_id=f"i{number}-{k}", fields={"claim": "x"}) for k in range(ITEMS_A_ROUND)]
    await stub.AddItems(iter([pb.AddItemsRequest(request_id=f"items/{number}", campaign_id="c", items=items)]))


async def work_until_killed(budget: BudgetProcess, books: Books, number: int, chance: random.Random) -> None:
    """Eight clients work; the server is killed after some acknowledgements and a moment more, wherever it then is."""
    acknowledged: asyncio.Queue[str] = asyncio.Queue()
    pipelines = [
        Pipeline(books, f"{number}/{client}", random.Random(chance.random()), budget.channel)
        for client in range(N_WORKERS)
    ]
    working = [asyncio.create_task(pipeline.work(acknowledged)) for pipeline in pipelines]
    for _ in range(chance.randint(1, ACKNOWLEDGED_MAX)):
        await acknowledged.get()
    await asyncio.sleep(chance.random() * 0.02)
    budget.kill()
    await asyncio.gather(*working)
    assert await budget.process.wait() < 0


async def repeat_what_was_not_answered(budget: BudgetProcess, books: Books, chance: random.Random) -> None:
    """Every repeat is done now, or gets the answer that was lost; repeats of what was answered get the same again."""
    stubs = vars(budget_service_pb2_grpc.BudgetServiceStub(budget.channel)) | vars(
        queue_service_pb2_grpc.QueueServiceStub(budget.channel)
    )
    for method, request in books.unanswered:
        try:
            books.keep(method, request, await stubs[method](request))
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.FAILED_PRECONDITION, error  # noqa: PT017
    books.unanswered.clear()
    for method, request, response in chance.sample(books.answered, k=min(20, len(books.answered))):
        assert await stubs[method](request) == response


async def stored_labels(budget: BudgetProcess) -> list[tuple[str, str, str]]:
    """The (order or lease, item, annotator) of each label, as clients know them."""
    stub: Any = budget_service_pb2_grpc.BudgetServiceStub(budget.channel)
    export = stub.ExportLabels(pb.ExportLabelsRequest(campaign_id="c"))
    labels = [part.label async for message in export for part in message.labelled_items]
    return [(label.lease_id or label.order_id, label.item_id, label.annotator) for label in labels]


@pytest.mark.timeout(7_200 if SOAK else 600)
async def test_a_killed_server_loses_nothing_and_pays_nothing_twice(
    database_url: str, request: pytest.FixtureRequest
) -> None:
    n_kills = N_KILLS[request.node.callspec.params["database_url"]]
    chance = random.Random(2)
    books = Books()
    async with running_budget(database_url) as budget:
        await create_campaign(budget_service_pb2_grpc.BudgetServiceStub(budget.channel))
    for number in range(n_kills):
        async with running_budget(database_url) as budget:
            await add_items(budget_service_pb2_grpc.BudgetServiceStub(budget.channel), number)
            await repeat_what_was_not_answered(budget, books, chance)
            await work_until_killed(budget, books, number, chance)
        (proof,) = verify_ledger(database_url)
        assert proof.n_labels >= len(books.labels)
    async with running_budget(database_url) as budget:
        await repeat_what_was_not_answered(budget, books, chance)
        stored = await stored_labels(budget)
    assert max(Counter(stored).values()) == 1
    assert set(stored) == books.labels
    (proof,) = verify_ledger(database_url)
    assert proof.n_labels == len(stored)
    # The load was mixed.
    assert {method for method, _, _ in books.answered} == {
        "AnswerItems",
        "CancelOrder",
        "CreateOrder",
        "LeaseItems",
        "ReleaseLease",
        "SubmitLabels",
    }
