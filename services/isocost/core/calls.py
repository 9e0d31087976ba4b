"""What happens around every call: who calls, may they, how often; errors to statuses; how long it took.

One interceptor does all of it, and wraps each method once, because a read should cost little more than gRPC itself.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from datetime import timedelta
from typing import Any, NoReturn

import grpc
import structlog
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, status_pb2
from grpc_status import rpc_status

from isocost.core import logs
from isocost.core.access import Access, check_role
from isocost.core.caller import Caller, Role, caller
from isocost.core.errors import (
    InvalidArgumentError,
    IsocostError,
    LimitExceededError,
    UnauthenticatedError,
    UnavailableError,
    to_status,
)
from isocost.core.limits import RateLimiter
from isocost.core.tracing import CallSpan, Tracing

__all__ = ["CallInterceptor", "Observe"]

#: Told of every call at its end: method, status code by name, seconds.
Observe = Callable[[str, str, float], None]

#: Health checks are answered to everyone, at any time.
_HEALTH = "/grpc.health.v1.Health/"
#: How the names of rpcs begin that change nothing.
_READS = ("Get", "List", "Export", "Watch", "Describe", "ServerReflection")
_CODE_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}
_OK = grpc.StatusCode.OK.name
#: The clock that ends a call is not the one that tells how much of its time remains.
_DEADLINE_SLACK_SECONDS = 0.01
#: When to repeat a call that came while too many were in flight.
_BUSY = timedelta(milliseconds=100)

_log = structlog.get_logger(__name__)


class _Call:
    """One call in progress."""

    __slots__ = ("caller", "code", "span", "start_seconds", "task")

    def __init__(self) -> None:
        self.start_seconds = time.perf_counter()
        self.caller = Caller()
        self.code = _OK
        self.span: CallSpan | None = None
        self.task: Any = asyncio.current_task()


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Guards and records the calls of one server.

    Args:
        access: What to ask of callers; None asks for no token.
        limiter: How often a caller may call; None does not limit it.
        calls_in_flight_max: Calls served at a time.
        names_certificates: Whether a caller without a token goes by the name in its client certificate.
        observe: Told of every call at its end.
        tracing: Where calls are traced.
    """

    def __init__(
        self,
        *,
        access: Access | None,
        limiter: RateLimiter | None,
        calls_in_flight_max: int,
        names_certificates: bool,
        observe: Observe | None,
        tracing: Tracing | None,
    ) -> None:
        self._access = access
        self._limiter = limiter
        self._calls_in_flight_max = calls_in_flight_max
        self._names_certificates = names_certificates
        self._observe = observe
        self._tracing = tracing if tracing is not None and tracing.is_on else None
        self._handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        self._tasks: set[Any] = set()
        self._draining = False
        self._cutting = False
        self._idle = asyncio.Event()

    async def drain(self, seconds: float) -> None:
        """Refuses new calls as UNAVAILABLE, lets those in flight finish, and ends those that take longer."""
        self._draining = True
        if not self._tasks:
            return
        try:
            await asyncio.wait_for(self._idle.wait(), seconds)
        except TimeoutError:
            self._cutting = True
            for task in self._tasks:
                task.cancel()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Gives gRPC the guarded form of a method's handler."""
        method = str(handler_call_details.method)
        wrapped = self._handlers.get(method)
        if wrapped is None:
            handler = await continuation(handler_call_details)
            if handler is None or method.startswith(_HEALTH):
                return handler
            wrapped = self._handlers[method] = self._wrap(method, handler)
        return wrapped

    def _wrap(self, method: str, handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
        allowed = self._access.allowed_roles(method) if self._access is not None else frozenset[Role]()
        deserialize: Any = handler.request_deserializer
        # Bytes come in as they are, and are only read for those who may call.
        read = _decoded if handler.request_streaming else _decode
        behaviour: Any = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        if handler.response_streaming and not inspect.iscoroutinefunction(behaviour):
            guarded = self._guard_stream(behaviour, read, deserialize, method, allowed)
        else:
            guarded = self._guard_unary(behaviour, read, deserialize, method, allowed)
        make = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[handler.request_streaming, handler.response_streaming]
        return make(guarded, None, handler.response_serializer)

    def _guard_unary(self, behaviour: Any, read: Any, deserialize: Any, method: str, allowed: frozenset[Role]) -> Any:
        async def guarded(request: Any, context: Any) -> Any:
            call = self._begin(method, context)
            try:
                await self._admit(call, method, allowed, context)
                return await behaviour(read(deserialize, request), context)
            except BaseException as error:  # noqa: BLE001 - the edge of the service: every error becomes a status
                await self._fail(error, call, method, context)
            finally:
                self._end(call, method)

        return guarded

    def _guard_stream(self, behaviour: Any, read: Any, deserialize: Any, method: str, allowed: frozenset[Role]) -> Any:
        async def guarded(request: Any, context: Any) -> None:
            call = self._begin(method, context)
            try:
                await self._admit(call, method, allowed, context)
                # Closed here, in the call's own task, as soon as the caller leaves: were this a generator too, gRPC
                # would leave it to the garbage collector.
                async with aclosing(behaviour(read(deserialize, request), context)) as responses:
                    async for response in responses:
                        await context.write(response)
            except BaseException as error:  # noqa: BLE001 - the edge of the service: every error becomes a status
                await self._fail(error, call, method, context)
            finally:
                self._end(call, method)

        return guarded

    def _begin(self, method: str, context: Any) -> _Call:
        call = _Call()
        self._tasks.add(call.task)
        if self._tracing is not None:
            call.span = self._tracing.begin(method, context.invocation_metadata())
        return call

    async def _admit(self, call: _Call, method: str, allowed: frozenset[Role], context: Any) -> None:
        """Finds out who calls, and whether the call may go on.

        Raises:
            UnavailableError: the server stops.
            LimitExceededError: too many calls, of everyone or of this caller.
            UnauthenticatedError, PermissionDeniedError: see `Access`.
        """
        peer = context.peer()
        if self._access is not None:
            call.caller = Caller(peer=peer)
            call.caller = await self._identify(self._access, context, peer)
            check_role(call.caller, allowed, method)
        else:
            call.caller = Caller(_certificate_name(context) if self._names_certificates else "", None, peer)
        caller.set(call.caller)
        if self._draining:
            raise UnavailableError("the server is stopping; make the same call again in a moment")
        if len(self._tasks) > self._calls_in_flight_max:
            raise LimitExceededError(
                f"{self._calls_in_flight_max} calls are in flight; make the same call again in a moment",
                retry_after=_BUSY,
            )
        if self._limiter is not None:
            self._limiter.admit(call.caller.principal or _host(peer))

    async def _identify(self, access: Access, context: Any, peer: str) -> Caller:
        try:
            known = await access.identify(context.invocation_metadata())
        except UnauthenticatedError:
            # Those who guess are slowed down as well.
            if self._limiter is not None:
                self._limiter.admit(_host(peer))
            raise
        return Caller(known.principal, known.role, peer)

    async def _fail(self, error: BaseException, call: _Call, method: str, context: Any) -> NoReturn:
        if isinstance(error, grpc.aio.AbortError):
            code = context.code()
            call.code = code.name if isinstance(code, grpc.StatusCode) else _CODE_NAMES.get(code, "UNKNOWN")
            raise error
        if isinstance(error, asyncio.CancelledError) and self._cutting:
            error = UnavailableError(
                "the server stopped before the call was done; make the same call again, with its request id"
            )
        if not isinstance(error, Exception):
            # The caller left, or the time that it gave is over.
            remaining_seconds = context.time_remaining()
            late = remaining_seconds is not None and remaining_seconds < _DEADLINE_SLACK_SECONDS
            call.code = (grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED).name
            raise error
        if isinstance(error, IsocostError):
            status = to_status(error)
        else:
            _log.exception("rpc_failed", method=method, exc_info=error)
            status = status_pb2.Status(
                code=code_pb2.INTERNAL,
                message=f"{type(error).__name__} in {method}; the service's log has the details",
            )
        call.code = _CODE_NAMES.get(status.code, "UNKNOWN")
        await context.abort_with_status(rpc_status.to_status(status))
        raise AssertionError("abort returned")

    def _end(self, call: _Call, method: str) -> None:
        seconds = time.perf_counter() - call.start_seconds
        self._tasks.discard(call.task)
        if self._draining and not self._tasks:
            self._idle.set()
        if call.span is not None:
            call.span.end(call.code)
        if self._observe is not None:
            self._observe(method, call.code, seconds)
        is_read = method.rpartition("/")[2].startswith(_READS)
        level = logs.DEBUG if is_read and call.code == _OK else logs.INFO
        if logs.is_enabled(level):
            _log.log(
                level,
                "rpc",
                method=method,
                code=call.code,
                seconds=round(seconds, 6),
                principal=call.caller.principal,
                peer=call.caller.peer,
            )


def _decode(deserialize: Any, request: Any) -> Any:
    if deserialize is None:
        return request
    try:
        return deserialize(request)
    except DecodeError:
        raise InvalidArgumentError(
            "request", "its bytes are not the message that the method takes; compare the versions of the protos"
        ) from None


async def _decoded(deserialize: Any, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield _decode(deserialize, request)


def _host(peer: str) -> str:
    """The peer without its port: `ipv4:10.1.2.3`."""
    return peer.rpartition(":")[0] or peer


def _certificate_name(context: Any) -> str:
    """The common name in the client's certificate."""
    names = context.auth_context().get("x509_common_name", ())
    return names[0].decode(errors="replace") if names else ""
