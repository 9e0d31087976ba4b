"""What a source's orders await, and what of it is paid."""

from __future__ import annotations

from collections import Counter

from isocost.client import BudgetClient
from isocost.resources.campaign import Order, OrderState
from isocost.resources.label import Purpose

__all__ = ["Demand"]


class Demand:
    """The orders and labels of one HUMAN source, read on from where the last look ended.

    Args:
        budget: The budget service.
        campaign_id, source_id: The source.
    """

    def __init__(self, budget: BudgetClient, campaign_id: str, source_id: str) -> None:
        self._budget = budget
        self._campaign_id = campaign_id
        self._source_id = source_id
        self._sequence = 0
        self._pending: list[Order] = []
        self._items: dict[str, frozenset[str]] = {}
        self._n_labels: Counter[tuple[str, str]] = Counter()
        #: Choice of each paid label, by item and annotator.
        self.paid: dict[tuple[str, str], int] = {}
        #: Leases and their items that are answered.
        self.answered: set[tuple[str, str]] = set()

    @property
    def overlap(self) -> int:
        """Most annotators that an open order asks about an item; 1 where there is none.

        Gold questions, which are asked of everybody, do not count: they are handed out beside other items.
        """
        return max((order.overlap for order in self._pending if order.purpose is not Purpose.GOLD_QUESTION), default=1)

    async def refresh(self) -> None:
        """Reads what is new."""
        orders = [each async for each in self._budget.orders(self._campaign_id) if each.source_id == self._source_id]
        # An order that expired still awaits what is in somebody's hands; it stays open until then.
        self._pending = [order for order in orders if order.state is OrderState.OPEN]
        for order in self._pending:
            if order.order_id not in self._items:
                # The items of an order never change.
                stream = self._budget.order_items(order.order_id)
                self._items[order.order_id] = frozenset([item.item_id async for item in stream])
        stream_of_labels = self._budget.labels(
            self._campaign_id, source_id=self._source_id, after_sequence=self._sequence
        )
        async for labelled in stream_of_labels:
            label = labelled.label
            self._sequence = label.sequence
            self.paid[label.item_id, label.annotator] = label.choice
            self._n_labels[label.order_id, label.item_id] += 1
            if label.lease_id:
                self.answered.add((label.lease_id, label.item_id))

    def n_left(self, item_id: str) -> int:
        """Labels that open orders still await for an item, in anybody's hands."""
        return sum(
            max(order.overlap - self._n_labels[order.order_id, item_id], 0)
            for order in self._pending
            if item_id in self._items[order.order_id]
        )
