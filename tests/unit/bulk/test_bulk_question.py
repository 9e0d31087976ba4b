"""What is asked: task files, campaign files, cards of finished runs, prices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from isocost.bulk.price import Purse, form_price
from isocost.bulk.question import form_question, load_examples, load_task
from isocost.bulk.rows import ITEM_BYTES_MAX, RowFile, chunked
from isocost.core.errors import InvalidArgumentError
from isocost.core.money import Money
from isocost.tasks.prompt import FewShotExample

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"
TASK = 'name: claims\ntemplate: "Is {text} true?"\nchoices: ["no", "yes"]\n'


@pytest.fixture
def task_path(tmp_path: Path) -> Path:
    path = tmp_path / "task.yaml"
    path.write_text(TASK)
    return path


def write_card(folder: Path, **changed: Any) -> Path:
    folder.mkdir()
    card = {
        "task": {"name": "claims", "template": "Is {text} true?", "choices": ["no", "yes"]},
        "head": "LANGUAGE_MODEL",
        "few_shot_examples": [{"fields": {"text": "a"}, "choice": 1}],
        **changed,
    }
    (folder / "isocost.json").write_text(json.dumps(card))
    return folder


def test_a_task_file_has_three_parts(task_path: Path) -> None:
    file = load_task(task_path)
    assert (file.task.template, file.task.choices) == ("Is {text} true?", ("no", "yes"))
    assert (file.fields, file.id_column, file.currency) == ({}, None, "USD")


def test_a_campaign_file_tells_the_columns_too() -> None:
    file = load_task(EXAMPLES / "ag_news.yaml")
    assert file.task.fields == ("article",)
    assert "{text}" in file.fields["article"][0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", "--task: .* holds no task; write name, template and choices"),
        (TASK.replace("choices", "choises"), "task.choises: unknown field in .*; did you mean 'choices'?"),
        (TASK.replace("name: claims\n", ""), "task.name: missing"),
        (
            TASK.replace('["no", "yes"]', "[no, yes]"),
            r'task.choices: \[False, True\] is not a list of texts; write \["no',
        ),
        (TASK.replace('"Is {text} true?"', "7"), "task.template: 7 is not a text; quote it"),
        (TASK.replace("{text}", "this"), "task.template: shows no field"),
        ("a: [", "--task: .* is not YAML"),
        ("task: {}\n", "missing; every campaign file needs it"),
    ],
)
def test_a_wrong_task_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "task.yaml").write_text(text)
    with pytest.raises(InvalidArgumentError, match=message):
        load_task(tmp_path / "task.yaml")


def test_examples_keep_their_order(tmp_path: Path, task_path: Path) -> None:
    (tmp_path / "block.csv").write_text("text,label\nb,yes\na,no\nc,yes\n")
    examples = load_examples(tmp_path / "block.csv", load_task(task_path))
    assert examples == tuple(FewShotExample({"text": text}, choice) for text, choice in (("b", 1), ("a", 0), ("c", 1)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("text\na\n", "--examples: the dataset has no column 'label'"),
        ("text,label\na,maybe\n", "--examples: row 1 has 'maybe' in 'label', which is none of 'no', 'yes'"),
        ("text,label\na,1\nb,2\n", "--examples: row 1 has '1'"),
        ("text,label\na,no\na,yes\n", "--examples: .* two rows with the same text; keep one of them"),
        ("word,label\na,no\n", "--examples: the dataset has no column 'text'"),
    ],
)
def test_wrong_examples_are_refused(tmp_path: Path, task_path: Path, text: str, message: str) -> None:
    (tmp_path / "block.csv").write_text(text)
    with pytest.raises(InvalidArgumentError, match=message):
        load_examples(tmp_path / "block.csv", load_task(task_path))


def test_a_finished_run_brings_its_question(tmp_path: Path, task_path: Path) -> None:
    folder = write_card(tmp_path / "adapter")
    question, _ = form_question(str(folder), None, None, None)
    assert (question.model, question.runner) == (str(folder.resolve()), "generate")
    assert question.few_shot_examples == (FewShotExample({"text": "a"}, 1),)
    assert form_question(str(folder), load_task(task_path), "generate", None)[0] == question
    classifier = write_card(tmp_path / "classifier", head="CLASSIFICATION", few_shot_examples=[])
    assert form_question(str(classifier), None, None, None)[0].runner == "classify"


def test_what_contradicts_the_run_is_refused(tmp_path: Path, task_path: Path) -> None:
    folder = str(write_card(tmp_path / "adapter"))
    task_path.write_text(TASK.replace("true", "false"))
    with pytest.raises(InvalidArgumentError, match=r"--task: asks something else than .* was trained for"):
        form_question(folder, load_task(task_path), None, None)
    with pytest.raises(InvalidArgumentError, match=r"--runner: classify, but .* was trained for generate"):
        form_question(folder, None, "classify", None)
    with pytest.raises(InvalidArgumentError, match=r"--examples: .* brings its own few-shot block"):
        form_question(folder, None, None, tmp_path / "block.csv")
    with pytest.raises(InvalidArgumentError, match=r"--model: .* is not the card of a finished run"):
        form_question(str(write_card(tmp_path / "odd", head="TAIL")), None, None, None)


def test_any_other_model_needs_a_task(task_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"--task: not given, and 'org/model' has no isocost\.json"):
        form_question("org/model", None, None, None)
    question, _ = form_question("org/model", load_task(task_path), None, None)
    assert (question.model, question.runner, question.few_shot_examples) == ("org/model", "generate", ())


def test_prices_are_one_or_none() -> None:
    assert form_price(None, None, "USD") is None
    fixed, metered = form_price("0.10", None, "EUR"), form_price(None, "0.10", "USD")
    assert fixed is not None
    assert metered is not None
    assert fixed.label_price(500) == Money(100_000, "EUR")
    assert metered.label_price(15).micros == 2, "1.5 micros, rounded up"
    for fixed_price, metered_price, message in (
        ("1", "2", "--unit-price: given with --price-per-million-tokens"),
        ("-1", None, "--unit-price: .* must be greater than zero"),
        (None, "much", "--price-per-million-tokens: 'much' is not an amount"),
    ):
        with pytest.raises(InvalidArgumentError, match=message):
            form_price(fixed_price, metered_price, "USD")


def test_a_fixed_budget_is_refused_before_anything_is_asked() -> None:
    price, budget = form_price("0.10", None, "USD"), Money.parse("1")
    Purse(price, budget, 0).check(10)
    with pytest.raises(InvalidArgumentError, match=r"--budget: \$1.00 does not pay for 11 labels at \$0.10.*\$1.10"):
        Purse(price, budget, 0).check(11)
    with pytest.raises(InvalidArgumentError, match=r"--budget: given without a price"):
        Purse(None, budget, 0).check(1)


def test_rows_are_chunks_of_bounded_size(tmp_path: Path, task_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    texts = ["short"] * 1_200 + ["x" * (3 << 20)] * 3 + ["y" * (ITEM_BYTES_MAX + 1)]
    path.write_text("".join(json.dumps({"text": text, "key": "same"}) + "\n" for text in texts) + "broken\n")
    rows = RowFile(path, load_task(task_path), "key")
    chunks = list(chunked(rows.rows()))
    assert [row.number for chunk in chunks for row in chunk] == list(range(1_205))
    assert [len(chunk) for chunk in chunks] == [500, 500, 202, 3]
    *_, huge, broken = chunks[-1]
    assert (huge.item, huge.row_id) == (None, "same")
    assert "more than 8,388,608; shorten its text" in huge.error
    assert (broken.item, broken.row_id) == (None, "")
    assert all(row.item and row.item.item_id == str(row.number) for row in chunks[0])
    assert [row.number for row in rows.rows(start=1_199, stop=1_201)] == [1_199, 1_200]


def test_columns_that_are_not_there_are_named(tmp_path: Path, task_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("words\na\n")
    with pytest.raises(InvalidArgumentError, match=r"--input: .*no column 'text'; it has 'words'; rename the column"):
        RowFile(path, load_task(task_path), None)
    path.write_text("text\n")
    with pytest.raises(InvalidArgumentError, match=r"--input: .* has no rows"):
        RowFile(path, load_task(task_path), None).count()
    with pytest.raises(InvalidArgumentError, match=r"--id-column: .*no column 'id'; it has 'text'"):
        RowFile(path, load_task(task_path), "id")
