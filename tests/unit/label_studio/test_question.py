"""What Label Studio is made to show, and how its answers are read."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from isocost.core.errors import InvalidArgumentError
from isocost.label_studio.project import check_title, default_title
from isocost.label_studio.question import Question
from isocost.resources.task import Item, Task


def shown(task: Task) -> list[tuple[str, str]]:
    """Tags and values of the interface, in their order."""
    view = ElementTree.fromstring(Question(task).label_config)
    return [(each.tag, each.get("value", "")) for each in view.iter() if each.tag in ("Header", "Text", "Choice")]


def test_the_interface_follows_the_template() -> None:
    task = Task("t", 'By "{author}":\n\n{text}\nIs it {{good}} & <fair>?\nAgain: {text}', (" no", " yes"))
    assert shown(task) == [
        ("Header", 'By "'),
        ("Text", "$author"),
        ("Header", '":'),
        ("Text", "$text"),
        ("Header", "Is it {good} & <fair>?"),
        ("Header", "Again:"),
        ("Text", "$text"),
        ("Choice", "no"),
        ("Choice", "yes"),
    ]
    names = [each.get("name") for each in ElementTree.fromstring(Question(task).label_config).iter("Text")]
    assert names == ["shown_1", "shown_2", "shown_3"]


def test_what_label_studio_would_take_for_a_variable_is_none() -> None:
    assert shown(Task("t", "$5 or $ 5? {text}", ("$5", "5 $"))) == [
        ("Header", "\u2060$\u20605 or $ 5?"),
        ("Text", "$text"),
        ("Choice", "\u2060$\u20605"),
        ("Choice", "5 $"),
    ]


def test_every_choice_has_a_name_of_its_own() -> None:
    question = Question(Task("t", "{text}", ("no", " no", "\x01", "new\nline")))
    assert question.choices == ("no", "no (2)", "(3)", "new line")
    ElementTree.fromstring(question.label_config)


def test_the_first_ten_choices_have_a_key() -> None:
    view = ElementTree.fromstring(Question(Task("t", "{text}", tuple("abcdefghijkl"))).label_config)
    assert [each.get("hotkey") for each in view.iter("Choice")] == [*"1234567890", None, None]


def test_only_fields_that_the_template_shows_are_told() -> None:
    question = Question(Task("t", "{text}", ("a", "b")))
    assert question.fields(Item("i", {"text": "x", "secret": "y"})) == {"text": "x"}


@pytest.mark.parametrize(
    ("result", "choice"),
    [
        ([{"from_name": "label", "value": {"choices": ["yes"]}}], 1),
        (
            [
                {"from_name": "remark", "value": {"text": ["well"]}},
                {"from_name": "label", "value": {"choices": ["no"]}},
            ],
            0,
        ),
        ([{"from_name": "label", "value": {"choices": ["yes", "no"]}}], None),
        ([{"from_name": "label", "value": {"choices": ["perhaps"]}}], None),
        ([], None),
        (None, None),
    ],
)
def test_an_answer_is_one_of_the_choices(result: object, choice: int | None) -> None:
    assert Question(Task("t", "{text}", (" no", " yes"))).choice(result) == choice


def test_a_project_fits_that_offers_the_choices() -> None:
    question = Question(Task("t", "{text}", (" no", " yes")))
    assert question.fits({"label": {"type": "Choices", "labels": ["yes", "no"]}, "remark": {"type": "TextArea"}})
    assert not question.fits({"label": {"type": "Choices", "labels": ["yes"]}})
    assert not question.fits({"label": {"type": "Rating", "labels": []}})
    assert not question.fits({})


def test_titles_are_such_as_label_studio_takes() -> None:
    assert default_title("reviews", "human") == "reviews / human"
    long = default_title("c" * 100, "human")
    assert check_title(long) == long
    assert long != default_title("c" * 100, "other")
    with pytest.raises(InvalidArgumentError, match="3 to 50"):
        check_title("ab")
