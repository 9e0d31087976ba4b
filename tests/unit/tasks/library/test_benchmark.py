"""What holds for every benchmark, whatever its rows."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocost.core.errors import InvalidArgumentError
from isocost.tasks.dataset import build_pool, read_file
from isocost.tasks.library.benchmark import Benchmark, load_benchmark
from tests.unit.tasks.library.made_up import QUIZ, SENTIMENT, quiz_row, write_rows, write_task

# Braces, control characters, line breaks, letters that differ in case alone.
TEXT = st.text(alphabet="aAbé{}!\x00\x08\x85\t\n 漢", min_size=1, max_size=6)


@st.composite
def quizzes(draw: st.DrawFn, min_size: int = 1, max_size: int = 25) -> list[dict[str, Any]]:
    """Rows whose questions differ."""
    rows = []
    for number in range(draw(st.integers(min_size, max_size))):
        options = draw(st.lists(TEXT.map(lambda text: f"={text}="), min_size=2, max_size=5, unique=True))
        rows.append(quiz_row(f"{number}: {draw(TEXT)}?", options, draw(st.integers(0, len(options) - 1))))
    return rows


def _load(
    rows: Sequence[dict[str, Any]],
    task: dict[str, Any] = QUIZ,
    *,
    split: Literal["train", "test"] = "test",
    **options: Any,
) -> Benchmark:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_rows(folder, split, rows)
        return load_benchmark(write_task(folder, task), data=folder, split=split, **options)


def _printed(text: str) -> str:
    return "".join(one for one in text if one not in "\x00\x08\x85")


def _as_set(benchmark: Benchmark) -> set[tuple[str, tuple[tuple[str, str], ...], int]]:
    return {
        (item.item_id, tuple(sorted(item.fields.items())), gold)
        for item, gold in zip(benchmark.items, benchmark.gold, strict=True)
    }


@settings(max_examples=60, deadline=None)
@given(rows=quizzes(), seed=st.integers(0, 2**63))
def test_yes_is_gold_exactly_where_the_right_answer_is_shown(rows: list[dict[str, Any]], seed: int) -> None:
    # Answers that are the same but for control characters are one answer: the row may have no wrong one then.
    shown = [row for row in rows if len({_printed(one) for one in row["options"]}) > 1]
    if not shown:
        return
    benchmark = _load(rows, seed=seed, balance=False)
    assert sorted(benchmark.rows) == [number for number, row in enumerate(rows) if row in shown]
    assert len({item.item_id for item in benchmark.items}) == len(benchmark.items)
    for item, gold, number in zip(benchmark.items, benchmark.gold, benchmark.rows, strict=True):
        row = rows[number]
        right = _printed(row["options"][row["right"]])
        assert item.fields["answer"] in {_printed(one) for one in row["options"]}
        assert gold == (item.fields["answer"] == right)
        # Braces in a text are text.
        assert benchmark.task.render(item.fields) == (
            f"{_printed(row['question'])}\nProposed: {item.fields['answer']}\nRight? Answer:"
        )


@settings(max_examples=60, deadline=None)
@given(rows=quizzes(min_size=2), seed=st.integers(0, 100), data=st.data())
def test_more_rows_change_no_item_and_no_order(rows: list[dict[str, Any]], seed: int, data: st.DataObject) -> None:
    n_kept = data.draw(st.integers(1, len(rows) - 1))
    try:
        fewer = _load(rows[:n_kept], seed=seed, balance=False)
    except InvalidArgumentError:
        return
    more = _load(rows, seed=seed, balance=False)
    among = [place for place, number in enumerate(more.rows) if number < n_kept]
    assert tuple(more.items[place] for place in among) == fewer.items
    assert tuple(more.gold[place] for place in among) == fewer.gold


@settings(max_examples=60, deadline=None)
@given(rows=quizzes(), seed=st.integers(0, 100), data=st.data())
def test_the_order_of_rows_and_of_answers_changes_nothing(
    rows: list[dict[str, Any]], seed: int, data: st.DataObject
) -> None:
    turned = []
    for row in data.draw(st.permutations(rows)):
        options = data.draw(st.permutations(row["options"]))
        turned.append(quiz_row(row["question"], options, options.index(row["options"][row["right"]])))
    try:
        benchmark = _load(rows, seed=seed)
    except InvalidArgumentError:
        with pytest.raises(InvalidArgumentError):
            _load(turned, seed=seed)
        return
    other = _load(turned, seed=seed)
    assert other.items == benchmark.items
    assert other.gold == benchmark.gold


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(1, 3), min_size=1, max_size=60).filter(lambda labels: len(set(labels)) == 3),
    seed=st.integers(0, 100),
    data=st.data(),
)
def test_classes_are_equal_in_every_whole_round(labels: list[int], seed: int, data: st.DataObject) -> None:
    rows = [{"text": f"text {number}", "stars": stars} for number, stars in enumerate(labels)]
    benchmark = _load(rows, SENTIMENT, seed=seed)
    n_rarest = min(Counter(labels).values())
    assert len(benchmark.items) == 3 * n_rarest
    for n_rounds in range(1, n_rarest + 1):
        assert Counter(benchmark.gold[: 3 * n_rounds]) == dict.fromkeys(range(3), n_rounds)
    for item, gold, number in zip(benchmark.items, benchmark.gold, benchmark.rows, strict=True):
        assert item.fields == {"text": rows[number]["text"]}
        assert gold == labels[number] - 1
    n_items = data.draw(st.integers(1, len(benchmark.items)))
    part = _load(rows, SENTIMENT, seed=seed, n_items=n_items)
    assert part.items == benchmark.items[:n_items]
    assert part.gold == benchmark.gold[:n_items]
    assert len(part.items) + sum(part.left_out.values()) == len(rows)


def test_the_draw_is_even() -> None:
    rows = [quiz_row(f"question {n}", ["right", "wrong 1", "wrong 2", "wrong 3"], 0) for n in range(4000)]
    shown = Counter(item.fields["answer"] for item in _load(rows, balance=False).items)
    # Five standard deviations of 4,000 throws.
    assert abs(shown["right"] - 2000) < 160
    assert all(abs(shown[f"wrong {n}"] - 4000 / 6) < 120 for n in (1, 2, 3))


def test_each_answer_of_a_row_is_shown_by_some_seed() -> None:
    row = quiz_row("question", ["right", "wrong 1", "wrong 2", "wrong 3"], 0)
    shown = {}
    for seed in range(60):
        (item,) = _load([row], seed=seed, balance=False).items
        shown[item.fields["answer"]] = item.item_id
    # Another text is another item, and the same text the same.
    assert set(shown) == set(row["options"])
    assert len(set(shown.values())) == 4


def test_the_order_does_not_tell_the_class() -> None:
    rows = [{"text": f"text {number}", "stars": number % 3 + 1} for number in range(600)]
    firsts = Counter(_load(rows, SENTIMENT).gold[::3])
    # Each class begins a third of the 200 rounds, give or take five standard deviations.
    assert all(abs(firsts[gold] - 200 / 3) < 34 for gold in range(3))


def test_two_seeds_draw_apart() -> None:
    rows = [quiz_row(f"question {n}", ["right", "wrong"], 0) for n in range(200)]
    one, other = _load(rows, seed=1), _load(rows, seed=2)
    assert one.rows != other.rows
    golds = [dict(zip(benchmark.rows, benchmark.gold, strict=True)) for benchmark in (one, other)]
    both = golds[0].keys() & golds[1].keys()
    # Independent draws agree on half of the rows.
    assert 0.3 < sum(golds[0][row] == golds[1][row] for row in both) / len(both) < 0.7


def test_rows_that_ask_the_same_are_one_item() -> None:
    rows = [
        quiz_row("q", ["a", "b", "c"], 0),
        # White space at the ends and the order of the answers do not count.
        quiz_row(" q\n", ["c", "b ", "a"], 2),
        quiz_row("Q", ["a", "b", "c"], 0),
    ]
    benchmark = _load(rows, balance=False)
    assert sorted(benchmark.rows) == [0, 2]
    assert benchmark.left_out == {"repeated": 1}


def test_rows_that_contradict_one_another_are_left_out() -> None:
    rows = [quiz_row("q", ["a", "b"], 0), quiz_row("q", ["b", "a"], 0), quiz_row("r", ["a", "b"], 0)]
    benchmark = _load(rows, balance=False)
    assert benchmark.rows == (2,)
    assert benchmark.left_out == {"contradictory": 2}


def test_an_answer_that_is_right_for_one_row_and_wrong_for_another_is_not_asked() -> None:
    rows = [quiz_row("q", ["a", "b"], 0), quiz_row("q", ["a", "c"], 1)]
    seen = set()
    for seed in range(40):
        benchmark = _load([*rows, quiz_row("r", ["a", "b"], 0)], seed=seed, balance=False)
        texts = [tuple(item.fields.items()) for item in benchmark.items]
        assert len(set(texts)) == len(texts)
        seen.add((len(texts), benchmark.left_out.get("contradictory", 0)))
    assert seen == {(1, 2), (3, 0)}


def test_the_right_answer_given_twice_is_never_a_wrong_one() -> None:
    row = quiz_row("q", ["12", "-4", "4", "12"], 3)
    for seed in range(40):
        benchmark = _load([row], seed=seed, balance=False)
        assert benchmark.gold[0] == (benchmark.items[0].fields["answer"] == "12")


def test_what_is_never_shown_is_not_shown() -> None:
    task = {**QUIZ, "answers": {**QUIZ["answers"], "never_shown": ["none"]}}
    rows = [quiz_row(f"q{n}", ["a", "b", "none"], 2 if n % 2 else 0) for n in range(100)]
    benchmark = _load(rows, task, balance=False)
    assert {item.fields["answer"] for item in benchmark.items} == {"a", "b"}
    for item, gold, number in zip(benchmark.items, benchmark.gold, benchmark.rows, strict=True):
        assert gold == (item.fields["answer"] == "a" and number % 2 == 0)


def test_rows_with_an_empty_text_are_left_out() -> None:
    rows = [quiz_row("\x00 ", ["a", "b"], 0), quiz_row("q", ["", "b"], 0), quiz_row("r", ["", "b", "a"], 1)]
    for seed in range(10):
        benchmark = _load(rows, seed=seed, balance=False)
        assert benchmark.rows == (2,)
        assert benchmark.left_out == {"empty": 2}
        assert benchmark.items[0].fields["answer"] in ("a", "b")


def test_training_rows_share_no_context_with_test_rows(tmp_path: Path) -> None:
    write_rows(tmp_path, "train", [quiz_row(q, ["a", "b"], 0) for q in ("one", "two", "Three  b", "four")])
    write_rows(tmp_path, "test", [quiz_row(q, ["c", "d"], 0) for q in ("two", "three b")])
    path = write_task(tmp_path, QUIZ)
    train = load_benchmark(path, data=tmp_path, split="train", balance=False)
    assert sorted(train.rows) == [0, 3]
    assert train.left_out == {"in_test": 2}
    assert sorted(load_benchmark(path, data=tmp_path, split="test", balance=False).rows) == [0, 1]


def test_without_contexts_the_same_text_is_still_kept_apart(tmp_path: Path) -> None:
    write_rows(tmp_path, "train", [{"text": "same", "stars": 1}, {"text": "other", "stars": 2}])
    write_rows(tmp_path, "test", [{"text": "same ", "stars": 3}])
    train = load_benchmark(write_task(tmp_path, SENTIMENT), data=tmp_path, split="train", balance=False)
    assert train.rows == (1,)


def test_ids_of_the_data_are_kept(tmp_path: Path) -> None:
    rows = [{"id": f"r{n}", "text": f"text {n}", "stars": n + 1} for n in range(3)]
    write_rows(tmp_path, "test", rows)
    path = write_task(tmp_path, SENTIMENT, id_column="id")
    benchmark = load_benchmark(path, data=tmp_path, split="test")
    assert {item.item_id: gold for item, gold in zip(benchmark.items, benchmark.gold, strict=True)} == {
        "r0": 0,
        "r1": 1,
        "r2": 2,
    }
    # Numbers that begin anew in each split, and an id that is given twice.
    write_rows(tmp_path, "train", [{"id": "r0", "text": "another", "stars": 1}])
    with pytest.raises(InvalidArgumentError, match="leave id_column out"):
        load_benchmark(path, data=tmp_path, split="train")
    write_rows(tmp_path, "test", [*rows, {"id": "r0", "text": "another", "stars": 1}])
    with pytest.raises(InvalidArgumentError, match="'r0' is the id of two rows"):
        load_benchmark(path, data=tmp_path, split="test")
    write_rows(tmp_path, "test", [{"id": None, "text": "another", "stars": 1}, *rows])
    with pytest.raises(InvalidArgumentError, match="row 1 has an empty id"):
        load_benchmark(path, data=tmp_path, split="test")


@pytest.mark.parametrize(
    ("form", "values"),
    [("index", [2, "2", 2.0]), ("number", [3, "3"]), ("letter", ["C", "c"]), ("key", ["z"]), ("text", [" three"])],
)
def test_the_forms_of_a_right_answer(form: str, values: list[object]) -> None:
    right = {"column": "right", "form": form, **({"keys": "names"} if form == "key" else {})}
    task = {**QUIZ, "answers": {**QUIZ["answers"], "right": right}}
    for value in values:
        row = {"question": "q", "options": ["one", "two", "three"], "names": ["x", "y", "z"], "right": value}
        golds = {
            (item.fields["answer"], gold)
            for seed in range(40)
            for benchmark in [_load([row], task, seed=seed, balance=False)]
            for item, gold in zip(benchmark.items, benchmark.gold, strict=True)
        }
        assert golds == {("one", 0), ("two", 0), ("three", 1)}


@pytest.mark.parametrize(
    ("form", "value"),
    [
        *(("index", value) for value in (3, -1, "", "A", None)),
        *(("number", value) for value in (0, 4)),
        *(("letter", value) for value in ("D", "AB", "", "ß")),
        *(("key", value) for value in ("w", "")),
        ("text", "four"),
    ],
)
def test_a_label_that_is_not_known_is_named(form: str, value: object) -> None:
    right = {"column": "right", "form": form, **({"keys": "names"} if form == "key" else {})}
    task = {**QUIZ, "answers": {**QUIZ["answers"], "right": right}}
    row = {"question": "q", "options": ["one", "two", "three"], "names": ["x", "y", "z"], "right": value}
    with pytest.raises(InvalidArgumentError, match=r"row 1 has .* in 'right'") as caught:
        _load([row], task)
    assert caught.value.field == "data"


def test_what_is_wrong_with_the_rows_is_named() -> None:
    rows = [{"text": f"text {n}", "stars": n % 3 + 1} for n in range(9)]
    cases: tuple[tuple[list[dict[str, Any]], dict[str, Any], str, str], ...] = (
        ([{**row, "stars": 4} for row in rows], {}, "data", "row 1 has 4 in 'stars', which is none of 1, 2, 3"),
        ([{"text": row["text"]} for row in rows], {}, "data", "no column 'stars'"),
        ([{"stars": row["stars"]} for row in rows], {}, "data.fields.text", "no column 'text'"),
        ([row for row in rows if row["stars"] != 1], {}, "data", "no test items are left"),
        (rows, {"n_items": 10}, "n_items", "has 1 to 9 test items"),
        (rows, {"n_items": 0}, "n_items", "has 1 to 9 test items"),
    )
    for wrong, options, field, words in cases:
        with pytest.raises(InvalidArgumentError, match=words) as caught:
            _load(wrong, SENTIMENT, **options)
        assert caught.value.field == field
    with pytest.raises(InvalidArgumentError, match="neither 'train' nor 'test'"):
        load_benchmark("sciq", split="dev")  # type: ignore[arg-type]


def test_a_campaign_reads_the_table(tmp_path: Path) -> None:
    rows = [{"text": f"{{text}} {n}\nline", "stars": n % 3 + 1} for n in range(30)]
    benchmark = _load(rows, SENTIMENT)
    path = tmp_path / "items.parquet"
    benchmark.to_frame().write_parquet(path)
    pool = build_pool(read_file(path), benchmark.task, fields={}, id_column="item_id", gold_column="gold")
    assert pool.items == benchmark.items
    assert tuple(pool.gold[item.item_id] for item in pool.items) == benchmark.gold
