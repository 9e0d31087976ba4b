"""Calls that are made again where they fail and a repeat is safe."""

# Generated from ../repeater.py by scripts/generate_sync_client: change that file, not this one.

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from time import sleep
from typing import Protocol, TypeVar

import grpc

from isocost.client.call import error_of
from isocost.client.retry import Attempts, RetryPolicy

__all__ = ["Repeater"]


class _PageRequest(Protocol):
    page_token: str


class _PageResponse(Protocol):
    next_page_token: str


_Request = TypeVar("_Request")
_Response = TypeVar("_Response")
_Paged = TypeVar("_Paged", bound=_PageRequest)
_Page = TypeVar("_Page", bound=_PageResponse)


class Repeater:
    """Makes calls by a retry policy, all with the same metadata."""

    def __init__(self, policy: RetryPolicy, metadata: tuple[tuple[str, str], ...] = ()) -> None:
        self._policy = policy
        self._metadata = metadata

    def unary(self, method: grpc.UnaryUnaryMultiCallable[_Request, _Response], request: _Request) -> _Response:
        """One request, one answer.

        Raises:
            IsocostError: what the last attempt met.
        """
        attempts = Attempts(self._policy)
        while True:
            try:
                return method(request, timeout=attempts.timeout_seconds(), metadata=self._metadata)
            except grpc.RpcError as error:
                failure = error_of(error)
            sleep(attempts.pause_seconds(failure))

    def upload(
        self, method: grpc.StreamUnaryMultiCallable[_Request, _Response], requests: Sequence[_Request]
    ) -> _Response:
        """A stream of requests, one answer. A repeat sends all of them again, so each must carry a request id.

        Raises:
            IsocostError: what the last attempt met.
        """
        attempts = Attempts(self._policy)
        while True:
            try:
                return method(iter(requests), timeout=attempts.timeout_seconds(), metadata=self._metadata)
            except grpc.RpcError as error:
                failure = error_of(error)
            sleep(attempts.pause_seconds(failure))

    def stream(
        self,
        method: grpc.UnaryStreamMultiCallable[_Request, _Response],
        request: _Request,
        advance: Callable[[_Response], None] | None = None,
    ) -> Iterator[_Response]:
        """One request, a stream of answers.

        Args:
            method: The rpc.
            request: The request.
            advance: Changes the request so that it asks for what comes after a response: a broken stream goes on there.
                Without it a broken stream begins again, and the caller drops what it has seen.

        Raises:
            IsocostError: what the last attempt met.
        """
        attempts = Attempts(self._policy)
        while True:
            timeout_seconds = attempts.timeout_seconds(whole=advance is None)
            call = method(request, timeout=timeout_seconds, metadata=self._metadata)
            try:
                for response in call:
                    if advance is not None:
                        advance(response)
                    yield response
                    # After the yield: the time that the reader takes counts for nothing.
                    attempts.progressed()
                return
            except grpc.RpcError as error:
                failure = error_of(error)
            finally:
                # A reader that stops early must not leave the server sending.
                call.cancel()
            sleep(attempts.pause_seconds(failure))

    def pages(self, method: grpc.UnaryUnaryMultiCallable[_Paged, _Page], request: _Paged) -> Iterator[_Page]:
        """All pages of a list.

        Raises:
            IsocostError: what the last attempt at a page met.
        """
        while True:
            page = self.unary(method, request)
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token
