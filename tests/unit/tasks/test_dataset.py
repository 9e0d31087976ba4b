from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from isocost.core.errors import InvalidArgumentError
from isocost.resources.task import Task
from isocost.tasks.dataset import build_pool, read_file, read_hub

TASK = Task("t", "{text} ?", ("bad", "good"))
FRAME = pl.DataFrame({"id": ["a", "b"], "text": ["one", "two"], "label": ["good", "bad"], "number": [3, 7]})


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_the_three_formats_hold_the_same(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"items.{suffix}"
    writers: dict[str, Callable[[Path], object]] = {
        "csv": FRAME.write_csv,
        "jsonl": FRAME.write_ndjson,
        "parquet": FRAME.write_parquet,
    }
    writers[suffix](path)
    pool = build_pool(read_file(path), TASK, fields={}, id_column="id", gold_column="label")
    assert [item.item_id for item in pool.items] == ["a", "b"]
    assert [item.fields["text"] for item in pool.items] == ["one", "two"]
    assert pool.gold == {"a": 1, "b": 0}


def test_ids_are_made_from_content_and_do_not_depend_on_the_order() -> None:
    pool = build_pool(FRAME, TASK, fields={})
    turned = build_pool(FRAME.reverse(), TASK, fields={})
    assert {i.item_id: i.fields for i in pool.items} == {i.item_id: i.fields for i in turned.items}
    assert len({i.item_id for i in pool.items}) == 2


def test_rows_of_equal_content_are_one_item() -> None:
    assert len(build_pool(pl.concat([FRAME, FRAME]), TASK, fields={}).items) == 2


def test_the_first_pattern_whose_columns_are_there_is_used() -> None:
    patterns = {"text": ["{body}", "{text}. {number}"]}
    pool = build_pool(FRAME, TASK, fields=patterns, id_column="id")
    assert pool.items[0].fields["text"] == "one. 3"


def test_whole_numbers_are_ranked() -> None:
    pool = build_pool(FRAME, TASK, fields={}, id_column="id", gold_column="number")
    assert pool.gold == {"a": 0, "b": 1}


def test_gold_values_name_the_choice() -> None:
    pool = build_pool(
        FRAME, TASK, fields={}, id_column="id", gold_column="number", gold_values={"3": "good", "7": "bad"}
    )
    assert pool.gold == {"a": 1, "b": 0}


def test_text_with_braces_is_text() -> None:
    pool = build_pool(pl.DataFrame({"text": ["{odd} {"]}), TASK, fields={})
    assert TASK.render(pool.items[0].fields) == "{odd} { ?"


@pytest.mark.parametrize(
    ("frame", "options", "field", "words"),
    [
        (FRAME.clear(), {}, "data", "no rows"),
        (FRAME.drop("text"), {}, "data.fields.text", "no column 'text'"),
        (FRAME, {"id_column": "key"}, "data.id_column", "no column 'key'"),
        (FRAME, {"gold_column": "gold"}, "data.gold_column", "no column 'gold'"),
        (FRAME, {"gold_column": "text"}, "data.gold_column", "row 1 has 'one'"),
        (FRAME.with_columns(number=pl.lit(1)), {"gold_column": "number"}, "data.gold_column", "gold_values"),
        (FRAME, {"gold_column": "number", "gold_values": {"3": "fine"}}, "data.gold_values", "not a choice"),
        (FRAME.with_columns(id=pl.lit("a")), {"id_column": "id"}, "data.id_column", "given before"),
    ],
)
def test_what_is_wrong_is_named(frame: pl.DataFrame, options: dict[str, object], field: str, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words) as caught:
        build_pool(frame, TASK, fields={}, **options)  # type: ignore[arg-type]
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [("gone.csv", None, "no file"), ("items.xls", b"x", "suffix"), ("items.parquet", b"not parquet", "not a readable")],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidArgumentError, match=words):
        read_file(path)


def test_a_hub_out_of_reach_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(InvalidArgumentError, match="--data FILE"):
        read_hub("isocost-tests/there-is-no-such-dataset", None, "train")
