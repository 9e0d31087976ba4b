"""The sync by the page's commands, between a real Label Studio and a real budget service, with kills on all sides."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from isocost.budget.proof import verify_ledger
from isocost.client import BudgetClient, Campaign, Item, Money, Purpose, RetryPolicy, Source, SourceKind, Task
from isocost.resources.campaign import OrderState
from tests.integration.label_studio.page import Command, block, start
from tests.integration.label_studio.studio import Person, Studio, eventually, free_port

CAMPAIGN, TITLE = "reviews", "reviews / human"
PRICE = Money.parse("0.50")
TASK = Task("reviews", 'Review: {text}\nIs "good" < {word}? Answer:', choices=(" no", " yes"))
#: So rarely that no test sees a second look: what arrives was announced by the webhook.
NEVER = "1200"
N_SINGLE, N_DOUBLE = 10, 3
N_LABELS = N_SINGLE + 2 * N_DOUBLE


@dataclass
class Rig:
    """A budget service as a process at an address that stays, and the sync beside it."""

    studio: Studio
    folder: Path
    budget_port: int = field(default_factory=free_port)
    webhook_port: int = field(default_factory=free_port)
    server: Command | None = None
    sync: Command | None = None
    n_started: int = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.budget_port}"

    @property
    def database_url(self) -> str:
        return f"sqlite:///{self.folder / 'budget.db'}"

    def budget(self) -> BudgetClient:
        return BudgetClient(self.address, retry=RetryPolicy(attempts_max=40))

    def start_budget(self) -> None:
        self.server = start(
            f"isocost serve budget --port {self.budget_port}",
            self._log("budget"),
            {"ISOCOST_BUDGET_DATABASE_URL": self.database_url},
        )

    def start_sync(self, mark: str = "--webhook-address", **changes: str) -> Command:
        """The page's commands; the first user of Label Studio owns the project."""
        variables: dict[str, str] = {
            "CAMPAIGN": CAMPAIGN,
            "LABEL_STUDIO_URL": self.studio.url,
            "BUDGET_ADDRESS": self.address,
            "WEBHOOK_ADDRESS": f"127.0.0.1:{self.webhook_port}",
            "POLL_SECONDS": NEVER,
            "ISOCOST_LABEL_STUDIO_API_KEY": self.owner.personal_token,
            "ISOCOST_TOKEN": "",
        }
        self.sync = start(block(mark), self._log("sync"), variables | changes)
        return self.sync

    @property
    def owner(self) -> Person:
        return self.studio.people[0]

    async def create(self) -> None:
        async with self.budget() as budget:
            campaign = Campaign(CAMPAIGN, TASK, budget=Money.parse("100.00"), strong_model="m")
            await budget.create_campaign("create", campaign)
            await budget.create_source("source", CAMPAIGN, Source("human", SourceKind.HUMAN, unit_price=PRICE))
            items = (Item(f"item {n}", {"text": f"<b>It's</b> no. {n} & {n}", "word": "$5"}) for n in range(40))
            await budget.add_items("items", CAMPAIGN, items)
            await budget.create_order("single", CAMPAIGN, "human", Purpose.TRAINING, N_SINGLE)
            await budget.create_order("double", CAMPAIGN, "human", Purpose.EVALUATION, 2 * N_DOUBLE, overlap=2)

    async def project_id(self) -> int:
        (project_id,) = await self.owner.project_ids(TITLE)
        return project_id

    async def annotators(self) -> list[tuple[str, str]]:
        """Item and annotator of each label."""
        async with self.budget() as budget:
            return [(each.label.item_id, each.label.annotator) async for each in budget.labels(CAMPAIGN)]

    async def labels_arrive(self, n_labels: int) -> None:
        assert self.sync is not None

        async def check() -> bool:
            return len(await self.annotators()) == n_labels

        await eventually(f"{n_labels} labels", check, self.sync)

    async def says(self, text: str) -> None:
        sync = self.sync
        assert sync is not None

        async def check() -> bool:
            return text in sync.said

        await eventually(f"the sync says {text!r}", check, sync)

    def _log(self, name: str) -> Path:
        self.n_started += 1
        return self.folder / f"{self.n_started} {name}.log"


