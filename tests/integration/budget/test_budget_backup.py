"""A backup taken while labels are settled, by the commands of docs/operations.md: restored, whole, and gone on from."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from isocost.budget.proof import LedgerProof, verify_ledger
from isocost.v1 import budget_service_pb2 as pb
from isocost.v1 import budget_service_pb2_grpc, queue_service_pb2_grpc, resources_pb2
from isocost.v1 import queue_service_pb2 as queue_pb
from tests.budget_process import running_budget
from tests.integration.budget.conftest import Rig
from tests.postgres import PostgresServer, find_binaries

PAGE = Path(__file__).parents[3] / "docs" / "operations.md"
N_CLIENTS = 4
N_LABELS = 8
#: A client buys so much before the backup begins, and no more than so much altogether.
N_PURCHASES_BEFORE, N_PURCHASES_MAX = 5, 40
PRICES = {"weak": 1_000, "human": 100_000}
LabelKey = tuple[str, str, str]


@dataclass
class Place:
    """A database: its SQLAlchemy URL, and what the page's commands call it."""

    url: str
    variables: dict[str, str]


@dataclass
class Places:
    """Where the campaign runs and where the backup is restored, and the page's blocks between them."""

    source: Place
    restored: Place
    backup_path: Path
    backup_block: str
    restore_block: str


