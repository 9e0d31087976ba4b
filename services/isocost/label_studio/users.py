"""The people of a Label Studio server."""

from __future__ import annotations

from isocost.label_studio.server import LabelStudioServer

__all__ = ["Users"]


class Users:
    """Names of users, as labels carry them.

    Args:
        server: Label Studio.
    """

    def __init__(self, server: LabelStudioServer) -> None:
        self._server = server
        self._emails: dict[int, str] = {}

    async def name(self, user_id: int | None) -> str:
        """A user's email address; a made-up name for one who is gone."""
        if user_id is not None and user_id not in self._emails:
            answer = await self._server.get("/api/users/")
            # A list, or pages of it, by version.
            users = answer.get("results", []) if isinstance(answer, dict) else answer
            self._emails.update((int(user["id"]), str(user["email"])) for user in users if user.get("email"))
            self._emails.setdefault(user_id, f"label-studio-user-{user_id}")
        return "label-studio-user-unknown" if user_id is None else self._emails[user_id]
