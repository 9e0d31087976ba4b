"""A budget database with one campaign, used without gRPC."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from isocost.budget import campaigns, labels, orders, pool, sources
from isocost.budget.database import Database
from isocost.core.money import Money
from isocost.resources.campaign import Balance, Campaign, Order
from isocost.resources.label import Label, Purpose
from isocost.resources.task import Item, Source, SourceKind, Task

TASK = Task("claims", "Is it true that {claim}?", ("no", "yes"))


class Book:
    """Domain calls, each in a transaction of its own."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def create(self, campaign_id: str = "c", *, budget_micros: int = 1_000_000, n_items: int = 20) -> None:
        """A campaign with a weak source at 1,000 micros, a human one at 100,000, and items i0, i1, ..."""
        with self.database.write() as connection:
            campaigns.create_campaign(connection, Campaign(campaign_id, TASK, Money(budget_micros), "strong"))
            for source in (
                Source("weak", SourceKind.MODEL, Money(1_000), "small"),
                Source("human", SourceKind.HUMAN, Money(100_000)),
            ):
                sources.create_source(connection, campaign_id, source)
            items = [(index, Item(f"i{index}", {"claim": f"claim {index}"})) for index in range(n_items)]
            pool.add_items(connection, campaign_id, items)

    def order(
        self,
        source_id: str = "weak",
        n_labels: int = 0,
        *,
        campaign_id: str = "c",
        purpose: Purpose = Purpose.TRAINING,
        item_ids: Sequence[str] = (),
    ) -> Order:
        with self.database.write() as connection:
            return orders.create_order(
                connection,
                request_id="r",
                campaign_id=campaign_id,
                source_id=source_id,
                purpose=purpose,
                n_labels=n_labels,
                item_ids=item_ids,
            )

    def items(self, order: Order, *, pending_only: bool = False) -> list[str]:
        with self.database.read() as connection:
            placed = pool.items_of_order(
                connection, order.order_id, after_position=0, limit=10_000, pending_only=pending_only
            )
        return [part.item.item_id for part in placed]

    def submit(self, order: Order, item_ids: Sequence[str], *, annotator: str = "") -> labels.SubmittedLabels:
        with self.database.write() as connection:
            return labels.submit_labels(
                connection, order.order_id, [Label(item_id, (0.25, 0.75), annotator) for item_id in item_ids]
            )

    def cancel(self, order: Order) -> Order:
        with self.database.write() as connection:
            return orders.cancel_order(connection, order.order_id)

    def balance(self, campaign_id: str = "c") -> Balance:
        with self.database.read() as connection:
            return campaigns.read_status(connection, campaign_id).balance

    def n_free(self, campaign_id: str = "c") -> int:
        with self.database.read() as connection:
            return campaigns.read_status(connection, campaign_id).n_items_free


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path}/budget.db")
    database.migrate()
    yield database
    database.close()


@pytest.fixture
def book(database: Database) -> Book:
    return Book(database)
