"""Engines by model: started when first asked for, shared, and replaced when another model needs the room."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from isocost.core.errors import UnavailableError
from isocost.labeler.engine import Engine
from isocost.labeler.model_card import ModelCard

__all__ = ["EngineLease", "EnginePool"]

EngineFactory = Callable[[ModelCard], Awaitable[Engine]]


@dataclass(eq=False, slots=True)
class _Slot:
    """Room for one engine, starting or loaded."""

    card: ModelCard
    task: asyncio.Task[Engine]
    rank: int = 0
    n_users: int = 0

    @property
    def engine(self) -> Engine | None:
        """The engine, once it is loaded."""
        if self.task.done() and not self.task.cancelled() and self.task.exception() is None:
            return self.task.result()
        return None

    @property
    def is_usable(self) -> bool:
        """Whether it is starting or works."""
        return not self.task.done() or (self.engine is not None and not self.engine.is_broken)


@dataclass(eq=False, slots=True)
class EngineLease:
    """The right to use an engine until `release`; it is not replaced before."""

    engine: Engine
    _release: Callable[[], None] = field(repr=False)
    _is_released: bool = False

    def release(self) -> None:
        """Gives it back; giving it back twice does nothing."""
        if not self._is_released:
            self._is_released = True
            self._release()


class EnginePool:
    """Keeps at most `engines_max` engines; a new one replaces the least recently used idle one, or waits for one.

    An engine serves its model and the model's adapters. One that was started without room for an adapter is replaced by
    one that has it, which serves the model itself as well.

    Args:
        factory: Starts the engine of a card.
        engines_max: Engines kept at a time.
        any_rank: Whether an engine takes adapters of any rank, however it was started.
    """

    def __init__(self, factory: EngineFactory, engines_max: int, *, any_rank: bool = False) -> None:
        self._factory = factory
        self._engines_max = engines_max
        self._any_rank = any_rank
        # The least recently used first.
        self._slots: dict[str, _Slot] = {}
        self._changed = asyncio.Event()
        self._is_closed = False

    async def acquire(self, card: ModelCard) -> EngineLease:
        """An engine for the card, shared with whoever uses it already.

        Raises:
            IsocostError: it cannot be started.
        """
        slot = await self._take_slot(card)
        try:
            # Shielded: others may wait for the same start.
            engine = await asyncio.shield(slot.task)
        except asyncio.CancelledError:
            self._release(slot)
            if slot.task.cancelled() and self._is_closed:
                raise UnavailableError("the labeler is stopping; repeat the call once it is back") from None
            raise
        except BaseException:
            self._release(slot)
            raise
        return EngineLease(engine, lambda: self._release(slot))

    def loaded(self) -> list[tuple[ModelCard, Engine]]:
        """The engines that are ready."""
        return [(slot.card, slot.engine) for slot in self._slots.values() if slot.engine and slot.is_usable]

    async def close(self) -> None:
        """Closes all engines and refuses new ones."""
        self._is_closed = True
        self._notify()
        slots = list(self._slots.values())
        self._slots.clear()
        for slot in slots:
            slot.task.cancel()
        await asyncio.gather(*(slot.task for slot in slots), return_exceptions=True)
        await asyncio.gather(*(slot.engine.close() for slot in slots if slot.engine))

    async def _take_slot(self, card: ModelCard) -> _Slot:
        # Nothing between two awaits can be interrupted, so the pool needs no lock.
        key = f"{card.runner.name} {card.location} {card.identity}"
        rank = card.adapter.rank if card.adapter and not self._any_rank else 0
        while not self._is_closed:
            slot = self._slots.get(key)
            if slot is not None and slot.is_usable and slot.rank >= rank:
                self._slots[key] = self._slots.pop(key)
                slot.n_users += 1
                return slot
            has_room = slot is None and len(self._slots) < self._engines_max
            replaced = None if has_room else self._idle_key(key if slot is not None else None)
            if has_room or replaced is not None:
                outgoing = self._slots.pop(replaced) if replaced is not None else None
                slot = _Slot(card, asyncio.create_task(self._start(card, outgoing)), rank, n_users=1)
                self._slots[key] = slot
                return slot
            await self._changed.wait()
        raise UnavailableError("the labeler is stopping; repeat the call once it is back")

    def _idle_key(self, key: str | None) -> str | None:
        """The slot that may be replaced: the given one, else the least recently used, where nobody uses it."""
        candidates = [key] if key is not None else list(self._slots)
        for candidate in candidates:
            slot = self._slots[candidate]
            if slot.n_users == 0 and slot.task.done():
                return candidate
        return None

    async def _start(self, card: ModelCard, outgoing: _Slot | None) -> Engine:
        # First out, then in: there may not be memory for both.
        if outgoing is not None and outgoing.engine is not None:
            await outgoing.engine.close()
        return await self._factory(card)

    def _release(self, slot: _Slot) -> None:
        slot.n_users -= 1
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
