"""A budget service in this process, a made-up Label Studio, and campaigns between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from isocost.budget.proof import verify_ledger
from isocost.budget.service import BudgetService
from isocost.budget.settings import BudgetSettings
from isocost.client import BudgetClient, Campaign, Item, Label, Money, Purpose, QueueClient, Source, SourceKind, Task
from isocost.client.answer import AnsweredItems, LeasedItems
from isocost.core.errors import UnavailableError
from isocost.core.grpc_server import ServiceHost
from isocost.label_studio.server import LabelStudioServer
from isocost.label_studio.sync import LabelStudioSync
from isocost.label_studio.webhook import Webhook
from isocost.resources.queue import Lease
from tests.unit.label_studio.fake_studio import API_KEY, EMAILS, FakeStudio, Faults, serving

PRICE = Money.parse("0.50")
TASK = Task("reviews", "Review: {text}\nGood?", choices=(" no", " yes"))


class FaultyQueue(QueueClient):
    """Changes of the queue go through the same door as those of Label Studio."""

    faults: Faults

    async def lease_items(self, request_id: str, *args: Any, **options: Any) -> LeasedItems:
        ask = super().lease_items
        leased: LeasedItems = await self._guard("LeaseItems", lambda: ask(request_id, *args, **options))
        return leased

    async def answer_items(self, request_id: str, lease_id: str, labels: Sequence[Label]) -> AnsweredItems:
        ask = super().answer_items
        answered: AnsweredItems = await self._guard("AnswerItems", lambda: ask(request_id, lease_id, labels))
        return answered

    async def release_lease(self, request_id: str, lease_id: str) -> Lease:
        ask = super().release_lease
        lease: Lease = await self._guard("ReleaseLease", lambda: ask(request_id, lease_id))
        return lease

    async def _guard(self, name: str, change: Any) -> Any:
        return await self.faults.guard(name, change, UnavailableError("away"))


@dataclass
class Desk:
    """One campaign and its project."""

    campaign_id: str
    budget: BudgetClient
    queue: QueueClient
    server: LabelStudioServer
    studio: FakeStudio
    database_url: str
    said: list[str] = field(default_factory=list)
    n_requests: int = 0

    def sync(self, *, n_items: int = 10, webhook: Webhook | None = None) -> LabelStudioSync:
        """As a process has it that has just begun."""
        return LabelStudioSync(
            self.budget,
            self.queue,
            self.server,
            self.campaign_id,
            "human",
            title=self.campaign_id,
            n_items=n_items,
            webhook=webhook,
            say=self.said.append,
        )

    async def create(self, n_items: int = 20) -> None:
        campaign = Campaign(self.campaign_id, TASK, budget=Money.parse("1000.00"), strong_model="m")
        await self.budget.create_campaign(self._id(), campaign)
        await self.budget.create_source(self._id(), self.campaign_id, Source("human", SourceKind.HUMAN, PRICE))
        items = (Item(f"i{n}", {"text": f"text {n}"}) for n in range(n_items))
        await self.budget.add_items(self._id(), self.campaign_id, items)

    async def order(self, n_labels: int, **options: Any) -> str:
        made = await self.budget.create_order(
            self._id(), self.campaign_id, "human", Purpose.TRAINING, n_labels, **options
        )
        return made.order_id

    def _id(self) -> str:
        self.n_requests += 1
        return f"{self.campaign_id}/{self.n_requests}"

    @property
    def tasks(self) -> dict[str, dict[str, Any]]:
        """The campaign's tasks by item; fails where an item has two."""
        own = [task for task in self.studio.tasks.values() if task["meta"]["campaign_id"] == self.campaign_id]
        assert len({task["meta"]["item_id"] for task in own}) == len(own), own
        return {task["meta"]["item_id"]: task for task in own}

    async def given(self) -> Counter[tuple[str, str]]:
        """Item and annotator of each label."""
        labels = self.budget.labels(self.campaign_id)
        return Counter([(each.label.item_id, each.label.annotator) async for each in labels])

    def annotated(self) -> Counter[tuple[str, str]]:
        """Item and user of each answer in Label Studio."""
        return Counter(
            (item_id, EMAILS[each["completed_by"]])
            for item_id, task in self.tasks.items()
            for each in task["annotations"]
            if not each["was_cancelled"]
        )

    async def prove(self) -> None:
        """The ledger is whole, and pays for what there is."""
        (proof,) = [each for each in verify_ledger(self.database_url) if each.campaign_id == self.campaign_id]
        n_labels = sum((await self.given()).values())
        assert (proof.n_labels, proof.settled.micros) == (n_labels, n_labels * PRICE.micros)


@dataclass
class Office:
    """Where desks are made: one service, one Label Studio."""

    host: ServiceHost
    database_url: str
    studio: FakeStudio
    budget: BudgetClient
    queue: FaultyQueue
    server: LabelStudioServer

    async def desk(self, campaign_id: str = "c", n_items: int = 20) -> Desk:
        desk = Desk(campaign_id, self.budget, self.queue, self.server, self.studio, self.database_url)
        await desk.create(n_items)
        return desk


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    studio = FakeStudio()
    database_url = f"sqlite:///{tmp_path / 'budget.db'}"
    service = BudgetService(BudgetSettings(database_url=database_url))
    async with (
        serving(studio.app()) as url,
        ServiceHost(service, "127.0.0.1:0") as host,
        BudgetClient(host.address) as budget,
        FaultyQueue(host.address) as queue,
        LabelStudioServer(url, API_KEY) as server,
    ):
        studio.url = url
        queue.faults = studio.faults
        yield Office(host, database_url, studio, budget, queue, server)


@pytest.fixture
async def desk(office: Office) -> Desk:
    return await office.desk()
