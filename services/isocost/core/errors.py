"""The closed set of errors that isocost reports, and their one mapping to gRPC status codes.

Services raise these; the server turns them into a status with rich details; the client turns the status back into the
same error. A user never sees a traceback for one of them.
"""

from __future__ import annotations

from datetime import timedelta

import grpc
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

__all__ = [
    "AlreadyExistsError",
    "BudgetExceededError",
    "DeadlineExceededError",
    "FailedPreconditionError",
    "InvalidArgumentError",
    "IsocostError",
    "LimitExceededError",
    "NotFoundError",
    "PermissionDeniedError",
    "UnauthenticatedError",
    "UnavailableError",
    "from_rpc_error",
    "to_status",
]


#: Bytes of a message that are sent. A status travels as metadata, which holds 8 KiB (each byte of the message may take
#: three, and the details repeat it): beyond that the caller would see RESOURCE_EXHAUSTED instead of the error, and a
#: message may quote what the caller sent.
_MESSAGE_BYTES_MAX = 1_200


class IsocostError(Exception):
    """An error with a message that names what is wrong and what to do.

    Attributes:
        field: Dotted name of the offending field, or "" where no single field is at fault.
    """

    code: int = code_pb2.UNKNOWN

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.field = field

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class InvalidArgumentError(IsocostError):
    """The input is wrong whatever the state; `field` names it."""

    code = code_pb2.INVALID_ARGUMENT

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message, field=field)


class NotFoundError(IsocostError):
    """The named thing is not there."""

    code = code_pb2.NOT_FOUND


class AlreadyExistsError(IsocostError):
    """The id is taken by something with another content."""

    code = code_pb2.ALREADY_EXISTS


class FailedPreconditionError(IsocostError):
    """Valid in itself, but not in the present state."""

    code = code_pb2.FAILED_PRECONDITION


class BudgetExceededError(IsocostError):
    """The purchase would take settled plus reserved above the budget."""

    code = code_pb2.RESOURCE_EXHAUSTED


class LimitExceededError(IsocostError):
    """The call is too large, or came too soon after others.

    Attributes:
        retry_after: When the same call may be made again; None where it never may, because it is too large.
    """

    code = code_pb2.RESOURCE_EXHAUSTED

    def __init__(self, message: str, *, field: str = "", retry_after: timedelta | None = None) -> None:
        super().__init__(message, field=field)
        self.retry_after = retry_after


class UnauthenticatedError(IsocostError):
    """The call carries no token that is known."""

    code = code_pb2.UNAUTHENTICATED


class PermissionDeniedError(IsocostError):
    """The caller's role does not allow the call."""

    code = code_pb2.PERMISSION_DENIED


class UnavailableError(IsocostError):
    """A server is away; the same call may succeed later."""

    code = code_pb2.UNAVAILABLE


class DeadlineExceededError(IsocostError):
    """The time that the caller gave was over; whether the call took effect is not known: repeat it with its id."""

    code = code_pb2.DEADLINE_EXCEEDED


_BY_CODE: dict[int, type[IsocostError]] = {
    error.code: error
    for error in (
        NotFoundError,
        AlreadyExistsError,
        FailedPreconditionError,
        UnauthenticatedError,
        PermissionDeniedError,
        UnavailableError,
        DeadlineExceededError,
    )
}

#: Domain and reason of the `google.rpc.ErrorInfo` that tells a budget that is spent from the other limits: both are
#: RESOURCE_EXHAUSTED.
_DOMAIN = "isocost"
_BUDGET_EXCEEDED = "BUDGET_EXCEEDED"


def _cut(text: str) -> str:
    """The text, or its two ends where it is too long to be sent."""
    encoded = text.encode()
    half = _MESSAGE_BYTES_MAX // 2
    if len(encoded) <= _MESSAGE_BYTES_MAX:
        return text
    return f"{encoded[:half].decode(errors='ignore')} ... {encoded[-half:].decode(errors='ignore')}"


def to_status(error: IsocostError) -> status_pb2.Status:
    """Builds the `google.rpc.Status` of an error.

    Its details: a `BadRequest` field violation where a field is at fault, an `ErrorInfo` for a budget that is spent, a
    `RetryInfo` for a limit that passes.
    """
    status = status_pb2.Status(code=error.code, message=_cut(str(error)))
    details: list[Message] = []
    if error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=_cut(error.field), description=_cut(error.message)
        )
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if isinstance(error, BudgetExceededError):
        details.append(error_details_pb2.ErrorInfo(domain=_DOMAIN, reason=_BUDGET_EXCEEDED))
    if isinstance(error, LimitExceededError) and error.retry_after is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromTimedelta(error.retry_after)
        details.append(retry)
    for detail in details:
        status.details.add().Pack(detail)
    return status


def _resource_exhausted(status: status_pb2.Status | None, field: str, message: str) -> IsocostError:
    """The error behind RESOURCE_EXHAUSTED: gRPC itself gives it for a message that is too large, without details."""
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    for detail in status.details if status is not None else ():
        if detail.Unpack(info) and (info.domain, info.reason) == (_DOMAIN, _BUDGET_EXCEEDED):
            return BudgetExceededError(message, field=field)
        if detail.Unpack(retry):
            return LimitExceededError(message, field=field, retry_after=retry.retry_delay.ToTimedelta())
    return LimitExceededError(message, field=field)


def from_rpc_error(error: grpc.RpcError) -> IsocostError:
    """Turns a failed call's status back into the error that the service raised."""
    code: grpc.StatusCode = error.code()
    details = error.details() or code.name
    field, message = "", details
    status = rpc_status.from_call(error)
    if status is not None:
        for detail in status.details:
            bad_request = error_details_pb2.BadRequest()
            if detail.Unpack(bad_request) and bad_request.field_violations:
                field = bad_request.field_violations[0].field
                message = bad_request.field_violations[0].description
    number = code.value[0]
    if number == code_pb2.INVALID_ARGUMENT:
        return InvalidArgumentError(field or "request", message)
    if number == code_pb2.RESOURCE_EXHAUSTED:
        return _resource_exhausted(status, field, message)
    if number in _BY_CODE:
        return _BY_CODE[number](message, field=field)
    return IsocostError(f"{code.name}: {details}", field=field)
