"""Label Studio's REST API as far as the sync uses it, in memory, behind a door that may lose requests and answers.

What it does was read off the real one, which tests/integration/label_studio runs.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

from aiohttp import web

__all__ = ["API_KEY", "FakeStudio", "Faults", "serving"]

API_KEY = "legacy"
EMAILS = {1: "ann@example.com", 2: "bob@example.com", 3: "eve@example.com"}


@dataclass
class Faults:
    """Lets the n-th change of the whole system fail, once: before it is made, or after it, so nobody hears of it."""

    at: int = -1
    is_after: bool = False
    n_seen: int = 0
    names: list[str] = field(default_factory=list)

    async def guard(self, name: str, change: Callable[[], Awaitable[Any]], error: Exception) -> Any:
        """Makes the change, and raises the error where its turn has come."""
        is_turn = self.n_seen == self.at
        self.n_seen += 1
        self.names.append(name)
        if is_turn and not self.is_after:
            raise error
        made = await change()
        if is_turn:
            raise error
        return made


@dataclass
class FakeStudio:
    """Projects, tasks and webhooks.

    Attributes:
        faults: What fails.
        refuses_webhooks: As where SSRF protection is on.
        on_show: Called with a task's number before that task alone is read.
    """

    faults: Faults = field(default_factory=Faults)
    refuses_webhooks: bool = False
    on_show: Callable[[int], None] | None = None
    url: str = ""
    projects: dict[int, dict[str, Any]] = field(default_factory=dict)
    tasks: dict[int, dict[str, Any]] = field(default_factory=dict)
    webhooks: dict[int, dict[str, Any]] = field(default_factory=dict)
    paths: list[str] = field(default_factory=list)
    _n_made: int = 0
    _time: int = 0

    def answer(self, task_id: int, user_id: int, choice: str) -> None:
        """Somebody answers a task."""
        part = {"from_name": "label", "to_name": "shown_1", "type": "choices", "value": {"choices": [choice]}}
        self._annotate(task_id, user_id, [part], is_skip=False)

    def skip(self, task_id: int, user_id: int) -> None:
        """Somebody skips a task."""
        self._annotate(task_id, user_id, [], is_skip=True)

    def _annotate(self, task_id: int, user_id: int, result: list[Any], *, is_skip: bool) -> None:
        task = self.tasks[task_id]
        made = {"id": self._number(), "completed_by": user_id, "was_cancelled": is_skip, "result": result}
        task["annotations"].append({**made, "updated_at": self._now()})
        self._count(task)

    def work(self, user_id: int, n_tasks: int) -> None:
        """Somebody answers the next tasks that Label Studio gives them, or all that there are."""
        for task in list(self.tasks.values()):
            if n_tasks and not task["is_labeled"] and user_id not in self._annotators(task):
                self.answer(task["id"], user_id, "yes")
                n_tasks -= 1

    @staticmethod
    def _annotators(task: dict[str, Any]) -> set[int]:
        return {each["completed_by"] for each in task["annotations"] if not each["was_cancelled"]}

    def _count(self, task: dict[str, Any]) -> None:
        task["is_labeled"] = len(self._annotators(task)) >= task["overlap"]
        task["updated_at"] = self._now()

    def _number(self) -> int:
        self._n_made += 1
        return self._n_made

    def _now(self) -> str:
        self._time += 1
        return f"{self._time:08}"

    def app(self) -> web.Application:
        """The HTTP side."""
        app = web.Application(middlewares=[self._door])
        app.router.add_get("/api/projects/", self._list_projects)
        app.router.add_post("/api/projects/", self._make_project)
        app.router.add_post("/api/projects/{id}/import", self._import)
        app.router.add_get("/api/tasks/", self._list_tasks)
        app.router.add_get("/api/tasks/{id}/", self._show_task)
        app.router.add_patch("/api/tasks/{id}/", self._change_task)
        app.router.add_delete("/api/tasks/{id}/", self._delete_task)
        app.router.add_get("/api/users/", self._list_users)
        app.router.add_get("/api/webhooks/", self._list_webhooks)
        app.router.add_post("/api/webhooks/", self._make_webhook)
        app.router.add_patch("/api/webhooks/{id}/", self._change_webhook)
        app.router.add_delete("/api/webhooks/{id}/", self._delete_webhook)
        return app

    @web.middleware
    async def _door(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        self.paths.append(f"{request.method} {request.path_qs}")
        if request.headers.get("Authorization") != f"Token {API_KEY}":
            return web.json_response({"detail": "Invalid token."}, status=401)
        if request.method == "GET":
            return await handler(request)
        try:
            name = f"{request.method} {request.path}"
            made: web.StreamResponse = await self.faults.guard(name, lambda: handler(request), ConnectionError())
        except ConnectionError:
            assert request.transport is not None
            request.transport.abort()
            raise
        return made

    async def _list_projects(self, request: web.Request) -> web.Response:
        found = [each for each in self.projects.values() if request.query["title"] in each["title"]]
        return web.json_response({"results": found, "next": None})

    async def _make_project(self, request: web.Request) -> web.Response:
        body = await request.json()
        controls = ElementTree.fromstring(body["label_config"]).iter("Choices")
        labels = {each.get("name"): [choice.get("value") for choice in each] for each in controls}
        parsed = {name: {"type": "Choices", "labels": choices} for name, choices in labels.items()}
        project = {"id": self._number(), "maximum_annotations": 1, "parsed_label_config": parsed, **body}
        self.projects[project["id"]] = project
        return web.json_response(project, status=201)

    async def _import(self, request: web.Request) -> web.Response:
        project = self.projects[int(request.match_info["id"])]
        for each in await request.json():
            task = {"id": self._number(), "project": project["id"], "overlap": project["maximum_annotations"], **each}
            self.tasks[task["id"]] = {**task, "is_labeled": False, "annotations": [], "updated_at": self._now()}
        return web.json_response({}, status=201)

    async def _list_tasks(self, request: web.Request) -> web.Response:
        project_id, page, size = (int(request.query[name]) for name in ("project", "page", "page_size"))
        assert json.loads(request.query["query"]) == {"ordering": ["-tasks:updated_at"]}
        rows = [task for task in self.tasks.values() if task["project"] == project_id]
        rows.sort(key=lambda task: str(task["updated_at"]), reverse=True)
        shown = rows[(page - 1) * size : page * size]
        if project_id not in self.projects or (page > 1 and not shown):
            return web.json_response({"detail": "Not found."}, status=404)
        return web.json_response({"tasks": shown, "total": len(rows)})

    async def _show_task(self, request: web.Request) -> web.Response:
        task = self.tasks.get(int(request.match_info["id"]))
        if task is None:
            return web.json_response({"detail": "Not found."}, status=404)
        if self.on_show is not None:
            self.on_show(task["id"])
        return web.json_response(task)

    async def _change_task(self, request: web.Request) -> web.Response:
        task = self.tasks[int(request.match_info["id"])]
        task.update(await request.json())
        task["updated_at"] = self._now()
        return web.json_response(task)

    async def _delete_task(self, request: web.Request) -> web.Response:
        del self.tasks[int(request.match_info["id"])]
        return web.Response(status=204)

    async def _list_users(self, request: web.Request) -> web.Response:
        return web.json_response([{"id": number, "email": email} for number, email in EMAILS.items()])

    async def _list_webhooks(self, request: web.Request) -> web.Response:
        return web.json_response(list(self.webhooks.values()))

    async def _make_webhook(self, request: web.Request) -> web.Response:
        if self.refuses_webhooks:
            return web.json_response({"validation_errors": {"url": ["local network"]}}, status=400)
        webhook = {"id": self._number(), **await request.json()}
        self.webhooks[webhook["id"]] = webhook
        return web.json_response(webhook, status=201)

    async def _change_webhook(self, request: web.Request) -> web.Response:
        webhook = self.webhooks[int(request.match_info["id"])]
        webhook.update(await request.json())
        return web.json_response(webhook)

    async def _delete_webhook(self, request: web.Request) -> web.Response:
        del self.webhooks[int(request.match_info["id"])]
        return web.Response(status=204)


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    """The app's base URL."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
