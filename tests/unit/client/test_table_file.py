"""Streams into files: every format holds the same, a broken one leaves nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from isocost.client.export import write_table
from isocost.client.row_file import read_rows
from isocost.client.sync.export import write_table as write_table_sync
from isocost.client.table import (
    AUDIT,
    CONSENSUS,
    ITEMS,
    LABELS,
    LEDGER,
    ORDERS,
    QUEUE,
    Column,
    QueueRow,
    Table,
    labels_table,
)
from isocost.core.errors import InvalidArgumentError, UnavailableError
from isocost.core.money import Money
from isocost.resources.audit import AuditEntry
from isocost.resources.campaign import EntryKind, LedgerEntry, Order, OrderState, Sampling, Sharing
from isocost.resources.label import Label, LabelledItem, Purpose
from isocost.resources.pool import ItemState, PoolItem
from isocost.resources.queue import Consensus
from isocost.resources.task import Item

TIME = datetime(2026, 3, 1, 12, 30, 15, 123_456, tzinfo=UTC)
ITEM = Item("i1", {"text": 'naïve "quotes"\nand lines', "lang": "日本"})
GOLD = Item("i2", {"text": "known"}, 1)
RECORDS: dict[str, tuple[Table[Any], list[Any]]] = {
    "items": (
        ITEMS,
        [PoolItem(ITEM, ItemState.ORDERED, "o", 0.25), PoolItem(GOLD, ItemState.GOLD_QUESTION)],
    ),
    "labels": (
        LABELS,
        [
            LabelledItem(
                Label(
                    "i1", (0.25, 0.75), "ann", "", 0, 0.0, "l1", "human", "o", TIME, 1, Purpose.EVALUATION, "lease-1"
                ),
                ITEM,
            ),
            LabelledItem(
                Label("i2", (1.0, 0.0), "", "small@1", 11, 0.5, "l2", "weak", "o2", TIME, 2, Purpose.TRAINING), GOLD
            ),
        ],
    ),
    "ledger": (
        LEDGER,
        [
            LedgerEntry(1, "c", "o", "human", EntryKind.SETTLE, Money(100_000), "l1", TIME),
            LedgerEntry(2, "c", "o", "human", EntryKind.CORRECT, Money(-100_000), "l1", TIME, "spam", 1),
        ],
    ),
    "queue": (QUEUE, [QueueRow(ITEM, ("no", " yes, \"really\"")), QueueRow(GOLD, ("a", "b"), "lease-1", "ann", "b")]),
    "consensus": (CONSENSUS, [Consensus(ITEM, (0.1, 0.9), 3, 2 / 3, Purpose.EVALUATION)]),
    "orders": (
        ORDERS,
        [
            Order(
                "o", "c", "human", Purpose.PILOT, 6, 4, 2, Money(5), OrderState.EXPIRED, "r", TIME, 3,
                Sampling.UNCERTAINTY, Sharing.SOURCES, TIME,
            ),
            Order("p", "c", "weak", Purpose.TRAINING, 1, 0, 0, Money(1, "EUR"), OrderState.OPEN, "r2"),
            Order(
                "q", "c", "weak", Purpose.TRAINING, 1, 0, 0, Money(9), OrderState.OPEN, "r3",
                price_per_million_tokens=Money(150_000), items_of_order_id="o",
            ),
        ],
    ),
    "audit": (AUDIT, [AuditEntry("r", "CreateOrder", "c", "bot", "pipeline", "ipv4:127.0.0.1:1", "ab" * 32, TIME)]),
}  # fmt: skip


def _content(path: Path) -> bytes:
    return path.read_bytes()


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def _stream(records: Sequence[Any]) -> AsyncIterator[Any]:
    for record in records:
        yield record


def _from_json(table: Table[Any], path: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        for name, column in table.columns.items():
            if column is Column.TIME and row[name] is not None:
                row[name] = datetime.fromisoformat(row[name])
    return rows


def _from_parquet(table: Table[Any], path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    for row in rows:
        for name, column in table.columns.items():
            if column is Column.FIELDS:
                row[name] = dict(row[name])
    return rows


@pytest.mark.parametrize("kind", RECORDS)
async def test_both_formats_hold_the_same(tmp_path: Path, kind: str) -> None:
    table, records = RECORDS[kind]
    for suffix in ("jsonl", "parquet"):
        assert await write_table(tmp_path / f"out.{suffix}", table, _stream(records)) == len(records)
    rows = _from_json(table, tmp_path / "out.jsonl")
    assert rows == _from_parquet(table, tmp_path / "out.parquet")
    assert [tuple(row.values()) for row in rows] == [table.row(record) for record in records]
    assert all(list(row) == list(table.columns) for row in rows)
    assert _names(tmp_path) == ["out.jsonl", "out.parquet"]


@pytest.mark.parametrize("kind", RECORDS)
async def test_a_csv_file_holds_the_same(tmp_path: Path, kind: str) -> None:
    table, records = RECORDS[kind]
    await write_table(tmp_path / "out.csv", table, _stream(records))
    rows = [row for _, row in read_rows(tmp_path / "out.csv")]
    for row, record in zip(rows, records, strict=True):
        expected = dict(zip(table.columns, table.row(record), strict=True))
        assert row.pop("fields") == expected.pop("fields", {})
        for name, value in expected.items():
            match table.columns[name]:
                case Column.REALS | Column.TEXTS:
                    assert json.loads(row[name]) == value
                case Column.TEXT:
                    assert row[name] == value
                case Column.TIME:
                    assert row[name] == (None if value is None else value.isoformat())
                case _:
                    assert row[name] == (None if value is None else str(value))
        assert list(row) == list(expected)
    assert _names(tmp_path) == ["out.csv"]


def test_exported_labels_say_the_choice_in_words(tmp_path: Path) -> None:
    _, records = RECORDS["labels"]
    write_table_sync(tmp_path / "labels.jsonl", labels_table(("no", " yes")), iter(records))
    write_table_sync(tmp_path / "plain.jsonl", LABELS, iter(records))
    rows, plain = _from_json(LABELS, tmp_path / "labels.jsonl"), _from_json(LABELS, tmp_path / "plain.jsonl")
    assert [row.pop("label") for row in rows] == [" yes", "no"]
    assert rows == plain


@pytest.mark.parametrize("suffix", ["jsonl", "parquet", "csv"])
async def test_the_sync_form_writes_the_same_file(tmp_path: Path, suffix: str) -> None:
    table, records = RECORDS["labels"]
    await write_table(tmp_path / f"async.{suffix}", table, _stream(records))
    n_rows = await asyncio.to_thread(write_table_sync, tmp_path / f"sync.{suffix}", table, iter(records))
    assert n_rows == len(records)
    assert (tmp_path / f"async.{suffix}").read_bytes() == (tmp_path / f"sync.{suffix}").read_bytes()


def _long() -> Iterator[PoolItem]:
    for number in range(25_000):
        yield PoolItem(Item(f"i{number}", {"text": "x"}), ItemState.FREE)


def test_a_long_table_is_written_group_by_group(tmp_path: Path) -> None:
    assert write_table_sync(tmp_path / "items.parquet", ITEMS, _long()) == 25_000
    file = pq.ParquetFile(tmp_path / "items.parquet")
    assert [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)] == [10_000, 10_000, 5_000]
    assert file.read()["item_id"].to_pylist() == [f"i{number}" for number in range(25_000)]


def test_long_texts_make_smaller_groups(tmp_path: Path) -> None:
    items = [PoolItem(Item(f"i{number}", {"text": "x" * (12 << 20)}), ItemState.FREE) for number in range(5)]
    write_table_sync(tmp_path / "items.parquet", ITEMS, iter(items))
    assert pq.ParquetFile(tmp_path / "items.parquet").num_row_groups == 2


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_table_without_rows_is_a_file_with_its_columns(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"items.{suffix}"
    assert write_table_sync(path, ITEMS, iter(())) == 0
    if suffix == "parquet":
        assert pq.read_table(path).column_names == list(ITEMS.columns)
    else:
        assert path.read_bytes() == b""


@pytest.mark.parametrize("suffix", ["jsonl", "parquet", "csv"])
async def test_a_broken_stream_leaves_the_file_as_it_was(tmp_path: Path, suffix: str) -> None:
    async def broken() -> AsyncIterator[PoolItem]:
        yield PoolItem(ITEM, ItemState.FREE)
        raise UnavailableError("away")

    path = tmp_path / f"items.{suffix}"
    with pytest.raises(UnavailableError):
        await write_table(path, ITEMS, broken())
    assert _names(tmp_path) == []
    await write_table(path, ITEMS, _stream([]))
    before = _content(path)
    with pytest.raises(UnavailableError):
        await write_table(path, ITEMS, broken())
    assert _content(path) == before
    assert _names(tmp_path) == [path.name]


def test_other_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"none of \.jsonl, \.parquet and \.csv"):
        write_table_sync(tmp_path / "items.txt", ITEMS, iter(()))
    assert list(tmp_path.iterdir()) == []