def block(mark: str) -> str:
    """The page's commands that contain a text."""
    found: str
    (found,) = [text for text in re.findall(r"```bash\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL) if mark in text]
    return found


async def run_block(commands: str, **variables: str) -> str:
    """Runs commands of the page as a person would, with this Python and PostgreSQL's programs on the path."""
    binaries = find_binaries()
    folders = [str(Path(sys.executable).parent), *([str(binaries)] if binaries else []), os.environ["PATH"]]
    process = await asyncio.create_subprocess_exec(
        *("bash", "-euo", "pipefail", "-c", commands),
        env={**os.environ, "PATH": os.pathsep.join(folders), **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said = (await process.communicate())[0].decode()
    assert process.returncode == 0, said
    return said


@pytest.fixture
def sqlite_places(tmp_path: Path) -> Places:
    source, restored, backup = tmp_path / "isocost.db", tmp_path / "new" / "isocost.db", tmp_path / "backup.db"
    restored.parent.mkdir()
    return Places(
        Place(f"sqlite:///{source}", {"DATABASE": str(source)}),
        Place(f"sqlite:///{restored}", {"RESTORED": str(restored)}),
        backup,
        block("source.backup("),
        block('cp "$BACKUP"'),
    )


@pytest.fixture
def postgresql_places(postgres: PostgresServer, tmp_path: Path) -> Iterator[Places]:
    names = [postgres.create_database(), postgres.create_database(migrated=False)]
    source, restored = (postgres.url(name) for name in names)
    yield Places(
        Place(source, {"DATABASE_URL": source.replace("+psycopg", "")}),
        Place(restored, {"RESTORED_URL": restored.replace("+psycopg", "")}),
        tmp_path / "isocost.dump",
        block("pg_dump --format"),
        block("pg_restore --exit-on-error"),
    )
    for name in names:
        postgres.drop_database(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def places(request: pytest.FixtureRequest) -> Places:
    found: Places = request.getfixturevalue(f"{request.param}_places")
    return found


@asynccontextmanager
async def serving(url: str) -> AsyncIterator[Rig]:
    """A budget service in a process of its own."""
    async with running_budget(url) as budget:
        yield Rig(
            budget.address,
            url,
            budget_service_pb2_grpc.BudgetServiceStub(budget.channel),
            queue_service_pb2_grpc.QueueServiceStub(budget.channel),
        )


@dataclass
class Client:
    """A pipeline's program: the same purchases with the same request ids, whenever it is run.

    Attributes:
        number: Which of them.
        acknowledged: Labels that the service said it stored: order or lease, item, annotator.
        n_purchases: Made to the end by the first run.
        is_half_done: A purchase waits with half of its labels submitted.
    """

    number: int
    acknowledged: list[LabelKey] = field(default_factory=list)
    n_purchases: int = 0
    is_half_done: asyncio.Event = field(default_factory=asyncio.Event)

    async def purchase(self, rig: Rig, k: int, pause: asyncio.Event | None = None) -> int:
        """One purchase, of weak labels or of answers; returns what it cost, in micros.

        With a `pause`, weak labels are half submitted until it is over.
        """
        source = ("weak", "human")[(self.number + k) % 2]
        order = await rig.order(self._id(k, "order"), source, N_LABELS)
        if source == "weak":
            items = await rig.items(order.order_id)
            for part, chosen in enumerate((items[: N_LABELS // 2], items[N_LABELS // 2 :])):
                await rig.stub.SubmitLabels(
                    pb.SubmitLabelsRequest(
                        request_id=self._id(k, f"labels {part}"), order_id=order.order_id, labels=labels(chosen)
                    )
                )
                self.acknowledged += [(order.order_id, item_id, "") for item_id in chosen]
                if pause is not None:
                    self.is_half_done.set()
                    await pause.wait()
            return N_LABELS * PRICES["weak"]
        annotator = f"annotator {self.number}"
        leased = await rig.queue.LeaseItems(
            queue_pb.LeaseItemsRequest(
                request_id=self._id(k, "lease"),
                campaign_id="c",
                source_id="human",
                annotator=annotator,
                n_items=N_LABELS,
            )
        )
        items = [item.item_id for item in leased.items]
        await rig.queue.AnswerItems(
            queue_pb.AnswerItemsRequest(
                request_id=self._id(k, "answers"), lease_id=leased.lease.lease_id, labels=labels(items)
            )
        )
        self.acknowledged += [(leased.lease.lease_id, item_id, annotator) for item_id in items]
        return N_LABELS * PRICES["human"]

    async def buy_until(self, rig: Rig, is_over: asyncio.Event, has_bought: asyncio.Semaphore) -> None:
        """Purchases one after another; one more once it is over, which no backup can have."""
        while not is_over.is_set() and self.n_purchases < N_PURCHASES_MAX:
            await self._next(rig)
            if self.n_purchases == N_PURCHASES_BEFORE:
                has_bought.release()
        await is_over.wait()
        await self._next(rig)

    async def buy_half_until(self, rig: Rig, is_over: asyncio.Event) -> None:
        """A purchase of which the backup has half."""
        await self._next(rig, is_over)

    async def _next(self, rig: Rig, pause: asyncio.Event | None = None) -> None:
        await self.purchase(rig, self.n_purchases, pause)
        self.n_purchases += 1

    async def run_again(self, rig: Rig) -> int:
        """All purchases again; returns what they cost together."""
        return sum([await self.purchase(rig, k) for k in range(self.n_purchases)])

    def _id(self, k: int, what: str) -> str:
        return f"client {self.number}/{k}/{what}"


def labels(item_ids: list[str]) -> list[resources_pb2.Label]:
    return [resources_pb2.Label(item_id=item_id, probabilities=[0.25, 0.75]) for item_id in item_ids]


async def stored_labels(rig: Rig) -> list[LabelKey]:
    export = rig.stub.ExportLabels(pb.ExportLabelsRequest(campaign_id="c"))
    parts = [part.label async for message in export for part in message.labelled_items]
    return [(label.lease_id or label.order_id, label.item_id, label.annotator) for label in parts]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def proved(url: str) -> LedgerProof:
    (proof,) = verify_ledger(url)
    return proof


async def back_up_under_load(places: Places) -> tuple[list[Client], set[LabelKey], int]:
    """A campaign, bought by concurrent clients, and a backup of it meanwhile.

    Returns:
        The clients, what they knew to be stored when the backup began, and how many labels there were in the end.
    """
    clients = [Client(number) for number in range(N_CLIENTS)]
    slow = Client(N_CLIENTS)
    async with serving(places.source.url) as rig:
        await rig.create(budget_micros=10**12, n_items=(N_CLIENTS * (N_PURCHASES_MAX + 1) + 1) * N_LABELS)
        is_over, has_bought = asyncio.Event(), asyncio.Semaphore(0)
        buying = [asyncio.create_task(client.buy_until(rig, is_over, has_bought)) for client in clients]
        buying.append(asyncio.create_task(slow.buy_half_until(rig, is_over)))
        for _ in clients:
            await has_bought.acquire()
        await slow.is_half_done.wait()
        clients.append(slow)
        known = {key for client in clients for key in client.acknowledged}
        backup = {"BACKUP": str(places.backup_path)}
        try:
            await run_block(places.backup_block, **backup, **places.source.variables)
        finally:
            is_over.set()
            await asyncio.gather(*buying)
        n_labels = len(await stored_labels(rig))
    return clients, known, n_labels


async def test_a_backup_taken_under_load_is_whole_and_is_gone_on_from(places: Places) -> None:
    clients, known, n_labels = await back_up_under_load(places)
    assert n_labels == N_LABELS * sum(client.n_purchases for client in clients)

    restored = await run_block(places.restore_block, BACKUP=str(places.backup_path), **places.restored.variables)
    assert "proved" in restored
    of_backup = proved(places.restored.url)
    # It was taken in the middle: of all, and of a purchase.
    assert len(known) <= of_backup.n_labels < n_labels
    assert of_backup.reserved.micros >= N_LABELS // 2 * PRICES["weak"]

    async with serving(places.restored.url) as rig:
        assert known <= set(await stored_labels(rig))
        assert (await rig.balance()).settled.micros == of_backup.settled.micros
        cost = sum(await asyncio.gather(*(client.run_again(rig) for client in clients)))
        balance = await rig.balance()
        assert (balance.settled.micros, balance.reserved.micros) == (cost, 0)
        # Once more, nothing is left to be done.
        await asyncio.gather(*(client.run_again(rig) for client in clients))
        assert await rig.balance() == balance
        stored = await stored_labels(rig)
        assert len(stored) == n_labels
        assert max(Counter(stored).values()) == 1
        finish = pb.FinishCampaignRequest(request_id="finish", campaign_id="c")
        finished = (await rig.stub.FinishCampaign(finish)).campaign
        assert finished.state == resources_pb2.CAMPAIGN_STATE_FINISHED
    whole = proved(places.restored.url)
    assert (whole.n_labels, whole.settled.micros, whole.reserved.micros) == (n_labels, cost, 0)


async def test_a_restored_file_beside_what_is_left_of_the_old_one_is_refused(sqlite_places: Places) -> None:
    async with serving(sqlite_places.source.url) as rig:
        await rig.create()
        await run_block(
            sqlite_places.backup_block, BACKUP=str(sqlite_places.backup_path), **sqlite_places.source.variables
        )
    folder = Path(sqlite_places.restored.variables["RESTORED"]).parent
    (folder / "isocost.db-wal").touch()
    with pytest.raises(AssertionError):
        await run_block(
            sqlite_places.restore_block, BACKUP=str(sqlite_places.backup_path), **sqlite_places.restored.variables
        )
    assert names_in(folder) == ["isocost.db-wal"]


async def test_a_name_that_is_wrong_makes_no_empty_backup(sqlite_places: Places, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="unable to open"):
        await run_block(
            sqlite_places.backup_block, BACKUP=str(sqlite_places.backup_path), DATABASE=str(tmp_path / "typo.db")
        )
    assert not sqlite_places.backup_path.exists()
    assert not (tmp_path / "typo.db").exists()
