"""Labels in files against a real service: out, filled in, and in again, in every format; nothing is paid twice."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from isocost.budget.database import Database
from isocost.budget.service import BudgetService
from isocost.budget.settings import BudgetSettings
from isocost.budget.tokens import create_token
from isocost.client import BudgetClient, ChannelSettings, QueueClient
from isocost.client.answer import AnsweredItems
from isocost.client.answer_import import AnswerImport, ImportTally
from isocost.client.export import write_table
from isocost.client.item_export import ExportedItems, export_items
from isocost.client.table import labels_table
from isocost.core.caller import Role
from isocost.core.errors import InvalidArgumentError, UnavailableError
from isocost.core.grpc_server import ServiceHost
from isocost.core.money import Money
from isocost.resources.campaign import Campaign, LedgerEntry
from isocost.resources.label import Label, Purpose
from isocost.resources.queue import LeaseState
from isocost.resources.task import Item, Source, SourceKind, Task
from tests.integration.client.running import TASK, Running
from tests.integration.client.served import environment, serve_budget

PAGE = Path(__file__).parents[3] / "docs" / "files.md"
FORMATS = ("csv", "jsonl", "parquet")
N_ITEMS = 12
PRICE = 100_000
DAY = timedelta(hours=24)
HUMAN_CHEAP = Source("cheap", SourceKind.HUMAN, Money(1_000))


async def order(budget: BudgetClient, n_labels: int = N_ITEMS, campaign_id: str = "c", **given: Any) -> str:
    """An open order of human labels; its id."""
    request_id = f"{campaign_id}/order/{n_labels}"
    return (await budget.create_order(request_id, campaign_id, "human", Purpose.TRAINING, n_labels, **given)).order_id


async def stored(budget: BudgetClient, campaign_id: str = "c") -> dict[tuple[str, str], tuple[int, str]]:
    """Choice and lease of each label, by item and annotator."""
    labels = [each.label async for each in budget.labels(campaign_id, source_id="human")]
    return {(label.item_id, label.annotator): (label.choice, label.lease_id) for label in labels}


async def ledger(budget: BudgetClient, campaign_id: str = "c") -> list[LedgerEntry]:
    return [entry async for entry in budget.ledger(campaign_id)]


async def settled(budget: BudgetClient, campaign_id: str = "c") -> int:
    return (await budget.get_campaign(campaign_id)).balance.settled.micros


async def export(queue: QueueClient, path: Path, n_items: int = N_ITEMS, annotator: str = "ann") -> ExportedItems:
    return await export_items(queue, path, "c", "human", annotator, n_items, duration=DAY)


def fill(path: Path, change: Callable[[int, dict[str, Any]], None]) -> None:
    """Changes the rows of a file, as a person's program does."""
    if path.suffix == ".csv":
        frame = pl.read_csv(path, infer_schema=False)
        rows = frame.to_dicts()
    elif path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    else:
        table = pq.read_table(path)
        rows = table.to_pylist()
    for number, row in enumerate(rows):
        change(number, row)
    if path.suffix == ".csv":
        pl.DataFrame(rows, schema=frame.schema).write_csv(path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    else:
        pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    pl.DataFrame(rows).write_csv(path)
    return path


def yes(_number: int, row: dict[str, Any]) -> None:
    row["label"] = "yes"


def counts(tally: ImportTally) -> tuple[int, int, int, int]:
    return tally.n_accepted, tally.n_duplicate, tally.n_unanswered, len(tally.refused)


@pytest.mark.parametrize("suffix", FORMATS)
async def test_a_file_goes_out_and_comes_back(running: Running, tmp_path: Path, suffix: str) -> None:
    await running.create()
    path = tmp_path / f"items.{suffix}"
    async with BudgetClient(running.address) as budget, QueueClient(running.address) as queue:
        await order(budget)
        exported = await export(queue, path, 100)
        assert (exported.n_items, exported.task) == (N_ITEMS, TASK)

        def half(number: int, row: dict[str, Any]) -> None:
            assert (json.loads(row["choices"]) if suffix == "csv" else row["choices"]) == ["no", "yes"]
            assert row["annotator"] == "ann"
            if number % 2:
                row.update(label=" Yes ", annotator=("bob", "", None)[number % 3])

        fill(path, half)
        tally = await AnswerImport(budget, queue, "c", "human", path).run()
        assert counts(tally) == (6, 0, 6, 0)
        assert tally.paid == Money(6 * PRICE)
        assert await settled(budget) == 6 * PRICE
        labels = await stored(budget)
        assert Counter(who for _, who in labels) == {"bob": 2, "ann": 4}
        assert set(labels.values()) == {(1, exported.leases[0].lease_id)}

        before = await ledger(budget)
        assert counts(await AnswerImport(budget, queue, "c", "human", path).run()) == (0, 6, 6, 0)
        assert await ledger(budget) == before

        # The rest, later, in the same file.
        fill(path, lambda _, row: row.update(label=row["label"] or "no"))
        assert counts(await AnswerImport(budget, queue, "c", "human", path).run()) == (6, 6, 0, 0)
        assert await settled(budget) == N_ITEMS * PRICE
        assert Counter(choice for choice, _ in (await stored(budget)).values()) == {0: 6, 1: 6}


async def test_texts_stand_as_the_question_shows_them(running: Running, tmp_path: Path) -> None:
    task = Task("order", "{zebra} or {ant}?", ("no", "yes"))
    fields = {"bee": "not shown", "ant": "a", "zebra": "z", "Adder": "not shown"}
    async with BudgetClient(running.address) as budget, QueueClient(running.address) as queue:
        await budget.create_campaign("r1", Campaign("o", task, budget=Money.parse("5"), strong_model="m"))
        await budget.create_source("r2", "o", Source("human", SourceKind.HUMAN, unit_price=Money.parse("0.5")))
        await budget.add_items("r3", "o", [Item("i", fields)])
        await budget.create_order("r4", "o", "human", Purpose.TRAINING, 1)
        await export_items(queue, tmp_path / "o.csv", "o", "human", "ann", 9, duration=timedelta(hours=1))
    header = (tmp_path / "o.csv").read_text(encoding="utf-8").splitlines()[0]
    assert header.split(",")[-4:] == ["fields.zebra", "fields.ant", "fields.Adder", "fields.bee"]


async def test_an_import_that_is_cut_off_is_repeated_and_pays_nothing_twice(running: Running, tmp_path: Path) -> None:
    class Cut(QueueClient):
        """The connection breaks after an answer was stored, before its caller hears of it."""

        n_calls = 0

        async def answer_items(self, request_id: str, lease_id: str, labels: Sequence[Label]) -> AnsweredItems:
            answered = await super().answer_items(request_id, lease_id, labels)
            self.n_calls += 1
            if self.n_calls == 3:
                raise UnavailableError("cut off")
            return answered

    await running.create()
    path = tmp_path / "items.csv"
    async with BudgetClient(running.address) as budget, Cut(running.address) as queue:
        await order(budget)
        await export(queue, path)
        fill(path, yes)
        cut = AnswerImport(budget, queue, "c", "human", path, call_labels=2)
        with pytest.raises(UnavailableError):
            await cut.run()
        assert counts(cut.tally) == (4, 0, 0, 0)
        assert await settled(budget) == 6 * PRICE
        again = await AnswerImport(budget, queue, "c", "human", path, call_labels=2).run()
        assert counts(again) == (6, 6, 0, 0)
        assert await settled(budget) == N_ITEMS * PRICE
        assert len(await stored(budget)) == N_ITEMS


@pytest.mark.parametrize("suffix", FORMATS)
async def test_exported_labels_are_imported(running: Running, tmp_path: Path, suffix: str) -> None:
    """Into their own campaign nothing new, into another with the same items all of them, as they were."""
    await running.create()
    await running.create(campaign_id="d")
    path = tmp_path / f"labels.{suffix}"
    async with BudgetClient(running.address) as budget, QueueClient(running.address) as queue:
        order_id = await order(budget)
        exported = await queue.lease_items("l", "c", "human", "ann", 5)
        assert exported.lease is not None
        await queue.answer_items("a", exported.lease.lease_id, [Label(i.item_id, (0.9, 0.1)) for i in exported.items])
        free = [item.item_id async for item in budget.order_items(order_id, pending_only=True)]
        await budget.submit_labels("s", order_id, [Label(item_id, (0.25, 0.75), "bob") for item_id in free])
        weak = await budget.create_order("w", "c", "weak", Purpose.TRAINING, 3)
        ids = [item.item_id async for item in budget.order_items(weak.order_id)]
        await budget.submit_labels("ws", weak.order_id, [Label(item_id, (0.5, 0.5)) for item_id in ids])
        assert await write_table(path, labels_table(TASK.choices), budget.labels("c")) == N_ITEMS + 3

        before = await ledger(budget)
        tally = await AnswerImport(budget, queue, "c", "human", path).run()
        assert (*counts(tally), tally.n_others) == (0, N_ITEMS, 0, 0, 3)
        assert await ledger(budget) == before

        labels = [
            (each.label.item_id, each.label.annotator, each.label.probabilities) async for each in budget.labels("c")
        ]
        await order(budget, campaign_id="d", item_ids=sorted(item_id for item_id, _, _ in labels[:N_ITEMS]))
        tally = await AnswerImport(budget, queue, "d", "human", path).run()
        assert (*counts(tally), tally.n_others) == (N_ITEMS, 0, 0, 0, 3)
        copied = [
            (each.label.item_id, each.label.annotator, each.label.probabilities) async for each in budget.labels("d")
        ]
        assert sorted(copied) == sorted(labels[:N_ITEMS])
        assert await settled(budget, "d") == N_ITEMS * PRICE
        assert counts(await AnswerImport(budget, queue, "d", "human", path).run()) == (0, N_ITEMS, 0, 0)
        assert await settled(budget, "d") == N_ITEMS * PRICE


async def test_late_answers_are_taken_while_nobody_else_has_the_item(running: Running, tmp_path: Path) -> None:
    await running.create()
    path = tmp_path / "items.csv"
    async with BudgetClient(running.address) as budget, QueueClient(running.address) as queue:
        await order(budget)
        exported = await export(queue, path)
        fill(path, yes)
        await queue.release_lease("late", exported.leases[0].lease_id)
        others = await queue.lease_items("l", "c", "human", "bob", 5)
        tally = await AnswerImport(budget, queue, "c", "human", path).run()
        assert counts(tally) == (N_ITEMS - 5, 0, 0, 5)
        rows = [row["item_id"] for row in pl.read_csv(path).to_dicts()]
        for refusal in tally.refused:
            assert rows[refusal.row - 2] == refusal.item_id
            assert "awaits no answer any more" in refusal.reason
        assert {refusal.item_id for refusal in tally.refused} == {item.item_id for item in others.items}
        assert await settled(budget) == (N_ITEMS - 5) * PRICE


async def test_what_nobody_answers_is_given_back_when_asked(running: Running, tmp_path: Path) -> None:
    await running.create()
    path = tmp_path / "items.csv"
    async with BudgetClient(running.address) as budget, QueueClient(running.address) as queue:
        order_id = await order(budget)
        await export(queue, path)
        fill(path, lambda number, row: row.update(label="no" if number < 3 else None))

        async def waiting() -> int:
            return len([item async for item in budget.order_items(order_id, pending_only=True)])

        await AnswerImport(budget, queue, "c", "human", path).run()
        assert await waiting() == 0
        tally = await AnswerImport(budget, queue, "c", "human", path).run(release=True)
        assert (tally.n_returned, await waiting()) == (N_ITEMS - 3, N_ITEMS - 3)


async def test_a_file_that_cannot_be_written_leaves_nothing_leased(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await running.create(n_items=1_200)
    async with BudgetClient(running.address) as budget, QueueClient(running.address) as queue:
        await budget.create_source("cheap", "c", HUMAN_CHEAP)
        await budget.create_order("many", "c", "cheap", Purpose.TRAINING, 1_200)

        def full(*_: object) -> None:
            raise OSError(28, "no space left")

        monkeypatch.setattr("isocost.client.item_export._write", full)
        with pytest.raises(OSError, match="no space left"):
            await export_items(queue, tmp_path / "items.csv", "c", "cheap", "ann", 1_100, duration=DAY)
        leases = await budget.list_leases("c")
        assert sorted(lease.n_items for lease in leases) == [100, 500, 500]
        assert {lease.state for lease in leases} == {LeaseState.RELEASED}
        monkeypatch.undo()

        path = tmp_path / "items.jsonl"
        path.write_text("answers of somebody")
        with pytest.raises(InvalidArgumentError, match="is there already"):
            await export_items(queue, path, "c", "cheap", "ann", 10, duration=DAY)
        assert path.read_text() == "answers of somebody"
        assert len(await budget.list_leases("c")) == 3
        # More than one lease in one file; and where nothing waits, no file.
        exported = await export_items(queue, tmp_path / "all.jsonl", "c", "cheap", "ann", 5_000, duration=DAY)
        assert [lease.n_items for lease in exported.leases] == [500, 500, 200]
        assert len(set((tmp_path / "all.jsonl").read_text("utf-8").splitlines())) == 1_200
        nothing = await export_items(queue, tmp_path / "none.csv", "c", "cheap", "ann", 10, duration=DAY)
        assert (nothing.n_items, (tmp_path / "none.csv").exists()) == (0, False)
        fill(tmp_path / "all.jsonl", yes)
        tally = await AnswerImport(budget, queue, "c", "cheap", tmp_path / "all.jsonl").run()
        assert (counts(tally), tally.paid) == ((1_200, 0, 0, 0), Money(1_200 * 1_000))


async def test_labels_without_a_lease_go_to_the_orders_that_await_them(running: Running, tmp_path: Path) -> None:
    """Two people an item in one order, one in a later order; a third answer of an item is refused."""
    await running.create()
    async with BudgetClient(running.address) as budget, QueueClient(running.address) as queue:
        twice = await order(budget, 4, item_ids=["i00001", "i00002"], overlap=2)
        once = await order(budget, 1, item_ids=["i00003"])
        rows = [
            {"item_id": item_id, "annotator": who, "label": "yes"}
            for item_id, who in (
                *[("i00001", "ann"), ("i00001", "bob"), ("i00001", "cy")],
                *[("i00002", "ann"), ("i00003", "bob"), ("i00004", "bob")],
            )
        ]
        path = write_rows(tmp_path / "answers.csv", rows)
        tally = await AnswerImport(budget, queue, "c", "human", path).run()
        assert counts(tally) == (4, 0, 0, 2)
        assert [(refusal.row, refusal.item_id) for refusal in tally.refused] == [(4, "i00001"), (7, "i00004")]
        assert "an order pays 2 labels an item" in tally.refused[0].reason
        assert "no open order of 'human' awaits it" in tally.refused[1].reason
        assert ((await budget.get_order(twice)).n_settled, (await budget.get_order(once)).n_settled) == (3, 1)
        assert counts(await AnswerImport(budget, queue, "c", "human", path).run()) == (0, 4, 0, 2)


@pytest.mark.parametrize(
    ("rows", "source", "message"),
    [
        ([{"item_id": "i00001", "label": "maybe"}], "human", "row 3, column 'label': 'maybe' for item i00001"),
        ([{"item_id": "elsewhere", "label": "no"}], "human", "row 3, column 'item_id': 'elsewhere' is no item of"),
        ([], "weak", "'weak' is no HUMAN source; name one of 'human'"),
    ],
)
async def test_nothing_is_stored_where_a_row_is_wrong(
    running: Running, tmp_path: Path, rows: list[dict[str, Any]], source: str, message: str
) -> None:
    await running.create()
    async with BudgetClient(running.address) as budget, QueueClient(running.address) as queue:
        await order(budget, 3, item_ids=["i00001", "i00002", "i00003"])
        path = write_rows(tmp_path / "answers.csv", [{"item_id": "i00002", "label": "no"}, *rows])
        with pytest.raises(InvalidArgumentError, match=message):
            await AnswerImport(budget, queue, "c", source, path).run()
        assert await stored(budget) == {}


async def test_an_item_that_is_not_of_the_lease_is_named(running: Running, tmp_path: Path) -> None:
    await running.create()
    path = tmp_path / "items.csv"
    async with BudgetClient(running.address) as budget, QueueClient(running.address) as queue:
        await order(budget, 3, item_ids=["i00001", "i00002", "i00003"])
        await export(queue, path)
        fill(path, lambda number, row: row.update(label="no", item_id="i00009" if number == 1 else row["item_id"]))
        with pytest.raises(InvalidArgumentError, match="row 3, column 'item_id': 'i00009' is not an item of lease"):
            await AnswerImport(budget, queue, "c", "human", path).run()
        assert await stored(budget) == {}


async def test_an_annotators_token_answers_in_its_own_name(tmp_path: Path) -> None:
    settings = BudgetSettings(database_url=f"sqlite:///{tmp_path}/budget.db", require_tokens=True)
    database = Database(settings.database_url)
    database.migrate()
    with database.write() as connection:
        _, admin = create_token(connection, "boss", Role.ADMIN, None)
        _, ann = create_token(connection, "ann", Role.ANNOTATOR, None)
    database.close()
    path = tmp_path / "items.csv"
    async with ServiceHost(BudgetService(settings), "127.0.0.1:0") as host:
        own = ChannelSettings(token=ann)
        async with (
            BudgetClient(host.address, channel=ChannelSettings(token=admin)) as boss,
            BudgetClient(host.address, channel=own) as budget,
            QueueClient(host.address, channel=own) as queue,
        ):
            await Running(host.address, "", ChannelSettings(token=admin)).create()
            await order(boss)
            exported = await export(queue, path, annotator="")
            assert {lease.annotator for lease in exported.leases} == {"ann"}

            def named(names: Sequence[str | None]) -> None:
                fill(path, lambda number, row: row.update(label="no", annotator=names[number % len(names)]))

            for names, message in ((["ann", "bob"], "row 3, column 'annotator'"), (["bob"], "'bob' is not you")):
                named(names)
                with pytest.raises(InvalidArgumentError, match=message):
                    await AnswerImport(budget, queue, "c", "human", path).run()
                assert await stored(boss) == {}
            named(["ann", None])
            tally = await AnswerImport(budget, queue, "c", "human", path).run(release=True)
            assert (counts(tally), tally.paid) == ((N_ITEMS, 0, 0, 0), None)
            assert counts(await AnswerImport(budget, queue, "c", "human", path).run()) == (0, N_ITEMS, 0, 0)
            assert {who for _, who in await stored(boss)} == {"ann"}
            bare = write_rows(tmp_path / "bare.csv", [{"item_id": "i00001", "label": "no", "choices": '["no", "yes"]'}])
            with pytest.raises(InvalidArgumentError, match="row 2, column 'lease_id': empty"):
                await AnswerImport(budget, queue, "c", "human", bare).run()


async def test_the_pages_commands_do_what_the_page_says(tmp_path: Path) -> None:
    blocks = re.findall(r"```bash\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert len(blocks) == 4
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    with serve_budget(tmp_path / "budget.db") as address:
        variables = environment(PATH=path, ADDRESS=address, CAMPAIGN="c", OTHER="d")

        async def run(commands: str) -> str:
            process = await asyncio.create_subprocess_exec(
                *("bash", "-euo", "pipefail", "-c", commands),
                env=variables,
                cwd=tmp_path,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            said = (await process.communicate())[0].decode()
            assert process.returncode == 0, said
            return said

        for campaign_id in ("c", "d"):
            await Running(address, "").create(n_items=60, campaign_id=campaign_id)
        async with BudgetClient(address) as budget:
            item_ids = [f"i{number:05d}" for number in range(60)]
            for campaign_id in ("c", "d"):
                await order(budget, 60, campaign_id, item_ids=item_ids)
            out, in_, program, other = blocks
            assert "50 items to ann" in await run(out)
            fill(tmp_path / "items.csv", lambda number, row: row.update(label="no" if number < 48 else None))
            said = await run(in_)
            assert "accepted    48  ($4.80 settled)" in said
            assert "given back  2\n" in said
            assert await settled(budget) == 48 * PRICE
            # Ten were not leased to ann; the two that came back are handed out as well.
            assert "accepted    12  ($1.20 settled)" in await run(program)
            said = await run(other)
            assert ["60" in line for line in said.splitlines() if line.startswith("duplicate")] == [True, False]
            assert "accepted    60  ($6.00 settled)" in said
            assert {key: choice for key, (choice, _) in (await stored(budget, "d")).items()} == {
                key: choice for key, (choice, _) in (await stored(budget)).items()
            }
