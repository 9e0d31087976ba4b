from __future__ import annotations

from pathlib import Path

import pytest

from isocost.core.errors import InvalidArgumentError
from isocost.sweep.config_file import load_config
from tests.unit.sweep.specs import load

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"

_HEAD = """\
sweep: small
weak_prices: [0.1]
budgets: [16]
seeds: [1]
tasks: [microworld]
weak_labellers:
  - {name: weak, model: "microworld:weak"}
strong_models: ["microworld:strong"]
"""


def _refused(folder: Path, text: str) -> InvalidArgumentError:
    path = folder / "spec.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidArgumentError) as caught:
        load_config(path)
    return caught.value


@pytest.mark.parametrize(
    ("methods", "field", "says"),
    [
        ("- {method: sequential_sft, few_shot_count: [2]}", "methods.0.few_shot_count", "'few_shot_counts'"),
        ("- weak_sft\n  - sequentail_sft", "methods.1.method", "did you mean 'sequential_sft'"),
        ("- weak_sft\n  - weak_sft", "methods.1.name", "two methods are called 'weak_sft'"),
        ("- {method: weak_sft, recipe: {learning_rat: 1}}", "methods.0.recipe", "learning_rat: unknown"),
        ("- {method: weak_sft, recipe: {learning_rate: 7}}", "methods.0.recipe", "at most 1"),
        ("- {method: weak_sft, few_shot_counts: []}", "methods.0.few_shot_counts", "at least 1"),
        ("- {method: weak_sft, few_shot_counts: [2, 2]}", "methods.0", "2 is given twice"),
        ("- {method: weak_sft, head: language_model, tuning: head_only}", "methods.0.head", "classification head"),
        ("- {method: weak_sft, tuning: full, quantization: nf4}", "methods.0.quantization", "LORA"),
        (
            "- {method: sequential_sft_uncertainty, few_shot_counts: [2]}",
            "methods.0.few_shot_kinds",
            "chooses its human labels",
        ),
    ],
)
def test_names_the_key_of_a_wrong_method(tmp_path: Path, methods: str, field: str, says: str) -> None:
    error = _refused(tmp_path, f"{_HEAD}methods:\n  {methods}\n")
    assert error.field == field
    assert says in error.message


@pytest.mark.parametrize(
    ("line", "changed", "field", "says"),
    [
        (2, "weak_prices: [-0.1]", "weak_prices.0", "greater than 0"),
        (3, "budgts: [16]", "budgts", "did you mean 'budgets'?"),
        (3, "budgets: [16, 16]", "budgets", "16 is given twice"),
        (5, "tasks: [microworld, microworld]", "tasks", "two are 'microworld'"),
        (7, "  - {name: weak}", "weak_labellers.0", "exactly one of 'model' and 'column'"),
        (7, "  - {name: w, column: c, few_shot_count: 2}", "weak_labellers.0", "leave fine_tune, few_shot_count"),
        (8, "strong_models: [{model: m, methods: [joint_sft]}]", "strong_models", "is to try 'joint_sft'"),
    ],
)
def test_names_the_line_of_a_wrong_key(tmp_path: Path, line: int, changed: str, field: str, says: str) -> None:
    lines = f"{_HEAD}methods: [weak_sft]\n".splitlines()
    lines[line - 1] = changed
    error = _refused(tmp_path, "\n".join(lines))
    assert error.field == field
    assert says in error.message
    assert f"(line {line})" in error.message


def test_says_what_is_missing(tmp_path: Path) -> None:
    error = _refused(tmp_path, _HEAD)
    assert (error.field, error.message.split(";")[0]) == ("methods", "missing")


@pytest.mark.parametrize(("text", "says"), [("[1, 2]", "holds no sweep"), ("a: [", "is not YAML"), ("", "no sweep")])
def test_refuses_what_is_no_spec(tmp_path: Path, text: str, says: str) -> None:
    assert says in _refused(tmp_path, text).message


def test_says_that_there_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="cannot be read"):
        load_config(tmp_path / "none.yaml")


def test_paths_are_relative_to_the_spec(tmp_path: Path) -> None:
    tasks = ["hellaswag", {"benchmark": "mine.yaml", "data": "rows.csv"}]
    loaded = load(tmp_path, data="data", tasks=tasks)
    assert loaded.data == str(tmp_path / "data")
    assert [task.benchmark for task in loaded.tasks] == ["hellaswag", str(tmp_path / "mine.yaml")]
    assert [task.data for task in loaded.tasks] == [None, str(tmp_path / "rows.csv")]


@pytest.mark.parametrize("name", ["microworld_sweep.yaml", "paper_sweep.yaml"])
def test_examples_are_right(name: str) -> None:
    assert load_config(EXAMPLES / name).methods
