"""The items that the queue has handed out to Label Studio: its leases."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic

from isocost.client import BudgetClient, QueueClient
from isocost.core.errors import FailedPreconditionError
from isocost.core.ids import new_id
from isocost.label_studio.demand import Demand
from isocost.resources.queue import Lease, LeaseState
from isocost.resources.task import Item

__all__ = ["LEASE_DURATION", "Hand", "Hands"]

#: Heartbeats keep a lease; this long after the last one its items are free for others, and answers are still taken
#: while nobody else has them.
LEASE_DURATION = timedelta(hours=1)
_SEAT = re.compile(r"label-studio(-\d+)?\Z")


def _seat(number: int) -> str:
    """The name of the n-th who holds items for Label Studio: each seat holds one answer of an item."""
    return "label-studio" if number == 1 else f"label-studio-{number}"


@dataclass(slots=True)
class Hand:
    """An open lease and its items; what an item says is known where this process leased it.

    Attributes:
        lease: As the service last gave it.
        items: By id.
        beat_time: When it was last extended, on the monotonic clock; None for never.
    """

    lease: Lease
    items: dict[str, Item | None]
    beat_time: float | None = None


class Hands:
    """All open leases of the seats.

    Args:
        budget, queue: The budget service.
        campaign_id, source_id: The source.
        n_items: Items in a seat's hands at a time, 1 to 1,000.
    """

    def __init__(
        self, budget: BudgetClient, queue: QueueClient, campaign_id: str, source_id: str, n_items: int
    ) -> None:
        self._budget = budget
        self._queue = queue
        self._campaign_id = campaign_id
        self._source_id = source_id
        self._n_items = n_items
        self._hands: dict[str, Hand] = {}

    def awaited(self, demand: Demand) -> dict[str, list[str]]:
        """The items that await an answer, each with the leases under which it does, oldest first."""
        found: dict[str, list[str]] = {}
        for hand in self._hands.values():
            for item_id in hand.items:
                if (hand.lease.lease_id, item_id) not in demand.answered and demand.n_left(item_id) > 0:
                    found.setdefault(item_id, []).append(hand.lease.lease_id)
        return found

    def item(self, item_id: str) -> Item | None:
        """What an item says; None where an earlier process leased it."""
        known = (hand.items.get(item_id) for hand in self._hands.values())
        return next((item for item in known if item is not None), None)

    async def refresh(self, shown: dict[str, set[str]]) -> None:
        """Takes up the leases that an earlier process left, keeps those that are held, and drops those that ended.

        Args:
            shown: By lease, the items that are shown in Label Studio.
        """
        leases = [
            lease
            for lease in await self._budget.list_leases(self._campaign_id)
            if lease.source_id == self._source_id
            and lease.state is LeaseState.OPEN
            and _SEAT.match(lease.annotator) is not None
        ]
        held, self._hands = self._hands, {}
        for lease in leases:
            hand = held.get(lease.lease_id)
            if hand is None:
                items = shown.get(lease.lease_id, set())
                if len(items) < lease.n_items:
                    # Nobody knows all of its items: leased, and killed before they were shown.
                    await self.give_back(lease.lease_id)
                    continue
                hand = Hand(lease, dict.fromkeys(items))
            self._hands[lease.lease_id] = hand
            await self._keep(hand)

    async def _keep(self, hand: Hand) -> None:
        """A heartbeat, where the last one is a third of the lease's duration ago."""
        if hand.beat_time is not None and monotonic() < hand.beat_time + LEASE_DURATION.total_seconds() / 3:
            return
        try:
            hand.lease = await self._queue.extend_lease(new_id("heartbeat"), hand.lease.lease_id)
        except FailedPreconditionError:
            # It has just ended.
            del self._hands[hand.lease.lease_id]
            return
        hand.beat_time = monotonic()

    async def give_back(self, lease_id: str) -> None:
        """Ends a lease; what is not answered goes back to the queue."""
        await self._queue.release_lease(f"{lease_id}:release", lease_id)
        self._hands.pop(lease_id, None)

    async def fill(self, demand: Demand) -> int:
        """Leases items for each seat whose hands are half empty; returns how many.

        Where the answer is lost, the next `refresh` gives the lease back.
        """
        n_leased = 0
        awaited = self.awaited(demand)
        for number in range(1, demand.overlap + 1):
            seat = _seat(number)
            own = {hand.lease.lease_id for hand in self._hands.values() if hand.lease.annotator == seat}
            n_held = sum(not own.isdisjoint(lease_ids) for lease_ids in awaited.values())
            if n_held > self._n_items // 2:
                continue
            leased = await self._queue.lease_items(
                new_id(seat),
                self._campaign_id,
                self._source_id,
                seat,
                self._n_items - n_held,
                duration=LEASE_DURATION,
            )
            if leased.lease is not None:
                items: dict[str, Item | None] = {item.item_id: item for item in leased.items}
                self._hands[leased.lease.lease_id] = Hand(leased.lease, items, monotonic())
                n_leased += len(items)
        return n_leased
