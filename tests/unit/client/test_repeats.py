"""Calls that fail and are made again, over real gRPC; each with the async client, most with the sync one as well."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from isocost.client import BudgetClient, ChannelSettings, RetryPolicy, SyncBudgetClient
from isocost.client.call import message_batches
from isocost.core.channel import call_metadata
from isocost.core.errors import (
    AlreadyExistsError,
    BudgetExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    IsocostError,
    LimitExceededError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
)
from isocost.resources.label import Purpose
from isocost.resources.task import Item
from isocost.v1 import budget_service_pb2 as pb
from isocost.v1 import resources_pb2
from tests.unit.client.scripted import QUICK, Script

USD = resources_pb2.Money(currency_code="USD", micros=1)
ORDER = resources_pb2.Order(
    order_id="o",
    campaign_id="c",
    source_id="s",
    purpose=resources_pb2.PURPOSE_TRAINING,
    n_labels=1,
    unit_price=USD,
    state=resources_pb2.ORDER_STATE_OPEN,
)


def _fails(n_times: int, error: Callable[[], Exception], answer: Any) -> Callable[[Any, int], Any]:
    def act(_request: Any, n: int) -> Any:
        if n <= n_times:
            raise error()
        return answer

    return act


async def test_a_mutation_is_repeated_with_the_same_body(script: Script) -> None:
    script.on["CreateOrder"] = _fails(2, lambda: UnavailableError("away"), pb.CreateOrderResponse(order=ORDER))
    async with BudgetClient(script.address, retry=QUICK) as budget:
        order = await budget.create_order("r", "c", "s", Purpose.TRAINING, 1)
    assert order.order_id == "o"
    first, *others = script.requests["CreateOrder"]
    assert others == [first, first]
    assert first.request_id == "r"


async def test_the_sync_client_repeats_as_well(script: Script) -> None:
    script.on["CreateOrder"] = _fails(2, lambda: UnavailableError("away"), pb.CreateOrderResponse(order=ORDER))

    def call() -> str:
        with SyncBudgetClient(script.address, retry=QUICK) as budget:
            return budget.create_order("r", "c", "s", Purpose.TRAINING, 1).order_id

    assert await asyncio.to_thread(call) == "o"
    assert len(script.requests["CreateOrder"]) == 3


@pytest.mark.parametrize(
    "error",
    [
        InvalidArgumentError("campaign_id", "m"),
        NotFoundError("m"),
        AlreadyExistsError("m"),
        FailedPreconditionError("m"),
        BudgetExceededError("m"),
        LimitExceededError("too large"),
        UnauthenticatedError("m"),
        PermissionDeniedError("m"),
    ],
)
async def test_what_a_repeat_cannot_mend_is_asked_once(script: Script, error: IsocostError) -> None:
    script.on["GetOrder"] = _fails(9, lambda: error, None)
    async with BudgetClient(script.address, retry=QUICK) as budget:
        with pytest.raises(type(error)):
            await budget.get_order("o")
    assert len(script.requests["GetOrder"]) == 1


async def test_a_limit_is_waited_for_as_long_as_it_says(script: Script, pauses: list[float]) -> None:
    limit = LimitExceededError("too many", retry_after=timedelta(seconds=7))
    script.on["GetOrder"] = _fails(1, lambda: limit, pb.GetOrderResponse(order=ORDER))
    async with BudgetClient(script.address, retry=QUICK) as budget:
        await budget.get_order("o")
    assert len(pauses) == 1
    assert 7 <= pauses[0] <= 7.002


async def test_after_the_last_attempt_the_error_is_raised(script: Script) -> None:
    script.on["GetOrder"] = _fails(99, lambda: UnavailableError("away"), None)
    async with BudgetClient(script.address, retry=QUICK) as budget:
        with pytest.raises(UnavailableError, match=r"away \(attempt 4 of 4\)"):
            await budget.get_order("o")
    assert len(script.requests["GetOrder"]) == 4


async def test_an_attempt_that_hangs_is_given_up_and_made_again(script: Script) -> None:
    def act(_request: Any, n: int) -> Any:
        return asyncio.Event().wait() if n == 1 else pb.GetOrderResponse(order=ORDER)

    script.on["GetOrder"] = act
    policy = RetryPolicy(attempt_timeout=timedelta(milliseconds=200), delay_first=timedelta(milliseconds=1))
    async with BudgetClient(script.address, retry=policy) as budget:
        assert (await budget.get_order("o")).order_id == "o"
    assert len(script.requests["GetOrder"]) == 2


def _entry(sequence: int) -> resources_pb2.LedgerEntry:
    return resources_pb2.LedgerEntry(sequence=sequence, kind=resources_pb2.ENTRY_KIND_RESERVE, amount=USD)


def _labelled(sequence: int) -> pb.LabelledItem:
    return pb.LabelledItem(
        label=resources_pb2.Label(sequence=sequence, item_id="i", probabilities=[0.5, 0.5]), item=_item(sequence)
    )


def _item(number: int) -> resources_pb2.Item:
    return resources_pb2.Item(item_id=f"i{number:03d}", fields={"text": "t"})


def _pool_item(number: int) -> pb.PoolItem:
    return pb.PoolItem(item=_item(number), state=pb.ITEM_STATE_FREE)


def _after_item(request: Any) -> int:
    return int(request.after_item_id[1:] or 0)


#: rpc, how far the request says it has got, an answer of some numbers, the client's stream, a record's number.
STREAMS: dict[str, tuple[Any, Any, Any, Any]] = {
    "ExportLedger": (
        lambda request: request.after_sequence,
        lambda numbers: pb.ExportLedgerResponse(entries=[_entry(n) for n in numbers]),
        lambda budget: budget.ledger("c"),
        lambda entry: entry.sequence,
    ),
    "ExportLabels": (
        lambda request: request.after_sequence,
        lambda numbers: pb.ExportLabelsResponse(labelled_items=[_labelled(n) for n in numbers]),
        lambda budget: budget.labels("c"),
        lambda labelled: labelled.label.sequence,
    ),
    "ExportItems": (
        _after_item,
        lambda numbers: pb.ExportItemsResponse(items=[_pool_item(n) for n in numbers]),
        lambda budget: budget.items("c"),
        lambda item: int(item.item.item_id[1:]),
    ),
    "ExportOrderItems": (
        _after_item,
        lambda numbers: pb.ExportOrderItemsResponse(items=[_item(n) for n in numbers]),
        lambda budget: budget.order_items("o"),
        lambda item: int(item.item_id[1:]),
    ),
}


def _breaking(after: Any, answer: Any) -> Callable[[Any, int], Iterator[Any]]:
    """Streams the numbers 1 to 20 by threes, and breaks after every second message; every other call breaks at once."""

    def act(request: Any, n: int) -> Iterator[Any]:
        begin = after(request) + 1
        if n % 2 == 0:
            raise UnavailableError("broken")
        for count, start in enumerate(range(begin, 21, 3)):
            if count == 2:
                raise UnavailableError("broken")
            yield answer(range(start, min(start + 3, 21)))
            # A message without records says nothing about where the stream is.
            yield answer(())

    return act


@pytest.mark.parametrize("rpc", STREAMS)
async def test_a_broken_stream_goes_on_where_it_was(script: Script, rpc: str) -> None:
    after, answer, records, number = STREAMS[rpc]
    script.on[rpc] = _breaking(after, answer)
    policy = RetryPolicy(attempts_max=3, delay_first=timedelta(milliseconds=1))
    async with BudgetClient(script.address, retry=policy) as budget:
        seen = [number(record) async for record in records(budget)]
    assert seen == list(range(1, 21))
    assert [after(request) for request in script.requests[rpc]] == [0, 6, 6, 12, 12, 18, 18]


@pytest.mark.parametrize("rpc", STREAMS)
async def test_a_broken_stream_of_the_sync_client_goes_on_where_it_was(script: Script, rpc: str) -> None:
    after, answer, records, number = STREAMS[rpc]
    script.on[rpc] = _breaking(after, answer)

    def read() -> list[int]:
        with SyncBudgetClient(script.address, retry=QUICK) as budget:
            return [number(record) for record in records(budget)]

    assert await asyncio.to_thread(read) == list(range(1, 21))


async def test_a_stream_that_delivers_nothing_fails_after_its_attempts(script: Script) -> None:
    script.on["ExportLedger"] = _fails(99, lambda: UnavailableError("away"), [])
    async with BudgetClient(script.address, retry=QUICK) as budget:
        with pytest.raises(UnavailableError, match="attempt 4 of 4"):
            _ = [entry async for entry in budget.ledger("c", after_sequence=7)]
    assert {request.after_sequence for request in script.requests["ExportLedger"]} == {7}


async def test_the_time_that_a_reader_takes_does_not_count(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr("isocost.client.retry.monotonic", lambda: now)
    after, answer, records, number = STREAMS["ExportLedger"]
    script.on["ExportLedger"] = _breaking(after, answer)
    seen = []
    async with BudgetClient(script.address, retry=QUICK) as budget:
        async for record in records(budget):
            seen.append(number(record))
            now += 1_000_000
    assert seen == list(range(1, 21))


async def test_a_reader_that_stops_ends_the_call(script: Script) -> None:
    # None: the stream stays open and says nothing.
    script.on["ExportLedger"] = lambda _request, _n: iter([pb.ExportLedgerResponse(entries=[_entry(1)]), None])
    async with BudgetClient(script.address, retry=QUICK) as budget:
        entries = budget.ledger("c")
        assert (await anext(entries)).sequence == 1
        await entries.aclose()  # type: ignore[attr-defined]
        await asyncio.wait_for(script.cancelled.wait(), 10)


async def test_a_consensus_that_breaks_begins_again_and_repeats_nothing(script: Script) -> None:
    def consensus(number: int) -> resources_pb2.Consensus:
        return resources_pb2.Consensus(
            item=_item(number), probabilities=[0.5, 0.5], n_labels=2, purpose=resources_pb2.PURPOSE_TRAINING
        )

    def act(_request: Any, n: int) -> Iterator[Any]:
        for start in range(1, 11, 2):
            if n < 4 and start > 2 * n:
                raise UnavailableError("broken")
            yield pb.ExportConsensusResponse(consensus=[consensus(start), consensus(start + 1)])

    script.on["ExportConsensus"] = act
    async with BudgetClient(script.address, retry=QUICK) as budget:
        seen = [answer.item.item_id async for answer in budget.consensus("c", "s")]
    assert seen == [f"i{number:03d}" for number in range(1, 11)]
    assert len(script.requests["ExportConsensus"]) == 4


def _order_pages(request: Any, n: int) -> pb.ListOrdersResponse:
    if n == 2:
        raise UnavailableError("away")
    page = int(request.page_token or 0)
    orders = []
    for index in range(2):
        order = resources_pb2.Order()
        order.CopyFrom(ORDER)
        order.order_id = f"{page}.{index}"
        orders.append(order)
    return pb.ListOrdersResponse(orders=orders, next_page_token="" if page == 2 else str(page + 1))


async def test_lists_read_every_page(script: Script) -> None:
    script.on["ListOrders"] = _order_pages
    async with BudgetClient(script.address, retry=QUICK) as budget:
        orders = await budget.list_orders("c")
    assert [order.order_id for order in orders] == ["0.0", "0.1", "1.0", "1.1", "2.0", "2.1"]
    assert [request.page_token for request in script.requests["ListOrders"]] == ["", "1", "1", "2"]
    assert {request.page_size for request in script.requests["ListOrders"]} == {1_000}


@pytest.mark.parametrize("sync", [False, True])
async def test_items_go_in_windows_that_are_sent_again_as_they_were(script: Script, sync: bool) -> None:
    n_made = 0
    made_at_call: list[int] = []
    lock = threading.Lock()

    def items() -> Iterator[Item]:
        nonlocal n_made
        for number in range(23_000):
            with lock:
                n_made += 1
            yield Item(f"i{number}", {"text": "t"})

    def act(requests: Any, n: int) -> Any:
        made_at_call.append(n_made)
        if n == 2:
            raise UnavailableError("away")
        n_items = sum(len(request.items) for request in requests)
        errors = [pb.ItemError(item_id="x", index=n_items - 1, message="bad")]
        return pb.AddItemsResponse(n_added=n_items - 1, n_duplicate=0, n_errors=1, errors=errors)

    script.on["AddItems"] = act
    if sync:

        def add() -> Any:
            with SyncBudgetClient(script.address, retry=QUICK) as budget:
                return budget.add_items("r", "c", items())

        added = await asyncio.to_thread(add)
    else:
        async with BudgetClient(script.address, retry=QUICK) as budget:
            added = await budget.add_items("r", "c", items())
    calls = [[request.request_id for request in call] for call in script.requests["AddItems"]]
    ids = [f"r/{index}" for index in range(46)]
    assert calls == [ids[:20], ids[20:40], ids[20:40], ids[40:]]
    assert script.requests["AddItems"][1] == script.requests["AddItems"][2]
    # No more than a window is ever ahead of the service.
    assert made_at_call == [10_000, 20_000, 20_000, 23_000]
    assert (added.n_added, added.n_errors) == (22_997, 3)
    assert [error.index for error in added.errors] == [9_999, 19_999, 22_999]


async def test_scores_go_in_batches_with_ids_of_their_own(script: Script) -> None:
    script.on["ScoreItems"] = lambda request, _n: pb.ScoreItemsResponse(n_scored=len(request.scores))
    async with BudgetClient(script.address, retry=QUICK) as budget:
        assert await budget.score_items("r", "c", {f"i{n}": n / 10 for n in range(1_200)}) == 1_200
        assert await budget.score_items("s", "c", (("a", 0.5), ("b", 0.25))) == 2
    requests = script.requests["ScoreItems"]
    assert [request.request_id for request in requests] == ["r/0", "r/1", "r/2", "s/0"]
    assert [score.uncertainty for score in requests[-1].scores] == [0.5, 0.25]


def test_messages_are_cut_by_number_and_by_size() -> None:
    def cut(n_items: int, n_characters: int) -> list[int]:
        each = [resources_pb2.Item(item_id="i", fields={"t": "x" * n_characters}) for _ in range(n_items)]
        return [len(batch) for batch in message_batches(each, 500, 10_000)]

    assert cut(1_001, 1) == [500, 500, 1]
    assert cut(1_000, 1) == [500, 500]
    assert cut(5, 4_000) == [2, 2, 1]
    assert cut(2, 20_000) == [1, 1]
    assert cut(0, 1) == []


async def test_a_window_of_long_items_holds_fewer_messages(script: Script) -> None:
    script.on["AddItems"] = lambda _requests, _n: pb.AddItemsResponse()
    async with BudgetClient(script.address, retry=QUICK) as budget:
        await budget.add_items("r", "c", (Item(f"i{number}", {"text": "x" * (1 << 20)}) for number in range(40)))
    windows = script.requests["AddItems"]
    assert sum(len(request.items) for window in windows for request in window) == 40
    assert max(sum(request.ByteSize() for request in window) for window in windows) <= 16 << 20
    assert [request.request_id for window in windows for request in window] == [f"r/{index}" for index in range(14)]


async def test_every_call_carries_the_token(script: Script) -> None:
    script.on["GetOrder"] = lambda _request, _n: pb.GetOrderResponse(order=ORDER)
    script.on["ExportLedger"] = lambda _request, _n: iter([])
    script.on["AddItems"] = lambda _requests, _n: pb.AddItemsResponse()

    async with BudgetClient(script.address, channel=ChannelSettings(token="secret")) as budget:
        await budget.get_order("o")
        await budget.add_items("r", "c", [Item("i", {"text": "t"})])
        assert [entry async for entry in budget.ledger("c")] == []

    def call() -> None:
        with SyncBudgetClient(script.address, channel=ChannelSettings(token="secret")) as budget:
            budget.get_order("o")

    await asyncio.to_thread(call)
    assert [metadata["authorization"] for metadata in script.metadata] == ["Bearer secret"] * 4


def test_a_token_is_not_sent_in_the_clear_beyond_loopback() -> None:
    with pytest.raises(InvalidArgumentError, match="unencrypted"):
        call_metadata("budget.example.org:7601", ChannelSettings(token="secret"))
    header = (("authorization", "Bearer secret"),)
    assert call_metadata("budget.example.org:7601", ChannelSettings(token="secret", tls=True)) == header
    assert call_metadata("budget.example.org:7601", ChannelSettings(token="secret", insecure=True)) == header
    assert call_metadata("127.0.0.1:7601", ChannelSettings(token="secret")) == header
    assert call_metadata("budget.example.org:7601", ChannelSettings()) == ()
