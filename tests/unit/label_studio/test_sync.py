"""The sync between a budget service and a made-up Label Studio: every fault at every place, and the rules."""

from __future__ import annotations

import pytest

from isocost.client import Label, one_hot
from isocost.core.errors import UnavailableError
from isocost.label_studio.sync import LabelStudioSync
from isocost.resources.queue import LeaseState
from tests.unit.label_studio.conftest import Desk, Office

N_SINGLE, N_DOUBLE = 3, 2
#: Where the scenario is over.
N_LABELS = N_SINGLE + 2 * N_DOUBLE


async def play(desk: Desk, *, restarts: bool) -> None:
    """A campaign from its orders to the last label; a failed pass is made again, by a new process or the same one."""
    sync = desk.sync()

    async def step(sync: LabelStudioSync) -> LabelStudioSync:
        try:
            await sync.run_once()
        except UnavailableError:
            sync = desk.sync() if restarts else sync
            await sync.run_once()
        return sync

    single = await desk.order(N_SINGLE)
    unwanted = await desk.order(2)
    sync = await step(sync)
    await desk.order(2 * N_DOUBLE, overlap=2)
    first, *_ = [item.item_id async for item in desk.budget.order_items(single)]
    desk.studio.answer(desk.tasks[first]["id"], 1, "yes")
    sync = await step(sync)
    await desk.budget.cancel_order(f"{desk.campaign_id}/cancel", unwanted)
    sync = await step(sync)
    for _ in range(4):
        for user_id in (1, 2):
            desk.studio.work(user_id, 2)
        sync = await step(sync)


@pytest.mark.parametrize("restarts", [True, False], ids=["restart", "same process"])
@pytest.mark.parametrize("is_after", [True, False], ids=["answer lost", "request lost"])
async def test_a_fault_anywhere_loses_and_doubles_nothing(office: Office, restarts: bool, is_after: bool) -> None:
    faults = office.studio.faults
    n_places = 0
    while True:
        desk = await office.desk(f"c{n_places}")
        office.studio.tasks.clear()
        faults.at, faults.is_after, faults.n_seen, faults.names = n_places, is_after, 0, []
        await play(desk, restarts=restarts)
        given = await desk.given()
        what = faults.names[n_places] if faults.n_seen > n_places else "no fault"
        assert sum(given.values()) == N_LABELS, what
        assert max(given.values()) == 1, what
        assert given == desk.annotated(), what
        assert len(desk.tasks) == N_SINGLE + N_DOUBLE, what
        await desk.prove()
        if faults.n_seen <= n_places:
            break
        n_places += 1
    # Leases, answers, imports, changes, deletions: all had their turn.
    assert n_places >= 15
    verbs = {name.split("/")[0] for name in faults.names}
    assert {"LeaseItems", "AnswerItems", "POST ", "PATCH ", "DELETE "} <= verbs


async def test_a_new_process_takes_up_the_leases_of_the_old_one(desk: Desk) -> None:
    await desk.order(5)
    await desk.sync().run_once()
    (before,) = await desk.budget.list_leases(desk.campaign_id)
    desk.studio.work(1, 2)
    await desk.sync().run_once()
    (after,) = await desk.budget.list_leases(desk.campaign_id)
    assert (after.lease_id, after.state, after.n_answered) == (before.lease_id, LeaseState.OPEN, 2)
    assert len(desk.tasks) == 5


async def test_more_is_leased_when_half_is_answered(desk: Desk) -> None:
    await desk.order(10)
    sync = desk.sync(n_items=4)
    await sync.run_once()
    assert len(desk.tasks) == 4
    desk.studio.work(1, 1)
    await sync.run_once()
    assert len(desk.tasks) == 4
    desk.studio.work(1, 1)
    await sync.run_once()
    # Two are answered, two still there, two more.
    assert len(desk.tasks) == 6


async def test_an_answer_after_the_lease_has_ended_is_taken_while_nobody_else_has_the_item(desk: Desk) -> None:
    await desk.order(3)
    await desk.sync().run_once()
    (lease,) = await desk.budget.list_leases(desk.campaign_id)
    await desk.queue.release_lease("release", lease.lease_id)
    other = await desk.queue.lease_items("other", desk.campaign_id, "human", "dora", 1)
    theirs = other.items[0].item_id
    for task in list(desk.studio.tasks.values()):
        desk.studio.answer(task["id"], 1, "no")
    sync = desk.sync()
    tally = await sync.run_once()
    assert (tally.n_paid, tally.n_refused) == (2, 1)
    assert "not taken and not paid" in desk.said[-1]
    # It is said once, and not tried for ever.
    n_tries = desk.studio.faults.names.count("AnswerItems")
    assert (await sync.run_once()).n_refused == 0
    assert desk.studio.faults.names.count("AnswerItems") == n_tries
    # The other one gives the item back: it is leased again, and the answer is there already.
    assert other.lease is not None
    await desk.queue.release_lease("back", other.lease.lease_id)
    assert (await sync.run_once()).n_paid == 1
    assert (await desk.given())[theirs, "ann@example.com"] == 1


