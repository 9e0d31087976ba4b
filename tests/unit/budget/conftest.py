"""A budget database with one campaign, used without gRPC, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from isocost.budget import campaigns, clock, labels, leases, ledger, orders, pool, queue, slots, sources
from isocost.budget.database import Database
from isocost.core.money import Money
from isocost.resources.campaign import Balance, Campaign, LedgerEntry, Order, Sampling, Sharing
from isocost.resources.label import Label, Purpose
from isocost.resources.queue import Lease
from isocost.resources.task import Item, Source, SourceKind, Task
from tests.postgres import PostgresServer

TASK = Task("claims", "Is it true that {claim}?", ("no", "yes"))
NO_GOLD = queue.GoldRule(fraction=0.0, accuracy_min=0.0, n_answers_min=1)


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
        self.add([Item(f"i{index}", {"claim": f"claim {index}"}) for index in range(n_items)], campaign_id=campaign_id)

    def add_metered(self, campaign_id: str = "c") -> None:
        """A weak source at 1.5 micros a token (1,500,000 a million), of which one label costs 1,000 micros at most."""
        source = Source("metered", SourceKind.MODEL, Money(1_000), "small", Money(1_500_000))
        with self.database.write() as connection:
            sources.create_source(connection, campaign_id, source)

    def add(self, items: Sequence[Item], *, campaign_id: str = "c") -> pool.AddedItems:
        with self.database.write() as connection:
            return pool.add_items(connection, campaign_id, list(enumerate(items)))

    def score(self, uncertainties: dict[str, float], *, campaign_id: str = "c") -> None:
        with self.database.write() as connection:
            pool.score_items(connection, campaign_id, list(uncertainties.items()))

    def order(
        self,
        source_id: str = "weak",
        n_labels: int = 0,
        *,
        campaign_id: str = "c",
        purpose: Purpose = Purpose.TRAINING,
        item_ids: Sequence[str] = (),
        sampling: Sampling | None = None,
        overlap: int = 1,
        time_to_live: timedelta | None = None,
        sharing: Sharing = Sharing.NONE,
        items_of: str = "",
    ) -> Order:
        """Sampling is GIVEN where items are given, else RANDOM, unless it is named."""
        request = orders.OrderRequest(
            request_id="r",
            campaign_id=campaign_id,
            source_id=source_id,
            purpose=purpose,
            n_labels=n_labels,
            sampling=sampling or (Sampling.GIVEN if item_ids else Sampling.RANDOM),
            item_ids=item_ids,
            overlap=overlap,
            time_to_live=time_to_live,
            sharing=sharing,
            items_of_order_id=items_of,
        )
        with self.database.write() as connection:
            return orders.create_order(connection, request)

    def read_order(self, order: Order) -> Order:
        with self.database.read() as connection:
            return orders.read_order(connection, order.order_id)

    def items(self, order: Order, *, pending_only: bool = False) -> list[str]:
        with self.database.read() as connection:
            placed = slots.items_of_order(
                connection, order.order_id, after_position=0, limit=10_000, pending_only=pending_only
            )
        return [part.item.item_id for part in placed]

    def submit(
        self, order: Order, item_ids: Sequence[str], *, annotator: str = "", prompt_tokens: Sequence[int] = ()
    ) -> labels.SubmittedLabels:
        tokens = prompt_tokens or [0] * len(item_ids)
        some = [
            Label(item_id, (0.25, 0.75), annotator, prompt_tokens=n)
            for item_id, n in zip(item_ids, tokens, strict=True)
        ]
        with self.database.write() as connection:
            return labels.submit_labels(connection, order.order_id, some)

    def cancel(self, order: Order) -> Order:
        with self.database.write() as connection:
            return orders.cancel_order(connection, order.order_id)

    def finish(self, campaign_id: str = "c") -> Campaign:
        with self.database.write() as connection:
            return orders.finish_campaign(connection, campaign_id)

    def expire(self, campaign_id: str = "c") -> tuple[int, int]:
        """Ends what has run out; returns how many labels were given up, and how many leases ended."""
        with self.database.write() as connection:
            campaigns.lock_campaign(connection, campaign_id)
            n_leases = leases.expire_leases(connection, campaign_id)
            return orders.expire_orders(connection, campaign_id), n_leases

    def lease(
        self,
        annotator: str,
        n_items: int = 10,
        *,
        campaign_id: str = "c",
        source_id: str = "human",
        duration: timedelta = timedelta(minutes=30),
        gold: queue.GoldRule = NO_GOLD,
    ) -> queue.LeasedItems | None:
        request = queue.LeaseRequest(campaign_id, source_id, annotator, n_items, duration)
        with self.database.write() as connection:
            return queue.lease_items(connection, request, gold)

    def answer(self, lease: Lease, item_ids: Sequence[str], *, choice: int = 1) -> queue.AnsweredItems:
        probabilities = (0.0, 1.0) if choice else (1.0, 0.0)
        with self.database.write() as connection:
            return queue.answer_items(
                connection, lease.lease_id, [Label(item_id, probabilities) for item_id in item_ids]
            )

    def extend(self, lease: Lease) -> Lease:
        with self.database.write() as connection:
            return leases.extend_lease(connection, lease.lease_id)

    def release(self, lease: Lease) -> Lease:
        with self.database.write() as connection:
            return leases.release_lease(connection, lease.lease_id)

    def read_lease(self, lease: Lease) -> Lease:
        with self.database.read() as connection:
            return leases.read_lease(connection, lease.lease_id)

    def correct(
        self, corrects_sequence: int, micros: int, *, campaign_id: str = "c", reason: str = "useless"
    ) -> LedgerEntry:
        with self.database.write() as connection:
            return ledger.correct(
                connection, campaign_id, corrects_sequence=corrects_sequence, amount=Money(micros), reason=reason
            )

    def entries(self, campaign_id: str = "c") -> list[LedgerEntry]:
        with self.database.read() as connection:
            return ledger.entries(connection, campaign_id, after_sequence=0, limit=100_000)

    def balance(self, campaign_id: str = "c") -> Balance:
        with self.database.read() as connection:
            return campaigns.read_status(connection, campaign_id).balance

    def n_free(self, campaign_id: str = "c") -> int:
        with self.database.read() as connection:
            return campaigns.read_status(connection, campaign_id).n_items_free


class MovingClock:
    """The service's clock, which stands still until a test moves it."""

    def __init__(self) -> None:
        self.now_us = clock.now_us()

    def advance(self, **delta: float) -> None:
        """Moves it on, for example by `minutes=30`."""
        self.now_us += clock.us_from_delta(timedelta(**delta))


@pytest.fixture
def moving_clock(monkeypatch: pytest.MonkeyPatch) -> MovingClock:
    moving = MovingClock()
    monkeypatch.setattr(clock, "now_us", lambda: moving.now_us)
    return moving


@pytest.fixture
def sqlite_database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path}/budget.db")
    database.migrate()
    yield database
    database.close()


@pytest.fixture
def postgres_database(postgres: PostgresServer) -> Iterator[Database]:
    name = postgres.create_database()
    database = Database(postgres.url(name))
    yield database
    database.close()
    postgres.drop_database(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Database:
    fixture = "sqlite_database" if request.param == "sqlite" else "postgres_database"
    opened: Database = request.getfixturevalue(fixture)
    return opened


@pytest.fixture
def book(database: Database) -> Book:
    return Book(database)
