"""The ledger against a naive model in memory, over arbitrary sequences of calls."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from isocost.budget.proof import verify_campaign
from isocost.core.errors import BudgetExceededError, FailedPreconditionError
from isocost.resources.campaign import Order, OrderState

PRICE_MICROS = {"weak": 1_000, "human": 100_000}
N_ITEMS = 12
#: Three labels short of what all items cost from the human source, so that runs meet both limits.
BUDGET_MICROS = 900_000


@dataclass
class NaiveOrder:
    source_id: str
    stored: Order
    pending: set[str]
    labelled: set[str] = field(default_factory=set)
    cancelled: bool = False

    @property
    def reserved_micros(self) -> int:
        return 0 if self.cancelled else len(self.pending) * PRICE_MICROS[self.source_id]

    @property
    def settled_micros(self) -> int:
        return len(self.labelled) * PRICE_MICROS[self.source_id]


class LedgerMachine(RuleBasedStateMachine):
    """Orders, labels and cancels at random; every balance must equal the naive one."""

    def __init__(self, book: Any, campaign_id: str) -> None:
        super().__init__()
        self.book = book
        self.campaign_id = campaign_id
        self.orders: list[NaiveOrder] = []

    @initialize()
    def create(self) -> None:
        self.book.create(self.campaign_id, budget_micros=BUDGET_MICROS, n_items=N_ITEMS)

    @property
    def free(self) -> set[str]:
        items = {f"i{index}" for index in range(N_ITEMS)}
        for order in self.orders:
            items -= order.labelled if order.cancelled else order.labelled | order.pending
        return items

    @property
    def available_micros(self) -> int:
        return BUDGET_MICROS - sum(order.reserved_micros + order.settled_micros for order in self.orders)

    @rule(source_id=st.sampled_from(["weak", "human"]), n_labels=st.integers(1, N_ITEMS), given_items=st.booleans())
    def order(self, source_id: str, n_labels: int, given_items: bool) -> None:
        items = sorted(self.free)[:n_labels] if given_items else []
        n_labels = len(items) or n_labels
        affordable = n_labels * PRICE_MICROS[source_id] <= self.available_micros
        if not affordable or n_labels > len(self.free):
            with pytest.raises(FailedPreconditionError if affordable else BudgetExceededError):
                self.book.order(source_id, n_labels, campaign_id=self.campaign_id, item_ids=items)
            return
        stored = self.book.order(source_id, n_labels, campaign_id=self.campaign_id, item_ids=items)
        chosen = self.book.items(stored)
        assert len(chosen) == len(set(chosen)) == n_labels
        assert set(chosen) <= self.free
        assert not items or chosen == items
        self.orders.append(NaiveOrder(source_id, stored, set(chosen)))

    @rule(choice=st.integers(0, 100), n_labels=st.integers(1, N_ITEMS), repeat=st.booleans())
    def submit(self, choice: int, n_labels: int, repeat: bool) -> None:
        if not self.orders:
            return
        order = self.orders[choice % len(self.orders)]
        new = [] if order.cancelled else sorted(order.pending)[:n_labels]
        known = sorted(order.labelled)[:3] if repeat else []
        if not new and not known:
            return
        result = self.book.submit(order.stored, new + known)
        assert (result.n_accepted, result.n_duplicate) == (len(new), len(known))
        order.pending -= set(new)
        order.labelled |= set(new)
        if not order.cancelled:
            assert result.order.state is (OrderState.OPEN if order.pending else OrderState.SETTLED)

    @rule(choice=st.integers(0, 100))
    def cancel(self, choice: int) -> None:
        if not self.orders:
            return
        order = self.orders[choice % len(self.orders)]
        self.book.cancel(order.stored)
        order.cancelled = order.cancelled or bool(order.pending)

    @invariant()
    def equals_the_naive_model(self) -> None:
        if not self.orders:
            return
        balance = self.book.balance(self.campaign_id)
        assert balance.reserved.micros == sum(order.reserved_micros for order in self.orders)
        assert balance.settled.micros == sum(order.settled_micros for order in self.orders)
        assert balance.available.micros == self.available_micros >= 0
        assert self.book.n_free(self.campaign_id) == len(self.free)

    def teardown(self) -> None:
        with self.book.database.read() as connection:
            proof = verify_campaign(connection, self.campaign_id)
        assert proof.n_labels == sum(len(order.labelled) for order in self.orders)


def test_ledger_equals_a_naive_one(book: Any) -> None:
    numbers = itertools.count()

    class Machine(LedgerMachine):
        def __init__(self) -> None:
            super().__init__(book, f"c{next(numbers)}")

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=40,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