async def test_an_item_that_is_answered_elsewhere_is_not_asked_any_more(desk: Desk) -> None:
    await desk.order(2)
    await desk.sync().run_once()
    (lease,) = await desk.budget.list_leases(desk.campaign_id)
    await desk.queue.release_lease("release", lease.lease_id)
    other = await desk.queue.lease_items("other", desk.campaign_id, "human", "dora", 1)
    assert other.lease is not None
    gone = other.items[0].item_id
    await desk.queue.answer_items("answer", other.lease.lease_id, [Label(gone, one_hot(1, 2))])
    assert (await desk.sync().run_once()).n_removed == 1
    assert len(desk.tasks) == 1
    assert gone not in desk.tasks


async def test_a_task_that_was_answered_a_moment_ago_is_not_deleted(desk: Desk) -> None:
    order_id = await desk.order(2)
    sync = desk.sync()
    await sync.run_once()
    await desk.budget.cancel_order("cancel", order_id)
    answered, _ = desk.studio.tasks
    desk.studio.on_show = lambda task_id: desk.studio.answer(task_id, 1, "yes") if task_id == answered else None
    assert (await sync.run_once()).n_removed == 1
    assert set(desk.studio.tasks) == {answered}
    # Nobody asks for it any more, and that is said.
    assert (await sync.run_once()).n_refused == 1


async def test_a_task_that_somebody_deleted_is_made_again(desk: Desk) -> None:
    await desk.order(3)
    sync = desk.sync()
    await sync.run_once()
    before = set(desk.tasks)
    desk.studio.tasks.pop(next(iter(desk.studio.tasks)))
    # The process that leased it knows what it says; another one leases it anew.
    await sync.run_once()
    assert set(desk.tasks) == before
    desk.studio.tasks.pop(next(iter(desk.studio.tasks)))
    sync = desk.sync()
    await sync.run_once()
    assert set(desk.tasks) == before
    desk.studio.work(1, 3)
    await sync.run_once()
    assert sum((await desk.given()).values()) == 3


async def test_a_task_that_is_there_twice_loses_the_one_without_an_answer(desk: Desk) -> None:
    await desk.order(2)
    sync = desk.sync()
    await sync.run_once()
    first, second = list(desk.studio.tasks.values())
    for number, task in enumerate((first, second), start=900):
        desk.studio.tasks[number] = {**task, "id": number, "annotations": [], "updated_at": desk.studio._now()}
    desk.studio.answer(901, 1, "yes")
    tally = await sync.run_once()
    assert (tally.n_paid, tally.n_removed) == (1, 2)
    assert {task["id"] for task in desk.tasks.values()} == {first["id"], 901}


async def test_each_person_is_paid_for_an_item_once_and_three_answer_where_three_are_asked(desk: Desk) -> None:
    await desk.order(3, overlap=3)
    sync = desk.sync()
    await sync.run_once()
    (task,) = desk.tasks.values()
    assert task["overlap"] == 3
    desk.studio.answer(task["id"], 1, "yes")
    desk.studio.answer(task["id"], 1, "yes")
    desk.studio.answer(task["id"], 2, "no")
    assert (await sync.run_once()).n_paid == 2
    desk.studio.answer(task["id"], 3, "no")
    assert (await sync.run_once()).n_paid == 1
    emails = ("ann@example.com", "bob@example.com", "eve@example.com")
    assert await desk.given() == {(task["meta"]["item_id"], email): 1 for email in emails}


async def test_an_annotation_that_chooses_nothing_is_passed_over(desk: Desk) -> None:
    await desk.order(2)
    sync = desk.sync()
    await sync.run_once()
    first, second = desk.tasks.values()
    desk.studio.answer(first["id"], 1, "perhaps")
    desk.studio.skip(second["id"], 1)
    tally = await sync.run_once()
    assert (tally.n_paid, tally.n_refused) == (0, 1)
    assert "gives none of the task's choices" in desk.said[-1]


async def test_only_what_has_changed_is_read_again(office: Office) -> None:
    desk = await office.desk(n_items=260)
    await desk.order(250)
    sync = desk.sync(n_items=250)
    await sync.run_once()
    await sync.run_once()
    desk.studio.paths.clear()
    desk.studio.answer(next(iter(desk.studio.tasks)), 1, "yes")
    assert (await sync.run_once()).n_paid == 1
    assert len([path for path in desk.studio.paths if path.startswith("GET /api/tasks/")]) == 1
