"""Task files: what is read, and what is refused with which words."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from isocost.core.errors import InvalidArgumentError
from isocost.tasks.library.spec import library_names, load_spec, value_text
from tests.unit.tasks.library.made_up import QUIZ, SENTIMENT, write_task


def test_the_library_has_the_benchmarks() -> None:
    assert set(library_names()) == {
        *("ag_news", "arc_challenge", "arc_easy", "boolq", "cola", "cosmos_qa", "hellaswag"),
        *("mmlu", "openbookqa", "paws", "piqa", "quail", "sciq", "social_i_qa"),
    }


@pytest.mark.parametrize("name", library_names())
def test_every_task_of_the_library_is_whole(name: str) -> None:
    spec = load_spec(name)
    assert spec.name == name
    assert spec.description
    assert spec.licence
    assert spec.contexts
    assert spec.hub is not None
    # The choices' beginnings tell them apart, and the answer follows after a space.
    assert len({choice[:2] for choice in spec.task.choices}) == len(spec.task.choices)
    assert spec.template.endswith(":")


def test_importing_the_library_loads_nothing_heavy() -> None:
    code = (
        "import sys, isocost.tasks.library.benchmark\n"
        "print([name for name in ('torch', 'datasets', 'transformers', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_task_of_ones_own_is_a_short_file(tmp_path: Path) -> None:
    spec = load_spec(write_task(tmp_path, SENTIMENT))
    assert spec.task.choices == ("bad", "fair", "good")
    # YAML's whole numbers as keys are the text of a label.
    assert spec.label[0].values == {"1": "bad", "2": "fair", "3": "good"}


def test_the_examples_of_the_documentation_are_whole(tmp_path: Path) -> None:
    text = (Path(__file__).parents[4] / "docs" / "tasks.md").read_text(encoding="utf-8")
    examples = re.findall(r"```yaml\n(name:.*?)```", text, re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        path = tmp_path / "task.yaml"
        path.write_text(example, encoding="utf-8")
        assert load_spec(path).name in ("geography", "reviews")
    for name in library_names():
        assert f"`{name}`" in text


@pytest.mark.parametrize(
    ("value", "text"), [(None, ""), (1, "1"), (1.0, "1"), (" 2 ", "2"), (True, "true"), ("False", "false"), ("A", "A")]
)
def test_labels_of_all_types_are_compared_as_text(value: object, text: str) -> None:
    assert value_text(value) == text


@pytest.mark.parametrize(
    ("task", "changes", "field", "words"),
    [
        (QUIZ, {"template": None}, "template", "missing"),
        (QUIZ, {"templat": "x"}, "templat", "did you mean 'template'"),
        (QUIZ, {"choices": [False, True]}, "choices.0", "quotes"),
        (QUIZ, {"choices": ["a", "b", "c"]}, "task", "needs two 'choices'"),
        (QUIZ, {"answers": None}, "task", "exactly one of 'label'"),
        (QUIZ, {"label": SENTIMENT["label"]}, "task", "exactly one of 'label'"),
        (QUIZ, {"fields": {"answer": "{options}"}}, "task", "must show it, and 'fields' not make it"),
        (QUIZ, {"fields": {"quest": "{question}"}}, "task", "the template does not show"),
        (QUIZ, {"fields": {"question": "{question!r}"}}, "fields.question.0", "plain columns"),
        (QUIZ, {"fields": {"question": "{"}}, "fields.question.0", "literal braces"),
        (QUIZ, {"answers": {**QUIZ["answers"], "columns": []}}, "answers.columns", "at least 1"),
        (
            QUIZ,
            {"answers": {**QUIZ["answers"], "right": {"column": "right", "form": "key"}}},
            "answers.right",
            "'keys'",
        ),
        (
            QUIZ,
            {"answers": {**QUIZ["answers"], "right": {"column": "right", "form": "place"}}},
            "answers.right.form",
            "'index'",
        ),
        (SENTIMENT, {"choices": ["bad", "fair", "good", "fine"]}, "task", "each choice needs a value"),
        (SENTIMENT, {"choices": ["bad", "good"]}, "task", "each choice needs a value"),
        (SENTIMENT, {"template": "{gold}"}, "task", "has this name"),
        (SENTIMENT, {"template": "no field"}, "task.template", "shows no field"),
        (SENTIMENT, {"name": "two words"}, "task.name", "not an id"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, task: Any, changes: Any, field: str, words: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        load_spec(write_task(tmp_path, task, **changes))
    assert field in caught.value.field
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("content", "words"), [("- a\n", "holds no task"), ("a: [", "is not YAML"), (None, "cannot be read")]
)
def test_what_is_no_task_file_is_refused(tmp_path: Path, content: str | None, words: str) -> None:
    path = tmp_path / "task.yaml"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(InvalidArgumentError, match=words) as caught:
        load_spec(path)
    assert caught.value.field == "task"


def test_a_near_name_is_suggested() -> None:
    with pytest.raises(InvalidArgumentError, match="did you mean 'hellaswag'"):
        load_spec("helaswag")
    with pytest.raises(InvalidArgumentError, match="it has ag_news, "):
        load_spec("zzz")
