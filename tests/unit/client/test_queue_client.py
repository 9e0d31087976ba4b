"""The queue's client: its calls, and heartbeats that keep a lease alive."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from isocost.client import QueueClient, SyncQueueClient
from isocost.core.errors import FailedPreconditionError, InvalidArgumentError, UnavailableError
from isocost.resources.label import Label
from isocost.resources.queue import Lease, LeaseState
from isocost.v1 import queue_service_pb2 as pb
from isocost.v1 import resources_pb2
from tests.unit.client.scripted import QUICK, Script

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
LEASE = Lease("l", "c", "human", "ann", LeaseState.OPEN, 2, 0, BEGIN + timedelta(minutes=30), BEGIN)
SOON = timedelta(milliseconds=1)


def _extended(state: LeaseState = LeaseState.OPEN) -> pb.ExtendLeaseResponse:
    lease = LEASE.to_proto()
    lease.state = state.value
    return pb.ExtendLeaseResponse(lease=lease)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the client has no event for it
            await asyncio.sleep(0)


async def test_a_lease_is_asked_for_answered_and_given_back(script: Script) -> None:
    task = resources_pb2.Task(name="t", template="{text}?", choices=["no", "yes"])
    item = resources_pb2.Item(item_id="i", fields={"text": "x"})
    script.on["LeaseItems"] = lambda _request, n: (
        pb.LeaseItemsResponse(lease=LEASE.to_proto(), items=[item], task=task) if n == 1 else pb.LeaseItemsResponse()
    )
    script.on["AnswerItems"] = lambda _request, _n: pb.AnswerItemsResponse(
        n_accepted=1, n_duplicate=0, lease=LEASE.to_proto()
    )
    script.on["ReleaseLease"] = lambda _request, _n: pb.ReleaseLeaseResponse(lease=LEASE.to_proto())
    async with QueueClient(script.address, retry=QUICK) as queue:
        leased = await queue.lease_items("r1", "c", "human", "ann", 2, duration=timedelta(minutes=30))
        assert leased.lease == LEASE
        assert [each.item_id for each in leased.items] == ["i"]
        assert leased.task is not None
        assert leased.task.choices == ("no", "yes")
        answered = await queue.answer_items("r2", "l", [Label("i", (0.0, 1.0))])
        assert (answered.n_accepted, answered.n_duplicate, answered.lease) == (1, 0, LEASE)
        assert await queue.release_lease("r3", "l") == LEASE
        empty = await queue.lease_items("r4", "c", "human", "ann")
        assert (empty.lease, empty.items, empty.task) == (None, (), None)
    (first, second) = script.requests["LeaseItems"]
    assert (first.request_id, first.annotator, first.n_items, first.duration.seconds) == ("r1", "ann", 2, 1_800)
    assert not second.HasField("duration")


async def test_heartbeats_have_ids_of_their_own_and_end_with_the_lease(script: Script) -> None:
    ended = asyncio.Event()

    def act(_request: Any, n: int) -> Any:
        if n == 2:
            # Away for longer than the repeats go on: the next heartbeat tries again.
            raise UnavailableError("away")
        if n >= 8:
            ended.set()
            return _extended(LeaseState.ANSWERED)
        return _extended()

    script.on["ExtendLease"] = act
    async with QueueClient(script.address, retry=QUICK) as queue, queue.keep_lease(LEASE, every=SOON) as kept:
        await asyncio.wait_for(ended.wait(), 10)
        await _until(lambda: kept.lease.state is LeaseState.ANSWERED)
        assert kept.error is None
    requests = script.requests["ExtendLease"]
    assert len(requests) == 8
    assert {request.lease_id for request in requests} == {"l"}
    # The repeat after the failed attempt has the id of that attempt; every heartbeat has another.
    assert requests[1] == requests[2]
    assert len({request.request_id for request in requests}) == 7


def _lost(n: int) -> Any:
    if n < 3:
        return _extended()
    raise FailedPreconditionError("the lease has ended")


async def test_a_lease_that_is_lost_is_told(script: Script) -> None:
    script.on["ExtendLease"] = lambda _request, n: _lost(n)
    async with QueueClient(script.address, retry=QUICK) as queue, queue.keep_lease(LEASE, every=SOON) as kept:
        await _until(lambda: kept.error is not None)
    assert isinstance(kept.error, FailedPreconditionError)
    assert len(script.requests["ExtendLease"]) == 3


async def test_heartbeats_of_the_sync_client_come_from_a_thread_that_ends_with_the_block(script: Script) -> None:
    three = threading.Event()

    def act(_request: Any, n: int) -> Any:
        if n == 3:
            three.set()
        return _extended()

    script.on["ExtendLease"] = act

    def work() -> None:
        with SyncQueueClient(script.address, retry=QUICK) as queue, queue.keep_lease(LEASE, every=SOON) as kept:
            assert three.wait(10)
            assert kept.error is None
        assert not [thread for thread in threading.enumerate() if thread.name == "isocost-heartbeat"]

    await asyncio.to_thread(work)


@pytest.mark.parametrize("error", [ValueError("the reader's own"), UnavailableError("away")])
async def test_an_error_in_the_block_ends_the_heartbeats_and_goes_on(script: Script, error: Exception) -> None:
    script.on["ExtendLease"] = lambda _request, _n: _extended()
    async with QueueClient(script.address, retry=QUICK) as queue:
        with pytest.raises(type(error)):
            async with queue.keep_lease(LEASE, every=SOON):
                raise error
        assert {task.get_coro().__qualname__ for task in asyncio.all_tasks()}.isdisjoint({"Heartbeat._run"})  # type: ignore[union-attr]


async def test_a_heartbeat_comes_at_a_third_of_the_duration(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[float] = []

    class Heartbeat:
        def __init__(self, _beat: Callable[[], Any], pause_seconds: float) -> None:
            made.append(pause_seconds)

        async def __aenter__(self) -> Heartbeat:
            return self

        async def __aexit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr("isocost.client.queue.Heartbeat", Heartbeat)
    async with QueueClient("127.0.0.1:1") as queue:
        async with queue.keep_lease(LEASE):
            pass
        for every in (timedelta(0), timedelta(seconds=-1)):
            with pytest.raises(InvalidArgumentError, match="every"):
                async with queue.keep_lease(LEASE, every=every):
                    pass
    assert made == [600]
