"""Every mutation through a network that breaks: each call ends in success or a retriable error, nothing is doubled."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar

import pytest

from isocost.budget.proof import verify_ledger
from isocost.client import BudgetClient, QueueClient, RetryPolicy, SyncBudgetClient
from isocost.core.errors import DeadlineExceededError, UnavailableError
from isocost.core.money import Money
from isocost.economics.interval import wilson_interval
from isocost.resources.campaign import EntryKind, Order, OrderState
from isocost.resources.label import Label, Purpose, one_hot
from isocost.resources.observation import Evaluation, Observation
from isocost.resources.queue import LeaseState
from isocost.resources.task import Source
from tests.integration.client.fault_proxy import NO_FAULT, Fault, FaultKind, FaultProxy, random_faults
from tests.integration.client.running import HUMAN, WEAK, Running, campaign, items

# A consensus that is asked for again runs beside the one that was given up, and Python's filters are the process's.

#: Few attempts, so that calls fail in the caller's sight as well, and short ones.
POLICY = RetryPolicy(
    attempts_max=3,
    delay_first=timedelta(milliseconds=5),
    delay_max=timedelta(milliseconds=50),
    attempt_timeout=timedelta(milliseconds=500),
)
#: The only errors that a broken network may cause: after both the same call is made again.
RETRIABLE = (UnavailableError, DeadlineExceededError)
#: How many random schedules; a soak sets more.
N_SEEDS = int(os.environ.get("ISOCOST_FAULT_SEEDS", "3"))
N_ITEMS = 300
N_WEAK = 120

_Answer = TypeVar("_Answer")


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages of few items, so that a stream has many; and dead connections are noticed at once."""
    for module in ("call", "budget"):
        monkeypatch.setattr(f"isocost.client.{module}.MESSAGE_ITEMS", 20)
    options = [
        ("grpc.enable_retries", 0),
        ("grpc.initial_reconnect_backoff_ms", 5),
        ("grpc.max_reconnect_backoff_ms", 50),
        ("grpc.min_reconnect_backoff_ms", 500),
        ("grpc.keepalive_time_ms", 300),
        ("grpc.keepalive_timeout_ms", 300),
        ("grpc.http2.ping_timeout_ms", 300),
        # Every client has connections of its own.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    monkeypatch.setattr("isocost.core.channel._OPTIONS", options)


class Stubborn:
    """Makes a call again, as a caller would, until it succeeds; counts the errors that it saw."""

    def __init__(self) -> None:
        self.errors: Counter[str] = Counter()

    async def __call__(self, call: Callable[[], Awaitable[_Answer]]) -> _Answer:
        for _ in range(200):
            try:
                return await call()
            except RETRIABLE as error:
                self.errors[type(error).__name__] += 1
        raise AssertionError("200 calls failed one after the other")


async def _buy_weak(budgets: list[BudgetClient], again: Stubborn) -> Order:
    """Four clients submit the labels of one order at once, each chunk from two of them."""
    budget = budgets[0]
    order = await again(lambda: budget.create_order("weak/order", "c", "weak", Purpose.TRAINING, N_WEAK))

    async def read() -> list[str]:
        return [item.item_id async for item in budget.order_items(order.order_id)]

    ordered = await again(read)
    assert len(set(ordered)) == len(ordered) == N_WEAK

    async def submit(client: BudgetClient, start: int) -> int:
        labels = [Label(item_id, (0.25, 0.75)) for item_id in ordered[start : start + 10]]
        return (await again(lambda: client.submit_labels(f"weak/{start}", order.order_id, labels))).n_accepted

    calls = [submit(client, start) for start in range(0, N_WEAK, 10) for client in (budgets[start // 10 % 4], budget)]
    assert await asyncio.gather(*calls) == [10] * len(calls)
    return order


async def _answer(budget: BudgetClient, queue: QueueClient, again: Stubborn) -> None:
    """Two annotators answer an order of ten items each; one of them gives a lease back before."""
    await again(lambda: budget.create_order("human/order", "c", "human", Purpose.EVALUATION, 20, overlap=2))
    back = await again(lambda: queue.lease_items("back/lease", "c", "human", "ben", 4))
    assert back.lease is not None
    lease_id = back.lease.lease_id
    assert (await again(lambda: queue.release_lease("back", lease_id))).state is LeaseState.RELEASED
    for name in ("ann", "ben"):

        async def lease(name: str = name) -> Any:
            return await queue.lease_items(f"{name}/lease", "c", "human", name, 20)

        leased = await again(lease)
        assert len(leased.items) == 10
        lease_id = leased.lease.lease_id
        answers = [Label(item.item_id, one_hot(1, 2)) for item in leased.items]

        async def finish(name: str = name, lease_id: str = lease_id, answers: list[Label] = answers) -> Any:
            await queue.extend_lease(f"{name}/extend", lease_id)
            return await queue.answer_items(f"{name}/answer", lease_id, answers)

        answered = await again(finish)
        assert (answered.n_accepted, answered.lease.n_answered) == (10, 10)


async def _decide(budget: BudgetClient, again: Stubborn) -> None:
    low, high = wilson_interval(0.75, 20)
    evaluation = Evaluation("evaluation", 20, 0.75, low, high, 0.5)
    seen = Observation("run", "weak_sft", N_WEAK, 0, 0, evaluation, weak_source_id="weak")
    await again(lambda: budget.record_observation("observation", "c", seen))
    await again(lambda: budget.plan("plan", "c", Money(100_000)))
    given_up = await again(lambda: budget.create_order("given up", "c", "human", Purpose.TRAINING, 5))
    cancelled = await again(lambda: budget.cancel_order("cancel", given_up.order_id))
    assert (cancelled.state, cancelled.n_released) == (OrderState.CANCELLED, 5)


async def _work(address: str, again: Stubborn) -> None:
    """Every mutation there is."""
    budgets = [BudgetClient(address, retry=POLICY) for _ in range(4)]
    budget, queue = budgets[0], QueueClient(address, retry=POLICY)
    try:
        await again(lambda: budget.create_campaign("create", campaign()))
        for source in (WEAK, HUMAN):

            async def create(source: Source = source) -> Source:
                return await budget.create_source(source.source_id, "c", source)

            await again(create)
        added = await again(lambda: budget.add_items("items", "c", items(N_ITEMS)))
        assert (added.n_added, added.n_duplicate, added.n_errors) == (N_ITEMS, 0, 0)
        scores = {item.item_id: float(number) for number, item in enumerate(items(N_ITEMS))}
        assert await again(lambda: budget.score_items("scores", "c", scores)) == N_ITEMS
        await _buy_weak(budgets, again)
        await _answer(budget, queue, again)
        await _decide(budget, again)
        await _read_back(budget, again)
        await again(lambda: budget.finish_campaign("finish", "c"))
    finally:
        for client in (*budgets, queue):
            await client.close()


async def _read_back(budget: BudgetClient, again: Stubborn) -> None:
    """Streams that break go on: nothing is missing and nothing comes twice."""

    async def labels() -> list[int]:
        return [labelled.label.sequence async for labelled in budget.labels("c")]

    async def entries() -> list[Any]:
        return [entry async for entry in budget.ledger("c")]

    async def pool() -> list[str]:
        return [item.item.item_id async for item in budget.items("c")]

    async def consensus() -> list[str]:
        return [each.item.item_id async for each in budget.consensus("c", "human")]

    assert await again(labels) == list(range(1, N_WEAK + 21))
    assert await again(pool) == [item.item_id for item in items(N_ITEMS)]
    assert len(set(await again(consensus))) == 10
    ledger = await again(entries)
    assert [entry.sequence for entry in ledger] == list(range(1, len(ledger) + 1))
    paid = next(entry for entry in ledger if entry.kind is EntryKind.SETTLE and entry.source_id == "human")
    await again(lambda: budget.create_correction("refund", "c", paid.sequence, Money(-40_000), "spam"))


@pytest.mark.parametrize("seed", range(N_SEEDS))
async def test_nothing_is_lost_or_doubled_by_a_network_that_breaks(running: Running, seed: int) -> None:
    again = Stubborn()
    async with FaultProxy(running.address, random_faults(seed)) as proxy:
        await _work(proxy.address, again)
        assert sum(proxy.n_faults.values()) >= 5
    await _check(running)


async def _check(running: Running) -> None:
    """What the service holds, read without the proxy: each thing was done once."""
    (proof,) = verify_ledger(running.database_url)
    assert (proof.n_orders, proof.n_labels) == (3, N_WEAK + 20)
    assert proof.settled == Money(N_WEAK * 1_000 + 20 * 100_000 - 40_000)
    assert proof.reserved == Money(0)
    async with BudgetClient(running.address) as budget:
        status = await budget.get_campaign("c")
        assert (status.n_items, status.n_items_free) == (N_ITEMS, N_ITEMS - N_WEAK - 10)
        kinds = Counter([entry.kind async for entry in budget.ledger("c")])
        assert kinds[EntryKind.RESERVE] == 3
        assert kinds[EntryKind.SETTLE] == N_WEAK + 20
        assert kinds[EntryKind.CORRECT] == 1
        assert len(await budget.list_leases("c")) == 3
        assert len(await budget.list_observations("c")) == 1
        assert len(await budget.list_plans("c")) == 1
        methods = Counter([entry.method async for entry in budget.audit_entries("c")])
    assert methods == Counter(
        CreateCampaign=1,
        CreateSource=2,
        AddItems=N_ITEMS // 20,
        ScoreItems=N_ITEMS // 20,
        CreateOrder=3,
        SubmitLabels=N_WEAK // 10,
        LeaseItems=3,
        ExtendLease=2,
        AnswerItems=2,
        ReleaseLease=1,
        CancelOrder=1,
        RecordObservation=1,
        Plan=1,
        CreateCorrection=1,
        FinishCampaign=1,
    )


#: Each kind of fault at the first connection, in the request of a call and in its answer.
EACH = [
    Fault(kind, after_bytes, to_server)
    for kind in (FaultKind.DROP, FaultKind.RESET, FaultKind.HALF_CLOSE)
    for to_server in (True, False)
    for after_bytes in (1, 700)
]


@pytest.mark.parametrize("fault", [Fault(FaultKind.REFUSE), *EACH], ids=lambda fault: str(fault.kind.value))
async def test_a_call_outlives_the_fault_of_its_connection(running: Running, fault: Fault) -> None:
    await running.create(n_items=600)
    # Many attempts: on a busy machine one connection may take as long as ten of them.
    policy = RetryPolicy(
        attempts_max=100, attempt_timeout=timedelta(milliseconds=500), delay_first=timedelta(milliseconds=5)
    )
    # Twice: a machine that is busy may give up the first connection before anything is sent.
    async with FaultProxy(running.address, [fault, fault, NO_FAULT]) as proxy:
        async with BudgetClient(proxy.address, retry=policy) as budget:
            order = await budget.create_order("o", "c", "weak", Purpose.TRAINING, 500)
            ids = [item.item_id async for item in budget.order_items(order.order_id)]
            submitted = await budget.submit_labels("s", order.order_id, [Label(each, (0.5, 0.5)) for each in ids])
        assert proxy.n_faults[fault.kind] >= 1
    assert submitted.n_accepted == 500
    (proof,) = verify_ledger(running.database_url)
    assert (proof.n_orders, proof.n_labels, proof.settled) == (1, 500, Money(500_000))


async def test_the_sync_client_outlives_faults_as_well(running: Running) -> None:
    await running.create(n_items=100)

    def work(address: str) -> int:
        policy = RetryPolicy(attempt_timeout=timedelta(milliseconds=500), delay_first=timedelta(milliseconds=5))
        with SyncBudgetClient(address, retry=policy) as budget:
            order = budget.create_order("o", "c", "weak", Purpose.TRAINING, 100)
            ids = [item.item_id for item in budget.order_items(order.order_id)]
            labels = [Label(each, (0.5, 0.5)) for each in ids]
            accepted = budget.submit_labels("s", order.order_id, labels).n_accepted
            assert [each.label.sequence for each in budget.labels("c")] == list(range(1, 101))
            return accepted

    faults = [Fault(FaultKind.RESET, 600), Fault(FaultKind.DROP, 2_000, False), Fault(FaultKind.HALF_CLOSE, 900, False)]
    async with FaultProxy(running.address, faults) as proxy:
        assert await asyncio.to_thread(work, proxy.address) == 100
        assert sum(proxy.n_faults.values()) >= 1
    (proof,) = verify_ledger(running.database_url)
    assert proof.n_labels == 100


async def _read_often(budget: BudgetClient) -> None:
    for _ in range(50):
        await budget.list_campaigns()


async def test_without_repeats_a_fault_is_a_retriable_error(running: Running) -> None:
    """The faults are real: a client that never repeats does see them."""
    seen: Counter[str] = Counter()
    once = RetryPolicy(attempts_max=1, attempt_timeout=timedelta(milliseconds=500))
    for fault in EACH:
        async with FaultProxy(running.address, [fault] * 9) as proxy, BudgetClient(proxy.address, retry=once) as budget:
            with pytest.raises(RETRIABLE) as error:
                await _read_often(budget)
            seen[type(error.value).__name__] += 1
    assert seen.total() == len(EACH)
