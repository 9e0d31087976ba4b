"""Requests to a server that speaks the OpenAI API: repeated where a repeat may help, and never saying the key."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Awaitable, Callable
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import structlog

from isocost.core.errors import FailedPreconditionError, IsocostError, UnauthenticatedError, UnavailableError
from isocost.trainer.fine_tuning.settings import FineTuningSettings

__all__ = ["ApiHttp", "RefusedError", "TransientError", "backoff_seconds"]

_BACKOFF_SECONDS = 1.0
_BACKOFF_SECONDS_MAX = 60.0
#: Status codes that say that the same request may succeed later. 409 is a lock that another request holds.
_TRANSIENT = frozenset((408, 409, 425, 429))
#: Codes of a 429 that no wait mends.
_SPENT = frozenset(("insufficient_quota", "billing_hard_limit_reached", "billing_not_active"))
_MESSAGE_LENGTH_MAX = 500
_log = structlog.get_logger(__name__)


class TransientError(Exception):
    """A request failed in a way that may not last; whether it took effect is not known.

    Attributes:
        retry_seconds: What the server asks to wait; None where it does not say.
    """

    def __init__(self, reason: str, retry_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.retry_seconds = retry_seconds


class RefusedError(FailedPreconditionError):
    """The server answered that it will not do it.

    Attributes:
        status: HTTP status.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class ApiHttp:
    """One session with a server; to be used as an async context manager.

    Args:
        settings: Where it is, its key, and how patient to be.
        pause: Waits for so many seconds; may raise to give up.
        clock: Seconds since the epoch; for waits that are given as a date.
    """

    def __init__(
        self,
        settings: FineTuningSettings,
        pause: Callable[[float], Awaitable[None]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._pause = pause
        self._clock = clock
        self._key = settings.api_key.get_secret_value()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> ApiHttp:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._settings.request_timeout_seconds),
            headers={"Authorization": f"Bearer {self._key}"} if self._key else None,
            connector=aiohttp.TCPConnector(limit=0),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: dict[str, Any] | None = None,
        form: Callable[[], aiohttp.FormData] | None = None,
    ) -> dict[str, Any]:
        """A request that may be repeated without harm; returns the answer's JSON object.

        Args:
            method: GET or POST.
            path: Behind the base URL, beginning with a slash.
            query: Of the URL.
            body: Sent as JSON.
            form: Makes what is sent as a form, anew for each attempt.

        Raises:
            RefusedError, UnauthenticatedError: a repeat would not succeed.
            UnavailableError: the server gave no answer, however often it was asked.
        """
        for attempt in range(1, self._settings.attempts_max + 1):
            try:
                return await self.ask_once(method, path, query=query, body=body, form=form)
            except TransientError as error:
                if attempt == self._settings.attempts_max:
                    raise self.away(error) from None
                await self.wait(error, attempt)
        raise AssertionError("at least one attempt is made")

    async def ask_once(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: dict[str, Any] | None = None,
        form: Callable[[], aiohttp.FormData] | None = None,
    ) -> dict[str, Any]:
        """A single attempt; arguments as `ask`.

        Raises:
            TransientError: a repeat may succeed.
            RefusedError, UnauthenticatedError: a repeat would not succeed.
        """
        assert self._session is not None, "enter the session first"
        options: dict[str, Any] = {}
        if form is not None:
            timeout = aiohttp.ClientTimeout(total=self._settings.upload_timeout_seconds)
            options = {"data": form(), "timeout": timeout}
        try:
            # A redirect would be followed with the key to wherever it leads.
            async with self._session.request(
                method, f"{self._settings.base_url}{path}", params=query, json=body, allow_redirects=False, **options
            ) as response:
                status = response.status
                retry_seconds = self._retry_seconds(response.headers.get("Retry-After", ""))
                is_json = "json" in response.content_type
                answer = await response.json(content_type=None) if is_json else await response.text()
        except aiohttp.InvalidURL as error:
            raise RefusedError(0, f"{self._settings.base_url!r} is no URL; correct ISOCOST_FINE_TUNING_BASE_URL") from (
                error
            )
        except (aiohttp.ClientError, TimeoutError, ConnectionError, ValueError) as error:
            reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise TransientError(self._without_key(reason)) from error
        if status == 200 and isinstance(answer, dict):
            return answer
        raise self._failure(status, f"{method} {path}", answer, retry_seconds)

    async def wait(self, error: TransientError, attempt: int) -> None:
        """Waits before the next attempt: as long as the server asks, else longer each time.

        Raises:
            UnavailableError: where the server asks for more than it is given.
        """
        seconds = error.retry_seconds
        if seconds is None:
            seconds = backoff_seconds(attempt)
        elif seconds > self._settings.retry_after_seconds_max:
            raise self.away(error)
        _log.info("fine_tuning_api_waits", seconds=round(seconds, 3), attempt=attempt, reason=str(error))
        await self._pause(seconds)

    def away(self, error: TransientError) -> UnavailableError:
        """What to raise where the server cannot be had."""
        return UnavailableError(
            f"the fine-tuning API at {self._settings.base_url} is away ({error}); jobs that were begun go on, and what "
            "was paid for is kept: create the run again later"
        )

    def _failure(self, status: int, request: str, answer: Any, retry_seconds: float | None) -> Exception:
        if status == 401:
            # The server's own message quotes parts of the key.
            return self._unauthenticated()
        message, code = _message(answer)
        message = self._without_key(message)
        if (status in _TRANSIENT and code not in _SPENT) or status >= 500 or status == 200:
            return TransientError(f"{request}: status {status}: {message}", retry_seconds)
        return RefusedError(status, f"the fine-tuning API refused {request} with status {status}: {message}")

    def _unauthenticated(self) -> IsocostError:
        what = "refuses the key" if self._key else "wants a key and none is set"
        return UnauthenticatedError(
            f"the fine-tuning API at {self._settings.base_url} {what} (status 401); "
            "set ISOCOST_FINE_TUNING_API_KEY to a valid one and create the run again"
        )

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text

    def _retry_seconds(self, header: str) -> float | None:
        """Seconds of a Retry-After header, which holds a number of them or a date; None where it holds neither."""
        try:
            seconds = float(header)
        except ValueError:
            try:
                seconds = parsedate_to_datetime(header).timestamp() - self._clock()
            except ValueError:
                return None
        return max(0.0, seconds) if math.isfinite(seconds) else None


def backoff_seconds(attempt: int) -> float:
    """A random time before the next attempt, after so many (from 1): doubling, between half of it and all of it, so
    that many callers do not come back together."""
    seconds = min(_BACKOFF_SECONDS_MAX, _BACKOFF_SECONDS * 2.0 ** (attempt - 1))
    return seconds * random.uniform(0.5, 1.0)


def _message(answer: Any) -> tuple[str, str]:
    """The text and the code of an error's answer."""
    code = ""
    if isinstance(answer, dict):
        error = answer.get("error", answer)
        if isinstance(error, dict):
            code = str(error.get("code") or "")
            error = error.get("message") or error
        answer = error
    return str(answer)[:_MESSAGE_LENGTH_MAX], code