@pytest.fixture
async def rig(studio: Studio, tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(studio, tmp_path)
    rig.start_budget()
    try:
        await rig.create()
        yield rig
    finally:
        for command in (rig.sync, rig.server):
            if command is not None and not command.has_ended:
                await command.stop(signal.SIGKILL)
        for project_id in await rig.owner.project_ids(TITLE):
            await rig.owner.call("DELETE", f"/api/projects/{project_id}/")


async def test_nothing_is_lost_or_doubled_whoever_is_killed(rig: Rig) -> None:
    _, ann, bob = rig.studio.people
    n_items = N_SINGLE + N_DOUBLE

    # Out, and back by the webhook.
    rig.start_sync()
    await rig.says(f"{n_items} tasks added")
    project_id = await rig.project_id()
    await ann.annotate(project_id, 2)
    await bob.annotate(project_id, 1, choice="no")
    await rig.labels_arrive(3)

    # The sync is killed; what it misses is found when it is there again.
    assert rig.sync is not None
    await rig.sync.stop(signal.SIGKILL)
    await ann.annotate(project_id, 1)
    await bob.annotate(project_id, 1)
    rig.start_sync()
    await rig.labels_arrive(5)
    await bob.annotate(project_id, 1)
    await rig.labels_arrive(6)

    # Label Studio is killed, and there is an answer before the sync has looked again.
    await rig.studio.kill()
    assert rig.server is not None
    await rig.server.stop(signal.SIGKILL)
    await rig.studio.start()
    await ann.annotate(project_id, 2)
    await rig.says("trying again")

    # So is the budget service.
    rig.start_budget()
    await rig.says("it answers again")
    await rig.labels_arrive(8)

    # An orderly end; then looks alone, without a webhook.
    assert await rig.sync.stop() == 0
    rig.start_sync(WEBHOOK_ADDRESS="", POLL_SECONDS="1")
    await rig.says("found")
    # Each person answers what Label Studio still asks of them: of the double ones, what the other one answered.
    for person in (ann, bob, ann, bob, ann, bob, ann, bob):
        await person.annotate(project_id, 1)
    await rig.labels_arrive(N_LABELS)
    assert await rig.sync.stop() == 0

    assert await rig.owner.project_ids(TITLE) == [project_id]
    assert len(await rig.owner.call("GET", f"/api/webhooks/?project={project_id}")) == 1
    tasks = await rig.owner.tasks(project_id)
    assert Counter(Counter(task["meta"]["item_id"] for task in tasks).values()) == {1: n_items}
    given = await rig.annotators()
    assert max(Counter(given).values()) == 1
    # Exactly what people did, in their names.
    emails = {person_id: email for email, person_id in (await _user_ids(rig.owner)).items()}
    assert Counter(given) == Counter(
        (task["meta"]["item_id"], emails[each["completed_by"]]) for task in tasks for each in task["annotations"]
    )
    assert Counter(Counter(item_id for item_id, _ in given).values()) == {1: N_SINGLE, 2: N_DOUBLE}
    (proof,) = verify_ledger(rig.database_url)
    assert (proof.n_labels, proof.settled.micros, proof.reserved.micros) == (N_LABELS, N_LABELS * PRICE.micros, 0)
    async with rig.budget() as budget:
        assert {order.state for order in await budget.list_orders(CAMPAIGN)} == {OrderState.SETTLED}


async def _user_ids(person: Person) -> dict[str, int]:
    return {user["email"]: user["id"] for user in await person.call("GET", "/api/users/")}


async def test_what_is_not_wanted_any_more_goes_and_what_is_changed_stays_paid(rig: Rig) -> None:
    owner, ann, bob = rig.studio.people
    # A legacy token does as well.
    sync = rig.start_sync(ISOCOST_LABEL_STUDIO_API_KEY=owner.legacy_token)
    await rig.says("13 tasks added")
    project_id = await rig.project_id()
    tasks = {task["meta"]["item_id"]: task for task in await owner.tasks(project_id)}
    async with rig.budget() as budget:
        single, double = await budget.list_orders(CAMPAIGN)
        of_double = [tasks[item.item_id] async for item in budget.order_items(double.order_id)]
        of_single = [tasks[item.item_id] async for item in budget.order_items(single.order_id)]
    # Each task asks as many people as its order does.
    assert [task["overlap"] for task in of_double] == [2] * N_DOUBLE
    assert [task["overlap"] for task in of_single] == [1] * N_SINGLE
    assert of_single[0]["data"].keys() == {"text", "word"}

    annotation_id = await ann.answer(of_single[0]["id"], choice="no")
    await rig.labels_arrive(1)
    # One answer was asked for: a second person's is not paid.
    await bob.answer(of_single[0]["id"])
    await rig.says("by bob@example.com is not taken and not paid: all answers that were asked for are given")
    # A label never changes.
    part = {"from_name": "label", "to_name": "shown_1", "type": "choices", "value": {"choices": ["yes"]}}
    await ann.call("PATCH", f"/api/annotations/{annotation_id}/", {"result": [part]})
    await rig.says("says 'yes', but ann@example.com was paid for 'no': a label never changes")
    # A skip is no answer.
    await ann.answer(of_single[1]["id"], is_skip=True)
    await bob.answer(of_single[1]["id"])
    await rig.labels_arrive(2)

    async with rig.budget() as budget:
        await budget.cancel_order("cancel", double.order_id)
    await bob.answer(of_single[2]["id"])
    await rig.labels_arrive(3)
    await rig.says("3 tasks deleted")
    assert {task["id"] for task in await owner.tasks(project_id)} == {task["id"] for task in of_single}
    async with rig.budget() as budget:
        await budget.finish_campaign("finish", CAMPAIGN)
    await ann.call("PATCH", f"/api/annotations/{annotation_id}/", {"result": [part]})
    assert await sync.ended() == 0
    assert "the campaign is finished" in sync.said
    # What somebody answered stays.
    left = {task["id"] for task in await owner.tasks(project_id)}
    assert left == {task["id"] for task in of_single[:3]}
    (proof,) = verify_ledger(rig.database_url)
    assert (proof.n_labels, proof.settled.micros) == (3, 3 * PRICE.micros)


async def test_one_pass_and_what_is_wrong_is_named(rig: Rig) -> None:
    owner, ann, _ = rig.studio.people
    # A project of that title that asks something else.
    other = (
        '<View><Text name="t" value="$text"/><Choices name="label" toName="t"><Choice value="yes"/></Choices></View>'
    )
    made = await owner.call("POST", "/api/projects/", {"title": TITLE, "label_config": other})
    refused = rig.start_sync("--once")
    assert await refused.ended() == 1
    assert f"error: --project: the project '{TITLE}' in Label Studio does not ask" in refused.said
    await owner.call("DELETE", f"/api/projects/{made['id']}/")

    once = rig.start_sync("--once")
    assert await once.ended() == 0
    assert "13 tasks added" in once.said
    await ann.annotate(await rig.project_id(), 2)
    once = rig.start_sync("--once")
    assert await once.ended() == 0
    assert "\n2 paid" in once.said
    assert len(await rig.annotators()) == 2

    wrong = {
        "--api-key: ": {"ISOCOST_LABEL_STUDIO_API_KEY": "nobody"},
        "--url: ": {"LABEL_STUDIO_URL": f"{rig.studio.url}/elsewhere"},
        "CAMPAIGN: ": {"CAMPAIGN": "another"},
    }
    for named, changes in wrong.items():
        command = rig.start_sync("--once", **changes)
        assert await command.ended() in (1, 2)
        assert f"error: {named}" in command.said
