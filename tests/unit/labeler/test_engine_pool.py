"""Engines by model: shared, replaced, waited for."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from isocost.core.errors import InvalidArgumentError, UnavailableError
from isocost.labeler.adapter import Adapter
from isocost.labeler.engine import EngineStatus, Runner
from isocost.labeler.engine_pool import EnginePool
from isocost.labeler.model_card import ModelCard
from isocost.labeler.pace import Pace


def card(name: str) -> ModelCard:
    return ModelCard(name, f"/models/{name}", "", f"sha256@{name}", Runner.GENERATE, None, 100, 0)


class FakeEngine:
    max_prompt_tokens = 100
    knows_mass = True
    pace = Pace(4, 2)

    def __init__(self, name: str, events: list[str]) -> None:
        self.fingerprint = name
        self.is_broken = False
        self._events = events

    async def status(self) -> EngineStatus:
        raise NotImplementedError

    async def score(
        self, prompts: Sequence[Sequence[int]], token_ids: Sequence[int], adapter: Adapter | None = None
    ) -> list[tuple[float, ...]]:
        raise NotImplementedError

    async def close(self) -> None:
        self._events.append(f"close {self.fingerprint}")


class Factory:
    """Starts engines when told to."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.may_start = asyncio.Event()
        self.may_start.set()
        self.failures: list[Exception] = []

    async def __call__(self, card: ModelCard) -> FakeEngine:
        self.events.append(f"start {card.name}")
        await self.may_start.wait()
        if self.failures:
            raise self.failures.pop()
        return FakeEngine(card.name, self.events)


async def settle() -> None:
    """Lets every task run until all of them wait."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_streams_share_an_engine_and_its_start() -> None:
    factory = Factory()
    factory.may_start.clear()
    pool = EnginePool(factory, 1)
    both = asyncio.gather(pool.acquire(card("a")), pool.acquire(card("a")))
    await settle()
    assert pool.loaded() == []
    factory.may_start.set()
    first, second = await both
    assert first.engine is second.engine
    assert factory.events == ["start a"]
    assert [loaded.name for loaded, _ in pool.loaded()] == ["a"]


async def test_idle_engine_is_closed_before_its_successor_starts() -> None:
    factory = Factory()
    pool = EnginePool(factory, 1)
    (await pool.acquire(card("a"))).release()
    await pool.acquire(card("b"))
    assert factory.events == ["start a", "close a", "start b"]


async def test_least_recently_used_goes() -> None:
    factory = Factory()
    pool = EnginePool(factory, 2)
    for name in ("a", "b", "a"):
        (await pool.acquire(card(name))).release()
    await pool.acquire(card("c"))
    assert factory.events == ["start a", "start b", "close b", "start c"]


async def test_busy_engine_is_waited_for() -> None:
    factory = Factory()
    pool = EnginePool(factory, 1)
    first, second = await pool.acquire(card("a")), await pool.acquire(card("a"))
    waiting = asyncio.create_task(pool.acquire(card("b")))
    first.release()
    first.release()
    await settle()
    assert factory.events == ["start a"], "one of two users is left; releasing twice counts once"
    second.release()
    await waiting
    assert factory.events == ["start a", "close a", "start b"]


async def test_failed_start_reaches_all_who_wait_and_is_tried_anew() -> None:
    factory = Factory()
    factory.failures = [InvalidArgumentError("config.model", "bad weights")]
    pool = EnginePool(factory, 1)
    results = await asyncio.gather(pool.acquire(card("a")), pool.acquire(card("a")), return_exceptions=True)
    assert [str(result) for result in results] == ["config.model: bad weights"] * 2
    assert (await pool.acquire(card("a"))).engine.fingerprint == "a"


async def test_one_who_gives_up_waiting_does_not_stop_the_start() -> None:
    factory = Factory()
    factory.may_start.clear()
    pool = EnginePool(factory, 1)
    impatient, patient = (asyncio.create_task(pool.acquire(card("a"))) for _ in range(2))
    await settle()
    impatient.cancel()
    await settle()
    factory.may_start.set()
    assert (await patient).engine.fingerprint == "a"
    with pytest.raises(asyncio.CancelledError):
        await impatient
    assert factory.events == ["start a"]


async def test_broken_engine_is_replaced_once_nobody_uses_it() -> None:
    factory = Factory()
    pool = EnginePool(factory, 1)
    lease = await pool.acquire(card("a"))
    assert isinstance(lease.engine, FakeEngine)
    lease.engine.is_broken = True
    waiting = asyncio.create_task(pool.acquire(card("a")))
    await settle()
    assert factory.events == ["start a"]
    assert pool.loaded() == []
    lease.release()
    assert (await waiting).engine is not lease.engine
    assert factory.events == ["start a", "close a", "start a"]


async def test_close_ends_engines_starts_and_waiting() -> None:
    factory = Factory()
    pool = EnginePool(factory, 2)
    await pool.acquire(card("a"))
    factory.may_start.clear()
    starting = asyncio.create_task(pool.acquire(card("b")))
    waiting = asyncio.create_task(pool.acquire(card("c")))
    await settle()
    await pool.close()
    assert factory.events == ["start a", "start b", "close a"]
    for task in (starting, waiting):
        with pytest.raises(UnavailableError, match="stopping"):
            await task
    with pytest.raises(UnavailableError, match="stopping"):
        await pool.acquire(card("a"))


def with_adapter(name: str, rank: int) -> ModelCard:
    return replace(card(name), name=f"{name}+{rank}", adapter=Adapter(f"{rank}" * 64, Path(f"/adapters/{rank}"), rank))


async def test_adapters_share_an_engine_that_has_room_for_their_rank() -> None:
    factory = Factory()
    pool = EnginePool(factory, 1)
    for one in (with_adapter("a", 8), with_adapter("a", 8), card("a")):
        (await pool.acquire(one)).release()
    assert factory.events == ["start a+8"]
    (await pool.acquire(with_adapter("a", 16))).release()
    assert factory.events == ["start a+8", "close a+8", "start a+16"]
    (await pool.acquire(with_adapter("a", 8))).release()
    assert len(factory.events) == 3


async def test_engine_without_room_for_adapters_is_replaced_when_it_is_idle() -> None:
    factory = Factory()
    pool = EnginePool(factory, 2)
    base = await pool.acquire(card("a"))
    waiting = asyncio.create_task(pool.acquire(with_adapter("a", 8)))
    await settle()
    assert factory.events == ["start a"]
    base.release()
    (await waiting).release()
    assert factory.events == ["start a", "close a", "start a+8"]


async def test_engine_that_takes_any_rank_is_shared() -> None:
    factory = Factory()
    pool = EnginePool(factory, 1, any_rank=True)
    for one in (card("a"), with_adapter("a", 8), with_adapter("a", 64)):
        (await pool.acquire(one)).release()
    assert factory.events == ["start a"]
