"""The library's tasks on real rows, each item checked against its row by rules written down here a second time."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pytest

from isocost.tasks.library.benchmark import Benchmark, load_benchmark
from isocost.tasks.library.spec import load_spec

_DATA = Path(__file__).parents[5] / "shared" / "data"

Split = Literal["train", "test"]
Row = dict[str, Any]

#: What a row shows but for an answer, by field.
SHOWN: dict[str, Callable[[Row], dict[str, str]]] = {
    "ag_news": lambda row: {"article": f"{row['title']}. {row['description']}"},
    "arc_challenge": lambda row: {"question": row["question"]},
    "arc_easy": lambda row: {"question": row["question"]},
    "boolq": lambda row: {"passage": row["passage"], "question": row["question"]},
    "cola": lambda row: {"sentence": row["sentence"]},
    "cosmos_qa": lambda row: {"context": row["context"], "question": row["question"]},
    "hellaswag": lambda row: {"topic": row["activity_label"], "beginning": row["ctx"]},
    "mmlu": lambda row: {"question": row["question"]},
    "piqa": lambda row: {"goal": row["goal"]},
    "quail": lambda row: {"context": row["context"], "question": row["question"]},
    "sciq": lambda row: {"question": row["question"]},
    "social_i_qa": lambda row: {"context": row["context"], "question": row["question"]},
}
#: The answers of a multiple-choice row, the right one first.
ANSWERS: dict[str, Callable[[Row], list[str]]] = {
    "arc_challenge": lambda row: _right_first(row["choices"]["text"], row["choices"]["label"].index(row["answerKey"])),
    "arc_easy": lambda row: _right_first(row["choices"]["text"], row["choices"]["label"].index(row["answerKey"])),
    "cosmos_qa": lambda row: _right_first([row[f"answer{n}"] for n in range(4)], row["label"]),
    "hellaswag": lambda row: _right_first(row["endings"], row["label"]),
    "mmlu": lambda row: _right_first(row["choices"], row["answer"]),
    "piqa": lambda row: _right_first([row["sol1"], row["sol2"]], row["label"]),
    "quail": lambda row: _right_first(row["answers"], row["correct_answer_id"]),
    "sciq": lambda row: [row["correct_answer"], row["distractor1"], row["distractor2"], row["distractor3"]],
    "social_i_qa": lambda row: _right_first(
        [row["answerA"], row["answerB"], row["answerC"]], {"1": 0, "2": 1, "3": 2}[row["label"]]
    ),
}
#: The right choice of a row of plain classification.
CHOICE: dict[str, Callable[[Row], str]] = {
    "ag_news": lambda row: {1: "World", 2: "Sports", 3: "Business", 4: "Sci/Tech"}[row["label"]],
    "boolq": lambda row: "yes" if row["answer"] else "no",
    "cola": lambda row: "yes" if row["label"] else "no",
}
#: The texts that the two splits must not share.
CONTEXT: dict[str, Callable[[Row], list[str]]] = {
    "ag_news": lambda row: [row["description"]],
    "arc_challenge": lambda row: [row["question"]],
    "arc_easy": lambda row: [row["question"]],
    "boolq": lambda row: [row["passage"]],
    "cola": lambda row: [row["sentence"]],
    "cosmos_qa": lambda row: [row["context"]],
    "hellaswag": lambda row: [row["ctx"]],
    "mmlu": lambda row: [row["question"]],
    "piqa": lambda row: [row["goal"]],
    "quail": lambda row: [row["context"], row["context_id"]],
    "sciq": lambda row: [row["question"], *filter(None, [row["support"]])],
    "social_i_qa": lambda row: [row["context"]],
}
#: Training rows that share their context with a test row, white space and case put aside: 0 where not listed.
IN_TEST = {"arc_challenge": 6, "arc_easy": 8, "boolq": 1439, "cola": 18, "mmlu": 13, "piqa": 579}
#: Items of each split with seed 0.
N_ITEMS = {
    "ag_news": {"train": 5632, "test": 1824},
    "arc_challenge": {"train": 1102, "test": 1170},
    "arc_easy": {"train": 2198, "test": 2296},
    "boolq": {"train": 5988, "test": 2474},
    "cola": {"train": 5026, "test": 642},
    "cosmos_qa": {"train": 1804, "test": 890},
    "hellaswag": {"train": 5966, "test": 3994},
    "mmlu": {"train": 1774, "test": 3922},
    "piqa": {"train": 15470, "test": 1806},
    "quail": {"train": 1552, "test": 540},
    "sciq": {"train": 684, "test": 276},
    "social_i_qa": {"train": 23830, "test": 1900},
}
NAMES = sorted(SHOWN)
#: Means nothing in CosmosQA without the other answers.
NONE_OF_THE_ABOVE = "None of the above choices ."


def _right_first(answers: list[str], right: int) -> list[str]:
    return [answers[right], *answers[:right], *answers[right + 1 :]]


def _printed(text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "", text).strip()


def _folder(name: str) -> Path:
    folder = _DATA / name
    if not folder.is_dir():
        pytest.skip(f"no rows of {name} in {_DATA}")
    return folder


def _raw(name: str, split: Split) -> list[Row]:
    return pl.read_parquet(_folder(name) / f"{split}.parquet").to_dicts()


def _load(name: str, split: Split, **options: Any) -> Benchmark:
    return load_benchmark(name, data=_folder(name), split=split, **options)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("name", NAMES)
def test_every_item_is_what_its_row_says(name: str, split: Split) -> None:
    raw, benchmark = _raw(name, split), _load(name, split)
    spec, task = load_spec(name), benchmark.task
    n_choices = len(task.choices)
    assert len(benchmark.items) == N_ITEMS[name][split]
    # No row is lost: each is an item or counted.
    assert len(benchmark.items) + sum(benchmark.left_out.values()) == len(raw)
    assert len({*benchmark.rows}) == len({item.item_id for item in benchmark.items}) == len(benchmark.items)
    assert Counter(benchmark.gold) == dict.fromkeys(range(n_choices), len(benchmark.items) // n_choices)
    prompts = set()
    for item, gold, number in zip(benchmark.items, benchmark.gold, benchmark.rows, strict=True):
        row, fields = raw[number], dict(item.fields)
        if spec.answers is None:
            assert task.choices[gold] == CHOICE[name](row)
        else:
            shown = fields.pop(spec.answers.field)
            right, *wrong = map(_printed, ANSWERS[name](row))
            assert task.choices == ("no", "yes")
            assert gold == (shown == right)
            assert shown in (right, *wrong)
            assert shown != NONE_OF_THE_ABOVE
        assert fields == {field: _printed(text) for field, text in SHOWN[name](row).items()}
        assert all(text.strip() for text in item.fields.values())
        prompt = task.render(item.fields)
        assert all(text in prompt for text in item.fields.values())
        prompts.add(prompt)
    assert len(prompts) == len(benchmark.items)


@pytest.mark.parametrize("name", NAMES)
def test_training_items_share_nothing_with_test_rows(name: str) -> None:
    raw, tests = _raw(name, "train"), _raw(name, "test")
    train, test = _load(name, "train", balance=False), _load(name, "test", balance=False)
    assert train.left_out.get("in_test", 0) == IN_TEST.get(name, 0)
    contexts = {context for row in tests for context in CONTEXT[name](row)}
    for number in train.rows:
        assert contexts.isdisjoint(CONTEXT[name](raw[number]))
    assert {item.item_id for item in train.items}.isdisjoint(item.item_id for item in test.items)


@pytest.mark.parametrize("name", NAMES)
def test_ids_of_the_data_name_the_rows(name: str) -> None:
    raw, benchmark = _raw(name, "test"), _load(name, "test", n_items=50)
    for item, number in zip(benchmark.items, benchmark.rows, strict=True):
        assert item.item_id.startswith(raw[number]["id"] + "-" if load_spec(name).id_column else "item-")


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_right_and_wrong_answers_are_drawn_evenly(name: str) -> None:
    raw, benchmark = _raw(name, "test"), _load(name, "test", balance=False, seed=3)
    spec = load_spec(name)
    assert spec.answers is not None
    places, expected = Counter[int](), dict.fromkeys(range(1, 5), 0.0)
    n_right, n = 0, 0
    for item, gold, number in zip(benchmark.items, benchmark.gold, benchmark.rows, strict=True):
        answers = [_printed(answer) for answer in ANSWERS[name](raw[number])]
        if len(set(answers)) < len(answers) or answers[0] == NONE_OF_THE_ABOVE:
            continue
        # One that is never shown leaves the others to be drawn more often.
        answers = [answer for answer in answers if answer != NONE_OF_THE_ABOVE]
        n += 1
        n_right += gold
        if not gold:
            places[answers.index(item.fields[spec.answers.field])] += 1
            for place in range(1, len(answers)):
                expected[place] += 1 / (len(answers) - 1)
    # Five standard deviations each.
    assert n > 200
    assert abs(n_right - n / 2) < 2.5 * n**0.5
    for place, count in expected.items():
        assert abs(places[place] - count) <= 5 * (count * (1 - count / (n - n_right))) ** 0.5


def test_the_quirks_of_single_tasks() -> None:
    """Repeats and contradictions that are known of the rows."""
    cola = _load("cola", "test", balance=False)
    sentences = Counter(row["sentence"] for row in _raw("cola", "test"))
    labels: dict[str, set[int]] = {}
    for row in _raw("cola", "test"):
        labels.setdefault(row["sentence"], set()).add(row["label"])
    assert len(cola.items) == sum(len(found) == 1 for found in labels.values())
    assert cola.left_out == {
        "contradictory": sum(sentences[sentence] for sentence, found in labels.items() if len(found) == 2),
        "repeated": sum(sentences[sentence] - 1 for sentence, found in labels.items() if len(found) == 1),
    }
    # Every row without a supporting passage is asked all the same.
    assert len(_load("sciq", "train", balance=False).items) == 700
    # The labels '1' to '4' beside the letters; one such question is in the test split as well.
    digits = {number for number, row in enumerate(_raw("arc_easy", "train")) if row["answerKey"].isdigit()}
    assert len(digits) == 102
    assert len(digits - set(_load("arc_easy", "train", balance=False).rows)) == 1
