"""Items of a campaign's pool, and where they stand."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from isocost.resources.task import Item
from isocost.v1 import budget_service_pb2

__all__ = ["ItemState", "PoolItem"]


class ItemState(Enum):
    """Where an item stands."""

    FREE = budget_service_pb2.ITEM_STATE_FREE
    ORDERED = budget_service_pb2.ITEM_STATE_ORDERED
    GOLD_QUESTION = budget_service_pb2.ITEM_STATE_GOLD_QUESTION


@dataclass(frozen=True, slots=True)
class PoolItem:
    """An item and where it stands.

    Attributes:
        item: The item.
        state: Where it stands.
        order_id: The first order that took it and has not given it up; "" while it is free.
        uncertainty: Its score; None where it has none.
    """

    item: Item
    state: ItemState
    order_id: str = ""
    uncertainty: float | None = None

    @classmethod
    def from_proto(cls, message: budget_service_pb2.PoolItem) -> PoolItem:
        """Converts from the wire."""
        uncertainty = message.uncertainty if message.HasField("uncertainty") else None
        return cls(Item.from_proto(message.item), ItemState(message.state), message.order_id, uncertainty)

    def to_proto(self) -> budget_service_pb2.PoolItem:
        """Converts to the wire."""
        return budget_service_pb2.PoolItem(
            item=self.item.to_proto(), state=self.state.value, order_id=self.order_id, uncertainty=self.uncertainty
        )
