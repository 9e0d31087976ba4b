"""Requests to a vLLM server."""

from __future__ import annotations

import re
from typing import Any

import aiohttp

__all__ = ["RefusedError", "TransientError", "VllmHttp"]

#: Questions about the server itself are answered at once.
_LOOK_SECONDS = 15.0
_SAMPLE = re.compile(r"^(?P<name>[A-Za-z_:][\w:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)$")


class TransientError(Exception):
    """A request failed in a way that may not last.

    Attributes:
        retry_seconds: What the server asks to wait; 0 where it does not say.
    """

    def __init__(self, reason: str, retry_seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_seconds = retry_seconds


class RefusedError(Exception):
    """The server answered that it will not do it.

    Attributes:
        status: HTTP status, 400 to 499.
        path: What was asked for.
        message: What the server says.
    """

    def __init__(self, status: int, path: str, message: str) -> None:
        super().__init__(f"status {status} to {path}: {message}")
        self.status = status
        self.path = path
        self.message = message


class VllmHttp:
    """One session with a server.

    Args:
        url: Base URL; may change, where the server is started anew.
        api_key: Sent as a bearer token; "" sends none.
        timeout_seconds: How long one request may take.
    """

    def __init__(self, url: str, api_key: str, timeout_seconds: float) -> None:
        self.url = url
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=timeout_seconds),
            headers={"Authorization": f"Bearer {api_key}"} if api_key else None,
        )

    async def close(self) -> None:
        """Closes the session; closing twice does nothing."""
        await self._session.close()

    async def get(self, path: str) -> dict[str, Any]:
        """Asks the server about itself; errors as `post`."""
        return await self._ask("GET", path, None, aiohttp.ClientTimeout(total=_LOOK_SECONDS))

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """One request; returns the answer's JSON object.

        Raises:
            TransientError: no answer, or one that says that a repeat may succeed.
            RefusedError: a repeat will not succeed.
        """
        return await self._ask("POST", path, body, None)

    async def metrics(self) -> dict[str, float]:
        """The server's Prometheus samples by name, summed over their labels.

        Raises:
            TransientError: it has none, or does not answer.
        """
        sums: dict[str, float] = {}
        try:
            timeout = aiohttp.ClientTimeout(total=_LOOK_SECONDS)
            async with self._session.get(f"{self.url}/metrics", timeout=timeout) as response:
                if response.status != 200:
                    raise TransientError(f"status {response.status} to /metrics")
                text = await response.text()
        except (aiohttp.ClientError, TimeoutError, ConnectionError, UnicodeDecodeError) as error:
            raise TransientError(type(error).__name__) from error
        for match in filter(None, map(_SAMPLE.match, text.splitlines())):
            sums[match["name"]] = sums.get(match["name"], 0.0) + float(match["value"])
        return sums

    async def _ask(
        self, method: str, path: str, body: dict[str, Any] | None, timeout: aiohttp.ClientTimeout | None
    ) -> dict[str, Any]:
        options: dict[str, Any] = {"timeout": timeout} if timeout is not None else {}
        try:
            async with self._session.request(method, f"{self.url}{path}", json=body, **options) as response:
                status = response.status
                retry_seconds = _seconds(response.headers.get("Retry-After", ""))
                is_json = "json" in response.content_type
                answer = await response.json(content_type=None) if is_json else await response.text()
        except (aiohttp.ClientError, TimeoutError, ConnectionError, ValueError) as error:
            raise TransientError(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__) from error
        if status == 200 and not is_json and path.startswith("/v1/"):
            # Loading an adapter is answered in words.
            return {"message": answer}
        if status == 200 and isinstance(answer, dict):
            return answer
        if 400 <= status < 500 and status not in (408, 429):
            raise RefusedError(status, path, _message(answer))
        raise TransientError(f"status {status}: {_message(answer)}", retry_seconds)


def _seconds(header: str) -> float:
    try:
        return max(0.0, float(header))
    except ValueError:
        return 0.0


def _message(answer: Any) -> str:
    """The text of an error answer: vLLM has had two shapes of it."""
    if isinstance(answer, dict):
        error = answer.get("error", answer)
        if isinstance(error, dict):
            error = error.get("message") or error.get("detail") or error
        return str(error)[:500]
    return str(answer)[:500]
