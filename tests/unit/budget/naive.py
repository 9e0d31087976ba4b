"""The budget's rules once more, naively: lists in memory, every number counted from them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field

from isocost.resources.campaign import EntryKind, OrderState, Sharing
from isocost.resources.label import Purpose
from isocost.resources.queue import LeaseState

__all__ = ["PRICE_MICROS", "NaiveBook", "NaiveLease", "NaiveOrder", "NaiveSlot", "RefusedError"]

PRICE_MICROS = {"weak": 1_000, "metered": 1_000, "human": 100_000}
_DAY_US = 24 * 60 * 60 * 1_000_000


class RefusedError(Exception):
    """The rules do not allow it; says whether for want of money, or because the call itself is wrong."""

    def __init__(self, *, budget: bool = False, invalid: bool = False) -> None:
        super().__init__()
        self.budget = budget
        self.invalid = invalid


@dataclass
class NaiveSlot:
    """One awaited label: answered and paid, given up, in hand of a lease, or waiting."""

    item_id: str
    paid_micros: int = 0
    annotator: str | None = None
    released: bool = False
    lease: int | None = None

    @property
    def is_waiting(self) -> bool:
        return self.annotator is None and not self.released and self.lease is None

    @property
    def is_pending(self) -> bool:
        return self.annotator is None and not self.released


@dataclass
class NaiveOrder:
    order_id: str
    source_id: str
    purpose: Purpose
    sharing: Sharing
    expire_time_us: int | None
    slots: list[NaiveSlot]
    state: OrderState = OrderState.OPEN

    @property
    def price_micros(self) -> int:
        return PRICE_MICROS[self.source_id]

    @property
    def n_pending(self) -> int:
        return sum(slot.is_pending for slot in self.slots)

    @property
    def held_items(self) -> set[str]:
        return {slot.item_id for slot in self.slots if not slot.released}

    def of_item(self, item_id: str) -> list[NaiveSlot]:
        return [slot for slot in self.slots if slot.item_id == item_id]

    def is_over(self, now_us: int) -> bool:
        return self.expire_time_us is not None and self.expire_time_us <= now_us


@dataclass
class NaiveLease:
    annotator: str
    items: dict[str, int]
    create_time_us: int
    expire_time_us: int
    n_answered: int = 0
    state: LeaseState = LeaseState.OPEN


@dataclass
class NaiveBook:
    """One campaign."""

    budget_micros: int
    items: list[str]
    orders: list[NaiveOrder] = field(default_factory=list)
    leases: list[NaiveLease] = field(default_factory=list)
    #: (kind, amount, order)
    entries: list[tuple[EntryKind, int, str]] = field(default_factory=list)
    #: Corrections by the sequence of the entry that they correct.
    corrections: dict[int, int] = field(default_factory=dict)

    @property
    def reserved_micros(self) -> int:
        return sum(order.n_pending * order.price_micros for order in self.orders)

    @property
    def settled_micros(self) -> int:
        labels = sum(slot.paid_micros for order in self.orders for slot in order.slots)
        return labels + sum(self.corrections.values())

    @property
    def available_micros(self) -> int:
        return self.budget_micros - self.reserved_micros - self.settled_micros

    @property
    def free(self) -> set[str]:
        return set(self.items).difference(*(order.held_items for order in self.orders))

    def may_take(self, source_id: str, purpose: Purpose, sharing: Sharing) -> set[str]:
        """The items that a new order may take."""
        taken = set()
        for order in self.orders:
            same_source = order.source_id == source_id
            other_use = (order.purpose is Purpose.EVALUATION) != (purpose is Purpose.EVALUATION)
            clashes = {
                Sharing.NONE: True,
                Sharing.SOURCES: same_source or other_use,
                Sharing.ALL: same_source and source_id != "human",
            }
            if clashes[sharing]:
                taken |= order.held_items
        return set(self.items) - taken

    def items_of(self, order: NaiveOrder, source_id: str, purpose: Purpose, sharing: Sharing) -> list[str]:
        """The items of an order that a new one may take with it, in its sequence."""
        sharing = Sharing.SOURCES if sharing is Sharing.NONE else sharing
        may_take = self.may_take(source_id, purpose, sharing) & order.held_items
        return [item_id for item_id in dict.fromkeys(slot.item_id for slot in order.slots) if item_id in may_take]

    def after_expiry(self, now_us: int) -> NaiveBook:
        """The book once orders whose time is over have given up what nobody has in hand."""
        book = copy.deepcopy(self)
        for order in book.orders:
            if order.state is OrderState.OPEN and order.is_over(now_us):
                book.give_up(order, EntryKind.EXPIRE, keep_leased=True)
        return book

    def expire_leases(self, now_us: int) -> None:
        for number, lease in enumerate(self.leases):
            if lease.state is LeaseState.OPEN and lease.expire_time_us <= now_us:
                self.end_lease(number, LeaseState.EXPIRED)

    def end_lease(self, number: int, state: LeaseState) -> None:
        self.leases[number].state = state
        for order in self.orders:
            for slot in order.slots:
                if slot.lease == number:
                    slot.lease = None

    def give_up(self, order: NaiveOrder, kind: EntryKind, *, keep_leased: bool) -> None:
        given_up = [slot for slot in order.slots if slot.is_pending and not (keep_leased and slot.lease is not None)]
        for slot in given_up:
            slot.released, slot.lease = True, None
        if given_up:
            self.entries.append((kind, len(given_up) * order.price_micros, order.order_id))
        if order.n_pending == 0:
            order.state = OrderState.EXPIRED if kind is EntryKind.EXPIRE else OrderState.CANCELLED

    def cancel(self, order: NaiveOrder) -> None:
        if order.state is not OrderState.OPEN:
            return
        self.give_up(order, EntryKind.RELEASE, keep_leased=False)
        in_hand = {slot.lease for each in self.orders for slot in each.slots}
        for number, lease in enumerate(self.leases):
            if lease.state is LeaseState.OPEN and number not in in_hand:
                lease.state = LeaseState.RELEASED

    def has_answered(self, annotator: str, item_id: str, source_id: str) -> bool:
        slots = (slot for order in self.orders if order.source_id == source_id for slot in order.of_item(item_id))
        return any(slot.annotator == annotator for slot in slots)

    def settle(self, order: NaiveOrder, annotator: str, placed: Sequence[NaiveSlot], tokens: int = 0) -> None:
        if any(self.has_answered(annotator, slot.item_id, order.source_id) for slot in placed):
            raise RefusedError
        for slot in placed:
            slot.annotator, slot.lease = annotator, None
            # 1.5 micros a token, rounded up.
            slot.paid_micros = (3 * tokens + 1) // 2 if order.source_id == "metered" else order.price_micros
            self.entries.append((EntryKind.SETTLE, slot.paid_micros, order.order_id))
        remainder = sum(order.price_micros - slot.paid_micros for slot in placed)
        if remainder:
            self.entries.append((EntryKind.RELEASE, remainder, order.order_id))
        if order.n_pending == 0 and order.state is OrderState.OPEN:
            gave_up = any(slot.released for slot in order.slots)
            order.state = OrderState.EXPIRED if gave_up else OrderState.SETTLED

    def submit(
        self, order: NaiveOrder, item_ids: Sequence[str], annotator: str, now_us: int, tokens: int
    ) -> tuple[int, int]:
        """Labels of different items, of so many tokens each; returns how many are accepted and how many duplicates."""
        placed = []
        for item_id in item_ids:
            slots = order.of_item(item_id)
            if any(slot.annotator == annotator for slot in slots):
                continue
            waiting = [slot for slot in slots if slot.is_waiting]
            if not waiting:
                raise RefusedError
            if order.source_id == "metered" and not 0 < 3 * tokens <= 2 * order.price_micros:
                raise RefusedError(invalid=True)
            placed.append(waiting[0])
        if placed and order.is_over(now_us):
            raise RefusedError
        self.settle(order, annotator, placed, tokens)
        return len(placed), len(item_ids) - len(placed)

    def waiting_for(self, annotator: str, n_items: int, now_us: int) -> dict[str, int]:
        """The items that an annotator gets, each with the number of its order."""
        in_hand = {
            slot.item_id
            for order in self.orders
            for slot in order.slots
            if slot.lease is not None and self.leases[slot.lease].annotator == annotator
        }
        found: dict[str, int] = {}
        for number, order in enumerate(self.orders):
            if order.source_id != "human" or order.state is not OrderState.OPEN or order.is_over(now_us):
                continue
            for slot in order.slots:
                known = slot.item_id in in_hand or self.has_answered(annotator, slot.item_id, "human")
                if slot.is_waiting and not known and len(found) < n_items:
                    found.setdefault(slot.item_id, number)
        return found

    def hand_out(self, annotator: str, items: dict[str, int], now_us: int, duration_us: int) -> None:
        number = len(self.leases)
        self.leases.append(NaiveLease(annotator, items, now_us, now_us + duration_us))
        for item_id, order_number in items.items():
            next(slot for slot in self.orders[order_number].of_item(item_id) if slot.is_waiting).lease = number

    def answer(self, number: int, item_ids: Sequence[str], now_us: int) -> int:
        """Answers to different items of a lease; returns how many are accepted."""
        lease = self.leases[number]
        n_accepted = 0
        of_orders = sorted({lease.items[item_id] for item_id in item_ids}, key=lambda n: self.orders[n].order_id)
        for order_number in of_orders:
            order = self.orders[order_number]
            placed = []
            for item_id in item_ids:
                slots = order.of_item(item_id)
                answered = any(slot.annotator == lease.annotator for slot in slots)
                if lease.items[item_id] != order_number or answered:
                    continue
                own = [slot for slot in slots if slot.lease == number]
                waiting = [slot for slot in slots if slot.is_waiting]
                if not own and (not waiting or order.is_over(now_us)):
                    raise RefusedError
                placed.append((own or waiting)[0])
            self.settle(order, lease.annotator, placed)
            n_accepted += len(placed)
        lease.n_answered += n_accepted
        if lease.state is LeaseState.OPEN and lease.n_answered == len(lease.items):
            lease.state = LeaseState.ANSWERED
        return n_accepted

    def extend(self, number: int, now_us: int, duration_us: int) -> None:
        lease = self.leases[number]
        if lease.state is not LeaseState.OPEN:
            raise RefusedError
        lease.expire_time_us = min(now_us + duration_us, lease.create_time_us + _DAY_US)

    def correct(self, sequence: int, micros: int) -> None:
        kind, paid_micros, order_id = self.entries[sequence - 1]
        assert kind is EntryKind.SETTLE
        if paid_micros + self.corrections.get(sequence, 0) + micros < 0:
            raise RefusedError
        if micros > self.available_micros:
            raise RefusedError(budget=True)
        self.corrections[sequence] = self.corrections.get(sequence, 0) + micros
        self.entries.append((EntryKind.CORRECT, micros, order_id))
