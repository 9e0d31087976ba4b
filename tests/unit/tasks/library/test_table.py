"""Where rows come from: a folder, one file, the hub."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from isocost.core.errors import InvalidArgumentError
from isocost.tasks.library.benchmark import load_benchmark
from isocost.tasks.library.spec import load_spec
from isocost.tasks.library.table import read_split
from tests.unit.tasks.library.made_up import QUIZ, SENTIMENT, FakeHub, quiz_row, write_rows, write_task

ROWS = [{"text": f"text {n}", "stars": n % 3 + 1} for n in range(60)]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_the_formats_hold_the_same(tmp_path: Path, suffix: str) -> None:
    frame = pl.DataFrame(ROWS)
    writers: dict[str, Callable[[Path], object]] = {
        "csv": frame.write_csv,
        "jsonl": frame.write_ndjson,
        "parquet": frame.write_parquet,
    }
    for split in ("train", "test"):
        writers[suffix](tmp_path / f"{split}.{suffix}")
    benchmark = load_benchmark(write_task(tmp_path, SENTIMENT), data=tmp_path, split="test")
    assert len(benchmark.items) == 60
    for item, gold, row in zip(benchmark.items, benchmark.gold, benchmark.rows, strict=True):
        assert item.fields == {"text": ROWS[row]["text"]}
        assert gold == row % 3


def test_values_of_a_csv_file_are_what_they_look_like(tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text("q,a,b,right\nWho?,007,1.50,B\nWhen?,,8,b\n", encoding="utf-8")
    answers = {"field": "answer", "columns": ["a", "b"], "right": {"column": "right", "form": "letter"}}
    path = write_task(tmp_path, QUIZ, answers=answers, fields={"question": "{q}"}, contexts=None)
    shown = set()
    for seed in range(20):
        benchmark = load_benchmark(path, data=tmp_path, split="test", seed=seed, balance=False)
        # The second row has one answer alone.
        assert benchmark.left_out == {"no_wrong_answer": 1}
        shown.add((benchmark.items[0].fields["answer"], benchmark.gold[0]))
    assert shown == {("007", 0), ("1.50", 1)}


def test_one_file_is_parted_by_context_whatever_the_seed(tmp_path: Path) -> None:
    rows = [quiz_row(f"question {n // 3}", [f"{n} yes", f"{n} no"], 0) for n in range(600)]
    path, data = write_task(tmp_path, QUIZ), write_rows(tmp_path, "all", rows)
    parts = {
        (split, seed): set(load_benchmark(path, data=data, split=split, seed=seed, balance=False).rows)
        for split in ("train", "test")
        for seed in (0, 1)
    }
    assert parts["train", 0] == parts["train", 1]
    assert parts["test", 0] == parts["test", 1]
    assert parts["train", 0] | parts["test", 0] == set(range(600))
    contexts = {split: {row // 3 for row in parts[split, 0]} for split in ("train", "test")}
    assert not contexts["train"] & contexts["test"]
    # A fifth of 200 contexts, give or take four standard deviations.
    assert 17 <= len(contexts["test"]) <= 63


def test_a_folder_without_test_rows_has_training_rows(tmp_path: Path) -> None:
    write_rows(tmp_path, "train", ROWS)
    assert len(load_benchmark(write_task(tmp_path, SENTIMENT), data=tmp_path, split="train").items) == 60


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = write_task(tmp_path, SENTIMENT)
    for data, words in (
        (tmp_path, "holds no test.parquet"),
        (tmp_path / "absent", "no file or folder"),
        (None, "names no hub dataset"),
    ):
        with pytest.raises(InvalidArgumentError, match=words) as caught:
            load_benchmark(path, data=data, split="test")
        assert caught.value.field == "data"
    write_rows(tmp_path, "test", ROWS)
    pl.DataFrame(ROWS).write_csv(tmp_path / "test.csv")
    with pytest.raises(InvalidArgumentError, match=r"test\.csv and test\.parquet; keep one"):
        load_benchmark(path, data=tmp_path, split="test")


def test_the_parts_of_a_struct_are_columns(tmp_path: Path) -> None:
    write_rows(tmp_path, "test", [{"choices": {"text": ["a", "b"], "label": ["A", "B"]}, "n": 1}])
    frame = read_split(load_spec("arc_easy"), tmp_path, "test")
    assert frame.columns == ["choices", "n", "choices.text", "choices.label"]
    assert frame["choices.text"].to_list() == [["a", "b"]]


# --- the hub


def _both(train: list[dict[str, Any]], test: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    return {"train": train, "dev+validation": train, "validation": test, "test": test}


def _struct_row(n: int, question: str) -> dict[str, Any]:
    options = {"text": ["blue", "green", f"red {n}"], "label": ["A", "B", "C"]}
    return {"id": f"id-{n}", question: f"Which colour, {n}?", "choices": options, "answerKey": "ABC"[n % 3]}


def _answers_row(n: int, context: dict[str, Any], names: list[str], label: dict[str, Any]) -> dict[str, Any]:
    return {**context, **{name: f"{name} of {n}" for name in names}, **label}


HUB_ROWS: dict[str, Callable[[int], dict[str, Any]]] = {
    "ag_news": lambda n: {"text": f"News {n} - and more.", "label": n % 4},
    "arc_challenge": lambda n: _struct_row(n, "question"),
    "arc_easy": lambda n: _struct_row(n, "question"),
    "boolq": lambda n: {"question": f"is it {n}", "answer": n % 2 == 1, "passage": f"It is {n}."},
    "cola": lambda n: {"sentence": f"Sentence {n}.", "label": n % 2, "idx": n},
    "cosmos_qa": lambda n: _answers_row(
        n,
        {"id": f"id-{n}", "context": f"Story {n}", "question": "Why?"},
        [f"answer{k}" for k in range(4)],
        {"label": n % 4},
    ),
    "hellaswag": lambda n: {
        "ind": n,
        "activity_label": "Skiing",
        "ctx": f"Scene {n}",
        "endings": [f"end {k} of {n}" for k in range(4)],
        "label": str(n % 4),
    },
    "mmlu": lambda n: {
        "question": f"Sum of {n}?",
        "subject": "algebra",
        "choices": [f"{n}{k}" for k in range(4)],
        "answer": n % 4,
    },
    "openbookqa": lambda n: _struct_row(n, "question_stem"),
    # The same ids in every split, as on the hub.
    "paws": lambda n: {"id": n % 100, "sentence1": f"From {n} to 1", "sentence2": f"To 1 from {n}", "label": n % 2},
    "piqa": lambda n: {"goal": f"Do {n}", "sol1": f"first {n}", "sol2": f"second {n}", "label": n % 2},
    "quail": lambda n: {
        "id": f"id-{n}",
        "context": f"Passage {n}",
        "question": "Who?",
        "answers": [f"{k} of {n}" for k in range(4)],
        "correct_answer_id": n % 4,
    },
    "sciq": lambda n: _answers_row(
        n,
        {"question": f"What is {n}?", "support": ""},
        ["distractor3", "distractor1", "distractor2", "correct_answer"],
        {},
    ),
    "social_i_qa": lambda n: _answers_row(
        n, {"context": f"Scene {n}", "question": "Why?"}, ["answerA", "answerB", "answerC"], {"label": str(n % 3 + 1)}
    ),
}
#: The right answer, or choice, of a made-up row.
HUB_RIGHT: dict[str, Callable[[dict[str, Any]], str]] = {
    "ag_news": lambda row: ["World", "Sports", "Business", "Sci/Tech"][row["label"]],
    "arc_challenge": lambda row: row["choices"]["text"]["ABC".index(row["answerKey"])],
    "arc_easy": lambda row: row["choices"]["text"]["ABC".index(row["answerKey"])],
    "boolq": lambda row: "yes" if row["answer"] else "no",
    "cola": lambda row: ["no", "yes"][row["label"]],
    "cosmos_qa": lambda row: row[f"answer{row['label']}"],
    "hellaswag": lambda row: row["endings"][int(row["label"])],
    "mmlu": lambda row: row["choices"][row["answer"]],
    "openbookqa": lambda row: row["choices"]["text"]["ABC".index(row["answerKey"])],
    "paws": lambda row: ["no", "yes"][row["label"]],
    "piqa": lambda row: [row["sol1"], row["sol2"]][row["label"]],
    "quail": lambda row: row["answers"][row["correct_answer_id"]],
    "sciq": lambda row: row["correct_answer"],
    "social_i_qa": lambda row: row["answer" + "ABC"[int(row["label"]) - 1]],
}


@pytest.mark.parametrize("name", sorted(HUB_ROWS))
def test_rows_in_the_hubs_form_are_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = [HUB_ROWS[name](n) for n in range(100, 160)], [HUB_ROWS[name](n) for n in range(200, 260)]
    # One training row shares its context with a test row.
    train.append(test[0])
    hub = FakeHub(_both(train, test))
    hub.install(monkeypatch)
    spec = load_spec(name)
    assert spec.hub is not None
    for split, rows in (("train", train), ("test", test)):
        benchmark = load_benchmark(name, split=split, balance=False)  # type: ignore[arg-type]
        assert len(benchmark.items) == 60
        assert benchmark.left_out == ({"in_test": 1} if split == "train" else {})
        for item, gold, number in zip(benchmark.items, benchmark.gold, benchmark.rows, strict=True):
            right = HUB_RIGHT[name](rows[number])
            if spec.answers is None:
                assert benchmark.task.choices[gold] == right
            else:
                assert gold == (item.fields[spec.answers.field] == right)
    expected = {
        (spec.hub.name, spec.hub.config, spec.hub.train, spec.hub.revision),
        (spec.hub.name, spec.hub.config, spec.hub.test, spec.hub.revision),
    }
    assert set(hub.calls) == expected


@pytest.mark.parametrize("name", ["sciq", "quail"])
def test_the_missing_package_and_what_the_hub_says_are_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeHub({}).install(monkeypatch)
    with pytest.raises(InvalidArgumentError, match="cannot be read from the hub: Unknown split") as caught:
        load_benchmark(name, split="test")
    assert caught.value.field == "data"
    assert "\n" not in caught.value.message
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InvalidArgumentError, match=r"install isocost\[hub\]") as caught:
        load_benchmark(name, split="test")
    assert caught.value.field == "data"
