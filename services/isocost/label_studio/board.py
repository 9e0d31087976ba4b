"""The tasks of one source in a project of Label Studio."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from isocost.core.errors import NotFoundError
from isocost.label_studio.question import Question
from isocost.label_studio.server import LabelStudioServer
from isocost.resources.task import Item

__all__ = ["Annotation", "Board", "BoardTask"]

_PAGE_SIZE = 100
#: Fields of tasks and of their annotations.
_FIELDS = "id,meta,overlap,is_labeled,updated_at,annotations,completed_by,was_cancelled,result"
#: So that what has changed comes first.
_NEWEST_FIRST = json.dumps({"ordering": ["-tasks:updated_at"]})


@dataclass(frozen=True, slots=True)
class Annotation:
    """What somebody answered.

    Attributes:
        annotation_id: Label Studio's number of it.
        user_id: Who; None where Label Studio does not know any more.
        choice: Index of the choice; None where it answers nothing of ours.
        is_skip: Whether the task was skipped.
        updated_at: When it last changed, as Label Studio writes it.
    """

    annotation_id: int
    user_id: int | None
    choice: int | None
    is_skip: bool
    updated_at: str


@dataclass(frozen=True, slots=True)
class BoardTask:
    """A task that was made of an item.

    Attributes:
        task_id: Label Studio's number of it.
        item_id: The item.
        lease_ids: The leases under which its answers were asked for, oldest first.
        overlap: How many people are to answer it.
        is_labeled: Whether Label Studio counts it as done.
        annotations: Answers and skips, oldest first.
    """

    task_id: int
    item_id: str
    lease_ids: tuple[str, ...]
    overlap: int
    is_labeled: bool
    annotations: tuple[Annotation, ...]

    @property
    def n_annotators(self) -> int:
        """People who answered it."""
        return len({answer.user_id for answer in self.annotations if not answer.is_skip})


class Board:
    """The tasks that this source has in a project. Other tasks of the project are left alone.

    Args:
        server: Label Studio.
        project_id: The project.
        campaign_id, source_id: Whose tasks.
        question: How items are shown.
    """

    def __init__(
        self, server: LabelStudioServer, project_id: int, campaign_id: str, source_id: str, question: Question
    ) -> None:
        self._server = server
        self._project_id = project_id
        self._campaign_id = campaign_id
        self._source_id = source_id
        self._question = question
        #: All tasks of the project, as they were last read: when each had changed.
        self._versions: dict[int, str] = {}
        #: The source's tasks by their numbers.
        self.tasks: dict[int, BoardTask] = {}

    async def refresh(self) -> None:
        """Reads what has changed since the last time."""
        if await self._read(whole=not self._versions) != len(self._versions):
            # Somebody deleted tasks.
            self._versions.clear()
            self.tasks.clear()
            await self._read(whole=True)

    async def _read(self, *, whole: bool) -> int:
        """Reads the tasks, or those before the first page whose end is known; returns how many the project has."""
        page = 1
        while True:
            rows, n_tasks = await self._page(page)
            last_is_known = bool(rows) and self._versions.get(int(rows[-1]["id"])) == rows[-1]["updated_at"]
            for row in rows:
                self._take(row)
            if page * _PAGE_SIZE >= n_tasks or not rows or (last_is_known and not whole):
                return n_tasks
            page += 1

    async def _page(self, page: int) -> tuple[list[dict[str, Any]], int]:
        try:
            answer = await self._server.get(
                "/api/tasks/",
                {
                    "project": str(self._project_id),
                    "page": str(page),
                    "page_size": str(_PAGE_SIZE),
                    "fields": "all",
                    "include": _FIELDS,
                    "query": _NEWEST_FIRST,
                },
            )
        except NotFoundError as error:
            if page > 1:
                # Tasks were deleted meanwhile, and the page with them.
                return [], len(self._versions)
            raise NotFoundError(
                f"Label Studio has no project {self._project_id} any more; start again to make it anew",
                field=error.field,
            ) from None
        return answer["tasks"], int(answer["total"])

    def _take(self, row: dict[str, Any]) -> None:
        task_id, meta = int(row["id"]), row.get("meta") or {}
        self._versions[task_id] = row["updated_at"]
        if (meta.get("campaign_id"), meta.get("source_id")) != (self._campaign_id, self._source_id):
            return
        annotations = [
            Annotation(
                annotation_id=int(each["id"]),
                user_id=each.get("completed_by"),
                choice=self._question.choice(each.get("result")),
                is_skip=bool(each.get("was_cancelled")),
                updated_at=str(each.get("updated_at", "")),
            )
            for each in row.get("annotations") or ()
        ]
        self.tasks[task_id] = BoardTask(
            task_id=task_id,
            item_id=str(meta.get("item_id", "")),
            lease_ids=tuple(map(str, meta.get("lease_ids") or ())),
            overlap=int(row["overlap"]),
            is_labeled=bool(row["is_labeled"]),
            annotations=tuple(sorted(annotations, key=lambda each: each.annotation_id)),
        )

    def by_item(self) -> dict[str, list[BoardTask]]:
        """The tasks of each item: those with an answer first, then the oldest. One is the rule."""
        found: dict[str, list[BoardTask]] = {}
        for task in sorted(self.tasks.values(), key=lambda each: (each.n_annotators == 0, each.task_id)):
            found.setdefault(task.item_id, []).append(task)
        return found

    async def add(self, items: Sequence[tuple[Item, Sequence[str]]]) -> None:
        """Makes tasks of items, each with its leases. Not to be repeated blindly: see first what is there."""
        for start in range(0, len(items), _PAGE_SIZE):
            tasks = [
                {"data": self._question.fields(item), "meta": self._meta(item.item_id, lease_ids)}
                for item, lease_ids in items[start : start + _PAGE_SIZE]
            ]
            await self._server.post(f"/api/projects/{self._project_id}/import", tasks)

    async def reopen(self, task: BoardTask, lease_ids: Sequence[str], overlap: int) -> None:
        """Asks for so many people's answers to a task, under these leases."""
        body = {"meta": self._meta(task.item_id, lease_ids), "overlap": overlap, "is_labeled": False}
        await self._server.patch(f"/api/tasks/{task.task_id}/", body)

    async def remove(self, task: BoardTask) -> bool:
        """Deletes a task, unless somebody has just answered it; returns whether it did."""
        path = f"/api/tasks/{task.task_id}/"
        try:
            now = await self._server.get(path)
        except NotFoundError:
            now = {}
        if any(not each["was_cancelled"] for each in now.get("annotations") or ()):
            return False
        await self._server.delete(path)
        self.tasks.pop(task.task_id, None)
        self._versions.pop(task.task_id, None)
        return True

    def _meta(self, item_id: str, lease_ids: Sequence[str]) -> dict[str, Any]:
        return {
            "campaign_id": self._campaign_id,
            "source_id": self._source_id,
            "item_id": item_id,
            "lease_ids": list(lease_ids),
        }
