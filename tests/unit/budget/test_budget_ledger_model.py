"""The ledger, the orders and the queue against naive ones in memory, over arbitrary sequences of calls."""

from __future__ import annotations

import copy
import itertools
import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from isocost.budget.proof import verify_campaign
from isocost.core.errors import BudgetExceededError, FailedPreconditionError, InvalidArgumentError
from isocost.resources.campaign import EntryKind, Order, Sharing
from isocost.resources.label import Purpose
from isocost.resources.queue import Lease, LeaseState
from tests.unit.budget.naive import PRICE_MICROS, NaiveBook, NaiveOrder, NaiveSlot, RefusedError

SOAK = os.environ.get("ISOCOST_SOAK") == "1"
ITEMS = [f"i{index}" for index in range(12)]
#: Short of what all items cost twice from the human source, so that runs meet both limits.
BUDGET_MICROS = 1_900_000
NUMBERS = st.integers(0, 100)
SOURCES = st.sampled_from(["weak", "metered", "human"])
PURPOSES = st.sampled_from([Purpose.TRAINING, Purpose.EVALUATION])
ANNOTATORS = st.sampled_from(["ann", "bob", "cat"])
SECONDS = st.sampled_from([5, 10, 30])


class LedgerMachine(RuleBasedStateMachine):
    """Every call is made of the book and of the naive one; both must allow it or both refuse, and be equal after it."""

    def __init__(self, book: Any, clock: Any, campaign_id: str) -> None:
        super().__init__()
        self.book = book
        self.clock = clock
        self.campaign_id = campaign_id
        self.naive = NaiveBook(BUDGET_MICROS, ITEMS)
        self.orders: list[Order] = []
        self.leases: list[Lease] = []

    @initialize()
    def create(self) -> None:
        self.book.create(self.campaign_id, budget_micros=BUDGET_MICROS, n_items=len(ITEMS))
        self.book.add_metered(self.campaign_id)

    def both(self, naively: Callable[[NaiveBook], Any], really: Callable[[], Any]) -> Any:
        """What the book answers, which must be what the naive one answers; None where both refuse."""
        naive = copy.deepcopy(self.naive)
        try:
            expected = naively(naive)
        except RefusedError as refusal:
            error = BudgetExceededError if refusal.budget else FailedPreconditionError
            with pytest.raises(InvalidArgumentError if refusal.invalid else error):
                really()
            return None
        self.naive = naive
        result = really()
        if expected is not None:
            assert result == expected
        return result

    @rule(
        source_id=SOURCES,
        n_items=st.integers(1, len(ITEMS)),
        overlap=st.integers(1, 3),
        purpose=PURPOSES,
        sharing=st.sampled_from(Sharing),
        given_items=st.booleans(),
        seconds=st.none() | SECONDS,
    )
    def order(
        self,
        source_id: str,
        n_items: int,
        overlap: int,
        purpose: Purpose,
        sharing: Sharing,
        given_items: bool,
        seconds: int | None,
    ) -> None:
        overlap = overlap if source_id == "human" else 1
        # An order that is refused expires nothing.
        naive = self.naive.after_expiry(self.clock.now_us)
        may_take = naive.may_take(source_id, purpose, sharing)
        items = sorted(may_take)[:n_items] if given_items else []
        n_items = len(items) or n_items

        def really() -> Order:
            order: Order = self.book.order(
                source_id,
                n_items * overlap,
                campaign_id=self.campaign_id,
                purpose=purpose,
                item_ids=items,
                overlap=overlap,
                time_to_live=None if seconds is None else timedelta(seconds=seconds),
                sharing=sharing,
            )
            return order

        price_micros = n_items * overlap * PRICE_MICROS[source_id]
        affordable = price_micros <= naive.available_micros
        if not affordable or n_items > len(may_take):
            with pytest.raises(FailedPreconditionError if affordable else BudgetExceededError):
                really()
            return
        stored = really()
        chosen = self.book.items(stored)
        assert len(chosen) == len(set(chosen)) == n_items
        assert set(chosen) <= may_take
        assert not items or chosen == items
        expire_time_us = None if seconds is None else self.clock.now_us + seconds * 1_000_000
        self.keep(naive, stored, chosen, expire_time_us)

    def keep(self, naive: NaiveBook, stored: Order, items: list[str], expire_time_us: int | None = None) -> None:
        """Adds an order that was made to the naive book, which it replaces."""
        slots = [NaiveSlot(item_id) for item_id in items for _ in range(stored.overlap)]
        naive.orders.append(
            NaiveOrder(stored.order_id, stored.source_id, stored.purpose, stored.sharing, expire_time_us, slots)
        )
        price_micros = stored.n_labels * PRICE_MICROS[stored.source_id]
        naive.entries.append((EntryKind.RESERVE, price_micros, stored.order_id))
        self.naive = naive
        self.orders.append(stored)

    @rule(
        choice=NUMBERS,
        source_id=SOURCES,
        n_items=st.integers(1, len(ITEMS)),
        purpose=PURPOSES,
        sharing=st.sampled_from(Sharing),
    )
    def order_items_of(self, choice: int, source_id: str, n_items: int, purpose: Purpose, sharing: Sharing) -> None:
        if not self.orders:
            return
        number = choice % len(self.orders)
        naive = self.naive.after_expiry(self.clock.now_us)
        other = naive.orders[number]
        may_take = naive.items_of(other, source_id, purpose, sharing)

        def really() -> Order:
            order: Order = self.book.order(
                source_id,
                n_items,
                campaign_id=self.campaign_id,
                purpose=purpose,
                sharing=sharing,
                items_of=self.orders[number].order_id,
            )
            return order

        if other.source_id == source_id or n_items > self.orders[number].n_items:
            with pytest.raises(InvalidArgumentError):
                really()
            return
        affordable = n_items * PRICE_MICROS[source_id] <= naive.available_micros
        if not affordable or n_items > len(may_take):
            with pytest.raises(FailedPreconditionError if affordable else BudgetExceededError):
                really()
            return
        stored = really()
        chosen = self.book.items(stored)
        assert chosen == may_take[:n_items]
        self.keep(naive, stored, chosen)

    @rule(
        choice=NUMBERS,
        n_labels=st.integers(1, len(ITEMS)),
        skip=st.integers(0, 4),
        annotator=ANNOTATORS,
        # The last costs a micro more than a label may.
        tokens=st.sampled_from([0, 1, 2, 333, 666, 667]),
    )
    def submit(self, choice: int, n_labels: int, skip: int, annotator: str, tokens: int) -> None:
        if not self.orders:
            return
        number = choice % len(self.orders)
        of_order = list(dict.fromkeys(slot.item_id for slot in self.naive.orders[number].slots))
        items = of_order[skip:][:n_labels] or of_order

        def really() -> tuple[int, int]:
            result = self.book.submit(
                self.orders[number], items, annotator=annotator, prompt_tokens=[tokens] * len(items)
            )
            return result.n_accepted, result.n_duplicate

        now_us = self.clock.now_us
        self.both(lambda naive: naive.submit(naive.orders[number], items, annotator, now_us, tokens), really)

    @rule(choice=NUMBERS)
    def cancel(self, choice: int) -> None:
        if self.orders:
            number = choice % len(self.orders)
            self.both(lambda naive: naive.cancel(naive.orders[number]), lambda: self.book.cancel(self.orders[number]))

    @rule(annotator=ANNOTATORS, n_items=st.integers(1, 6), seconds=SECONDS)
    def lease(self, annotator: str, n_items: int, seconds: int) -> None:
        self.naive.expire_leases(self.clock.now_us)
        items = self.naive.waiting_for(annotator, n_items, self.clock.now_us)
        leased = self.book.lease(annotator, n_items, campaign_id=self.campaign_id, duration=timedelta(seconds=seconds))
        assert (leased is None) == (not items)
        if leased is not None:
            assert sorted(item.item_id for item in leased.items) == sorted(items)
            self.naive.hand_out(annotator, items, self.clock.now_us, seconds * 1_000_000)
            self.leases.append(leased.lease)

    @rule(choice=NUMBERS, n_items=st.integers(1, 6))
    def answer(self, choice: int, n_items: int) -> None:
        if not self.leases:
            return
        number = choice % len(self.leases)
        now_us = self.clock.now_us
        items = list(self.naive.leases[number].items)[:n_items]

        def naively(naive: NaiveBook) -> int:
            naive.expire_leases(now_us)
            return naive.answer(number, items, now_us)

        self.both(naively, lambda: self.book.answer(self.leases[number], items).n_accepted)

    @rule(choice=NUMBERS)
    def release(self, choice: int) -> None:
        if not self.leases:
            return
        number = choice % len(self.leases)
        self.naive.expire_leases(self.clock.now_us)
        if self.naive.leases[number].state is LeaseState.OPEN:
            self.naive.end_lease(number, LeaseState.RELEASED)
        assert self.book.release(self.leases[number]).state is self.naive.leases[number].state

    @rule(choice=NUMBERS)
    def extend(self, choice: int) -> None:
        if not self.leases:
            return
        number = choice % len(self.leases)
        now_us = self.clock.now_us
        first = self.leases[number]
        assert first.create_time is not None
        assert first.expire_time is not None
        duration_us = (first.expire_time - first.create_time) // timedelta(microseconds=1)

        def naively(naive: NaiveBook) -> None:
            naive.expire_leases(now_us)
            naive.extend(number, now_us, duration_us)

        self.both(naively, lambda: self.book.extend(first))

    @rule(seconds=SECONDS, sweep=st.booleans())
    def wait(self, seconds: int, sweep: bool) -> None:
        self.clock.advance(seconds=seconds)
        if sweep:
            self.naive.expire_leases(self.clock.now_us)
            self.naive = self.naive.after_expiry(self.clock.now_us)
            self.book.expire(self.campaign_id)

    @rule(choice=NUMBERS, micros=st.sampled_from([-100_000, -60_000, -1, 1, 500_000, 2_000_000]))
    def correct(self, choice: int, micros: int) -> None:
        paid = [entry for entry in self.book.entries(self.campaign_id) if entry.kind is EntryKind.SETTLE]
        if not paid:
            return
        sequence = paid[choice % len(paid)].sequence
        self.both(
            lambda naive: naive.correct(sequence, micros),
            lambda: self.book.correct(sequence, micros, campaign_id=self.campaign_id),
        )

    @invariant()
    def equals_the_naive_one(self) -> None:
        if not self.orders:
            return
        balance = self.book.balance(self.campaign_id)
        assert balance.reserved.micros == self.naive.reserved_micros
        assert balance.settled.micros == self.naive.settled_micros
        assert balance.available.micros == self.naive.available_micros >= 0
        assert self.book.n_free(self.campaign_id) == len(self.naive.free)
        assert [self.book.read_order(order).state for order in self.orders] == [
            order.state for order in self.naive.orders
        ]
        leases = [self.book.read_lease(lease) for lease in self.leases]
        assert [(lease.state, lease.n_answered) for lease in leases] == [
            (lease.state, lease.n_answered) for lease in self.naive.leases
        ]
        entries = self.book.entries(self.campaign_id)
        assert [entry.sequence for entry in entries] == list(range(1, len(entries) + 1))
        assert [(entry.kind, entry.amount.micros, entry.order_id) for entry in entries] == self.naive.entries

    def teardown(self) -> None:
        with self.book.database.read() as connection:
            proof = verify_campaign(connection, self.campaign_id)
        answered = [slot for order in self.naive.orders for slot in order.slots if slot.annotator is not None]
        assert proof.n_labels == len(answered)


@pytest.mark.timeout(7_200 if SOAK else 300)
def test_ledger_equals_a_naive_one(book: Any, moving_clock: Any, request: pytest.FixtureRequest) -> None:
    numbers = itertools.count()
    on_sqlite = request.node.callspec.params["database"] == "sqlite"

    class Machine(LedgerMachine):
        def __init__(self) -> None:
            super().__init__(book, moving_clock, f"c{next(numbers)}")

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=1_000 if SOAK else 40 if on_sqlite else 15,
            stateful_step_count=50 if SOAK else 25,
            deadline=None,
            derandomize=not SOAK,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
