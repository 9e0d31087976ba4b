"""Requests to a Label Studio server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import aiohttp
from yarl import URL

from isocost.core.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
)

__all__ = ["API_KEY_FIELD", "URL_FIELD", "LabelStudioServer"]

#: What errors about the two are named after.
URL_FIELD, API_KEY_FIELD = "label_studio_url", "label_studio_api_key"
_TIMEOUT_SECONDS = 60.0
#: Characters of an answer that an error quotes.
_QUOTED_MAX = 500


class LabelStudioServer:
    """One session with a server.

    Args:
        url: Base URL.
        api_key: A personal access token (a JWT, which is exchanged for short-lived ones) or a legacy token.

    Raises:
        InvalidArgumentError: where the URL is none, or there is no key.

    Every request raises `UnavailableError` where the server is away or fails, so that a repeat may succeed;
    `UnauthenticatedError` and `PermissionDeniedError` where the key is wrong or allows too little; `NotFoundError`;
    `FailedPreconditionError` where it refuses what was asked; `InvalidArgumentError` where it is no Label Studio.
    """

    def __init__(self, url: str, api_key: str) -> None:
        try:
            parsed = URL(url)
        except ValueError:
            parsed = URL()
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise InvalidArgumentError(URL_FIELD, f"{url!r} is no URL; give one such as http://127.0.0.1:8080")
        if not api_key:
            raise InvalidArgumentError(
                API_KEY_FIELD,
                "not given; make a token in Label Studio (Account & Settings -> Personal Access Token), "
                "and put it into ISOCOST_LABEL_STUDIO_API_KEY",
            )
        self.url = url.rstrip("/")
        self._api_key = api_key
        #: A personal access token signs nothing itself: it asks for an access token, which is valid for minutes.
        self._is_personal = api_key.count(".") == 2
        self._access_token = ""
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def get(self, path: str, parameters: Mapping[str, str] | None = None) -> Any:
        """Reads; returns the answer's JSON."""
        return await self._request("GET", path, parameters=parameters)

    async def post(self, path: str, body: Any) -> Any:
        """Makes something; returns the answer's JSON."""
        return await self._request("POST", path, body=body)

    async def patch(self, path: str, body: Any) -> Any:
        """Changes something; returns the answer's JSON."""
        return await self._request("PATCH", path, body=body)

    async def delete(self, path: str) -> None:
        """Deletes something; that it is gone already is no error."""
        try:
            await self._request("DELETE", path)
        except NotFoundError:
            return

    async def _request(
        self, method: str, path: str, *, parameters: Mapping[str, str] | None = None, body: Any = None
    ) -> Any:
        status, answer = await self._send(method, path, await self._authorization(), parameters, body)
        if status == 401 and self._is_personal:
            self._access_token = ""
            status, answer = await self._send(method, path, await self._authorization(), parameters, body)
        return self._checked(method, path, status, answer)

    async def _authorization(self) -> str:
        if not self._is_personal:
            return f"Token {self._api_key}"
        if not self._access_token:
            path = "/api/token/refresh/"
            answer = self._checked("POST", path, *await self._send("POST", path, "", None, {"refresh": self._api_key}))
            self._access_token = str(answer.get("access", "")) if isinstance(answer, dict) else ""
        return f"Bearer {self._access_token}"

    async def _send(
        self, method: str, path: str, authorization: str, parameters: Mapping[str, str] | None, body: Any
    ) -> tuple[int, Any]:
        """Status and answer: JSON, or the text of what is none."""
        headers = {"Authorization": authorization} if authorization else {}
        try:
            async with self._session.request(
                method, f"{self.url}{path}", params=parameters, json=body, headers=headers, allow_redirects=False
            ) as response:
                if 300 <= response.status < 400:
                    raise InvalidArgumentError(
                        URL_FIELD, f"{self.url} redirects to {response.headers.get('Location', '?')}; give that address"
                    )
                if "json" in response.content_type:
                    return response.status, await response.json()
                return response.status, await response.text()
        except (aiohttp.ClientError, TimeoutError, ConnectionError, ValueError) as error:
            reason = str(error) or type(error).__name__
            raise UnavailableError(f"Label Studio at {self.url} does not answer: {reason}", field=URL_FIELD) from error

    def _checked(self, method: str, path: str, status: int, answer: Any) -> Any:
        """The answer, where it is a good one."""
        said = _said(answer)
        if status == 401:
            raise UnauthenticatedError(
                f"Label Studio at {self.url} does not know the key ({said}); give a personal access token, or a legacy "
                "token where the organization allows them",
                field=API_KEY_FIELD,
            )
        if status == 403:
            raise PermissionDeniedError(f"its user may not {method} {path} ({said})", field=API_KEY_FIELD)
        if status >= 500 or status in (408, 429):
            raise UnavailableError(f"Label Studio at {self.url} fails at {path}: {status}, {said}", field=URL_FIELD)
        is_json = not isinstance(answer, str)
        if status == 404 and is_json:
            raise NotFoundError(f"Label Studio at {self.url} has no {path} ({said})", field=URL_FIELD)
        if not is_json and status != 204:
            raise InvalidArgumentError(
                URL_FIELD, f"{self.url} is no Label Studio: {path} is answered with {status} and no JSON"
            )
        if status >= 400:
            raise FailedPreconditionError(f"Label Studio at {self.url} refuses {method} {path}: {said}")
        return answer


def _said(answer: Any) -> str:
    """What an error's answer says."""
    if isinstance(answer, dict):
        answer = answer.get("validation_errors") or answer.get("detail") or answer
    return str(answer)[:_QUOTED_MAX]
