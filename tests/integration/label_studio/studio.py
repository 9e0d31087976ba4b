"""A real Label Studio in a process of its own, and people who answer in it through its REST API."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from tests.integration.label_studio.page import Command, block, start

__all__ = ["Person", "Studio", "eventually", "find_label_studio", "free_port"]

_PLACE = Path(__file__).parents[3] / ".venv-label-studio" / "bin"
_OWNER, _PASSWORD = "owner@example.com", "pw-of-the-test"


def find_label_studio() -> Path | None:
    """The folder of Label Studio's program: the one that `make` sets up, or the path's."""
    if (_PLACE / "label-studio").exists():
        return _PLACE
    found = shutil.which("label-studio")
    return Path(found).parent if found else None


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


async def eventually(what: str, check: Callable[[], Awaitable[bool]], *commands: Command, seconds: float = 60) -> None:
    """Waits until something holds; fails when the time is over or a command has ended meanwhile."""
    try:
        async with asyncio.timeout(seconds):
            while not await check():
                for command in commands:
                    assert not command.has_ended, f"ended before {what}:\n{command.said}"
                await asyncio.sleep(0.1)
    except TimeoutError:
        said = "\n".join(command.said[-4_000:] for command in commands)
        raise AssertionError(f"never: {what}\n{said}") from None


@dataclass
class Person:
    """A user of Label Studio.

    Attributes:
        url: Label Studio.
        email: Whose.
        personal_token: A personal access token.
        legacy_token: The same user's legacy token.
    """

    url: str
    email: str
    personal_token: str
    legacy_token: str

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """One request in this user's name."""
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"Token {self.legacy_token}"}) as session,
            session.request(method, f"{self.url}{path}", json=body) as response,
        ):
            text = await response.text()
            assert response.status < 300, f"{method} {path}: {response.status} {text}"
            return await response.json() if text else None

    async def annotate(self, project_id: int, n_tasks: int, *, choice: str = "yes") -> None:
        """Answers the next tasks that Label Studio gives this user."""
        for _ in range(n_tasks):
            task = await self.call("GET", f"/api/projects/{project_id}/next")
            await self.answer(task["id"], choice=choice)

    async def answer(self, task_id: int, *, choice: str = "yes", is_skip: bool = False) -> int:
        """Answers one task; returns the annotation's number."""
        part = {"from_name": "label", "to_name": "shown_1", "type": "choices", "value": {"choices": [choice]}}
        body = {"result": [] if is_skip else [part], "was_cancelled": is_skip, "lead_time": 1.0}
        made = await self.call("POST", f"/api/tasks/{task_id}/annotations/", body)
        number: int = made["id"]
        return number

    async def project_ids(self, title: str) -> list[int]:
        """The projects of that title."""
        answer = await self.call("GET", f"/api/projects/?title={URL.build(path=title).raw_path}&include=id,title")
        return [each["id"] for each in answer["results"] if each["title"] == title]

    async def tasks(self, project_id: int) -> list[dict[str, Any]]:
        """All tasks of a project, with their annotations."""
        answer = await self.call("GET", f"/api/tasks/?project={project_id}&fields=all&page_size=1000")
        tasks: list[dict[str, Any]] = answer["tasks"]
        return tasks


@dataclass
class Studio:
    """A Label Studio that is started, killed and started again on the same data.

    Attributes:
        program: The folder of its program.
        folder: For its data and its log.
        port: Where it listens.
        people: Its users, the owner first.
    """

    program: Path
    folder: Path
    port: int
    people: list[Person] = field(default_factory=list)
    command: Command | None = None

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self, *emails: str) -> None:
        """Starts it by the page's commands; makes the users that there are not yet, the first time."""
        commands = block("label-studio start")
        # Legacy tokens are allowed when the organization is made, and never again by the command line.
        self.command = start(
            commands.replace("label-studio start", "label-studio start --enable-legacy-api-token"),
            self.folder / "log",
            {
                "LABEL_STUDIO_DATA": str(self.folder / "data"),
                "LABEL_STUDIO_PORT": str(self.port),
                "LABEL_STUDIO_EMAIL": _OWNER,
                "LABEL_STUDIO_PASSWORD": _PASSWORD,
            },
            path=[self.program],
        )
        await eventually("Label Studio answers", self._answers, self.command, seconds=240)
        if not self.people:
            self.people = [await self._sign_in(email, is_new=email != _OWNER) for email in (_OWNER, *emails)]

    async def _answers(self) -> bool:
        try:
            async with aiohttp.ClientSession() as session, session.get(f"{self.url}/health") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False

    async def kill(self) -> None:
        """SIGKILL: it ends where it stands."""
        assert self.command is not None
        await self.command.stop(signal.SIGKILL)

    async def _sign_in(self, email: str, *, is_new: bool) -> Person:
        """Through the forms, as a browser does; returns the user with both kinds of token."""
        form = "/user/signup/" if is_new else "/user/login/"
        async with aiohttp.ClientSession(self.url, cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
            async with session.get(form) as response:
                hidden = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', await response.text())
            assert hidden is not None
            fields = {"csrfmiddlewaretoken": hidden[1], "email": email, "password": _PASSWORD, "persist_session": "on"}
            async with session.post(form, data=fields, allow_redirects=False) as response:
                assert response.status == 302, await response.text()
            async with session.get("/api/current-user/token") as response:
                legacy_token = (await response.json())["token"]
            csrf = session.cookie_jar.filter_cookies(URL(self.url)).get("csrftoken")
            headers = {"X-CSRFToken": csrf.value if csrf is not None else hidden[1]}
            async with session.post("/api/token/", headers=headers) as response:
                assert response.status == 201, await response.text()
                personal_token = (await response.json())["token"]
        return Person(self.url, email, personal_token, legacy_token)


def is_required() -> bool:
    """Whether a missing Label Studio is a failure."""
    return os.environ.get("ISOCOST_TEST_LABEL_STUDIO") == "required"
