"""The project in Label Studio: found by its title, or made."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from isocost.core.errors import FailedPreconditionError, InvalidArgumentError
from isocost.core.ids import content_digest
from isocost.label_studio.question import Question
from isocost.label_studio.server import LabelStudioServer

__all__ = ["TITLE_FIELD", "Project", "check_title", "default_title", "open_project"]

TITLE_FIELD = "label_studio_project"
#: Label Studio's own limits.
_TITLE_MIN, _TITLE_MAX = 3, 50
_FIELDS = "id,title,parsed_label_config"
_PAGE_SIZE = 100


@dataclass(frozen=True, slots=True)
class Project:
    """A project.

    Attributes:
        project_id: Label Studio's number of it.
        is_new: Whether it was made just now.
    """

    project_id: int
    is_new: bool


def default_title(campaign_id: str, source_id: str) -> str:
    """The title of a source's project; two sources have two titles, however long their ids are."""
    title = f"{campaign_id} / {source_id}"
    return title if len(title) <= _TITLE_MAX else f"{title[: _TITLE_MAX - 9]}-{content_digest(title)[:8]}"


def check_title(title: str) -> str:
    """Returns a title that Label Studio takes.

    Raises:
        InvalidArgumentError: where it does not.
    """
    if not _TITLE_MIN <= len(title) <= _TITLE_MAX:
        raise InvalidArgumentError(TITLE_FIELD, f"{title!r}; give a title of {_TITLE_MIN} to {_TITLE_MAX} characters")
    return title


async def open_project(server: LabelStudioServer, title: str, question: Question) -> Project:
    """The oldest project of that title, or a new one.

    Raises:
        FailedPreconditionError: where the project asks something else.
    """
    found = [project async for project in _titled(server, title)]
    if found:
        project = min(found, key=lambda each: int(each["id"]))
        if not question.fits(project["parsed_label_config"]):
            raise FailedPreconditionError(
                f"the project {title!r} in Label Studio does not ask for the campaign's choices "
                f"({', '.join(question.choices)}) in a control named 'label'; give another title, or correct its "
                f"labelling interface: {question.label_config}",
                field=TITLE_FIELD,
            )
        return Project(int(project["id"]), is_new=False)
    made = await server.post(
        "/api/projects/",
        {
            "title": title,
            "description": "Tasks come from isocost and go back to it as labels; each is paid once.",
            "label_config": question.label_config,
            "enable_empty_annotation": False,
            "sampling": "Sequential sampling",
        },
    )
    return Project(int(made["id"]), is_new=True)


async def _titled(server: LabelStudioServer, title: str) -> AsyncIterator[dict[str, Any]]:
    """The projects of exactly that title."""
    page = 1
    while True:
        answer = await server.get(
            "/api/projects/",
            {"title": title, "include": _FIELDS, "page": str(page), "page_size": str(_PAGE_SIZE)},
        )
        for project in answer["results"]:
            if project["title"] == title:
                yield project
        if not answer.get("next"):
            return
        page += 1
