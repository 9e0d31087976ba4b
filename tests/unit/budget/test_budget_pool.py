"""The pool: every item is in one order at most, and a sample is random but costs no more than the order."""

from __future__ import annotations

import re
from typing import Any

import pytest
from sqlalchemy import event

from isocost.budget import pool
from isocost.core.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from isocost.resources.campaign import Sampling, Sharing
from isocost.resources.label import Purpose
from isocost.resources.task import Item, Task

TASK = Task("claims", "Is {claim} true?", ("no", "yes"))


def test_orders_share_no_item_whatever_their_source_and_purpose(book: Any) -> None:
    book.create(n_items=30)
    orders = [
        book.order("weak", 10),
        book.order("human", 4, purpose=Purpose.EVALUATION),
        book.order("human", 4, purpose=Purpose.PILOT),
        book.order("weak", 12, purpose=Purpose.TRAINING),
    ]
    chosen = [item_id for order in orders for item_id in book.items(order)]
    assert sorted(chosen) == sorted(f"i{index}" for index in range(30))
    assert book.n_free() == 0


def test_a_sample_takes_the_items_in_shuffle_order(book: Any) -> None:
    book.create(n_items=50)
    in_shuffle_order = sorted((f"i{index}" for index in range(50)), key=lambda item_id: pool.shuffle_key("c", item_id))
    assert in_shuffle_order[:10] != [f"i{index}" for index in range(10)]
    assert book.items(book.order("weak", 10)) == in_shuffle_order[:10]
    assert book.items(book.order("human", 5)) == in_shuffle_order[10:15]


def test_each_campaign_has_a_random_order_of_its_own() -> None:
    items = [f"i{index}" for index in range(1_000)]
    keys = [pool.shuffle_key("a", item_id) for item_id in items]
    assert len(set(keys)) == 1_000
    assert abs(sum(key < 0 for key in keys) - 500) < 80
    by_a = sorted(items, key=lambda item_id: pool.shuffle_key("a", item_id))
    assert by_a != sorted(items, key=lambda item_id: pool.shuffle_key("b", item_id))


@pytest.mark.parametrize(
    ("choice", "walks"),
    [
        ({}, ["free_items"]),
        ({"sampling": Sampling.UNCERTAINTY}, ["item_scores"]),
        ({"sharing": Sharing.SOURCES}, ["free_items", "taken_items"]),
        ({"sharing": Sharing.SOURCES, "sampling": Sampling.UNCERTAINTY}, ["item_scores", "taken_items"]),
    ],
)
def test_sampling_walks_an_index_in_its_sequence(book: Any, choice: dict[str, Any], walks: list[str]) -> None:
    """No scan and no sort of the pool: an order's cost grows with the order."""
    book.create(n_items=3_000, budget_micros=10_000_000)
    book.score({f"i{number}": number / 3_000 for number in range(3_000)})
    for _ in range(4):
        book.order("weak", 250)
    statements: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        statements.append((statement, parameters))

    event.listen(book.database._engine, "before_cursor_execute", note)
    book.order("human", 3, **choice)
    event.remove(book.database._engine, "before_cursor_execute", note)
    ((sampling, parameters),) = [found for found in statements if "row_number()" in found[0]]
    with book.database.write() as connection:
        sqlite = connection.dialect.name == "sqlite"
        if not sqlite:
            connection.exec_driver_sql("ANALYZE")
        explain = "EXPLAIN QUERY PLAN" if sqlite else "EXPLAIN"
        plan = " | ".join(str(row[-1]) for row in connection.exec_driver_sql(f"{explain} {sampling}", parameters))
    for table in ("free_items", "taken_items", "item_scores", "order_items"):
        assert f"SCAN {table}" not in plan
        assert f"Seq Scan on {table}" not in plan
    for table in walks:
        assert re.search(rf"SEARCH {table} USING|using \w+ on {table}", plan)
    # What is sorted is what the walks gave, not the pool.
    assert all(int(n_rows) < 100 for n_rows in re.findall(r"Sort  \(cost=\S+ rows=(\d+)", plan))


def test_too_few_free_items_are_counted(book: Any) -> None:
    book.create(n_items=5)
    book.order("weak", 2)
    with pytest.raises(FailedPreconditionError, match="4 items are asked for, but only 3 of the pool are free"):
        book.order("weak", 4)


def test_given_items_are_taken_in_their_sequence(book: Any) -> None:
    book.create()
    order = book.order("human", item_ids=["i7", "i3", "i9"])
    assert order.n_labels == 3
    assert book.items(order) == ["i7", "i3", "i9"]
    with pytest.raises(FailedPreconditionError, match="'i3' is taken by order") as refusal:
        book.order("weak", item_ids=["i1", "i3"])
    assert refusal.value.field == "item_ids[1]"
    with pytest.raises(NotFoundError, match="'i99' is not in the pool"):
        book.order("weak", item_ids=["i99"])
    assert book.n_free() == 17


@pytest.mark.parametrize(
    ("n_labels", "item_ids", "field"),
    [
        (0, [], "n_labels"),
        (-1, [], "n_labels"),
        (10**9 + 1, [], "n_labels"),
        (3, ["i1"], "n_labels"),
        (0, ["i1", "i1"], "item_ids[1]"),
        (0, ["i1", ""], "item_ids[1]"),
    ],
)
def test_a_bad_choice_is_refused_by_name(book: Any, n_labels: int, item_ids: list[str], field: str) -> None:
    book.create()
    with pytest.raises(InvalidArgumentError) as refusal:
        book.order("weak", n_labels, item_ids=item_ids)
    assert refusal.value.field == field


def test_duplicates_and_conflicts_are_told_apart(book: Any) -> None:
    book.create(n_items=2)
    with book.database.write() as connection:
        added = pool.add_items(
            connection,
            "c",
            [
                (0, Item("i0", {"claim": "claim 0"})),
                (1, Item("i1", {"claim": "another"})),
                (2, Item("new", {"claim": "x"})),
                (3, Item("new", {"claim": "x"})),
                (4, Item("new", {"claim": "y"})),
            ],
        )
    assert (added.n_added, added.n_duplicate) == (1, 2)
    assert [(error.item_id, error.index) for error in added.errors] == [("i1", 1), ("new", 4)]
    assert book.n_free() == 3


@pytest.mark.parametrize(
    ("item_id", "fields", "field"),
    [
        ("", {"claim": "x"}, "item_id"),
        ("a\0b", {"claim": "x"}, "item_id"),
        ("x" * 513, {"claim": "x"}, "item_id"),
        ("a", {}, "fields"),
        ("a", {"other": "x"}, "fields.claim"),
        ("a", {"claim": "x\0"}, "fields.claim"),
        ("a", {"claim": "x", "bad\0": "x"}, "fields"),
        ("a", {"claim": "x" * (1 << 20)}, "fields"),
    ],
)
def test_a_bad_item_is_refused_by_name(item_id: str, fields: dict[str, str], field: str) -> None:
    with pytest.raises(InvalidArgumentError) as refusal:
        pool.parse_item(TASK, Item(item_id, fields))
    assert refusal.value.field == field
