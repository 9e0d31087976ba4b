"""Idempotency for ever: every mutation's request id, the digest of its body, its first answer, and who made it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from google.protobuf.message import Message
from sqlalchemy import Connection, delete, insert, select, tuple_, update
from sqlalchemy.exc import IntegrityError

from isocost.budget import clock, schema
from isocost.budget.clock import time_from_us
from isocost.budget.validation import check_text
from isocost.core.caller import Caller, current_caller
from isocost.core.errors import AlreadyExistsError, InvalidArgumentError
from isocost.resources.audit import AuditEntry

__all__ = ["REQUEST_ID_BYTES_MAX", "Answer", "RequestKey", "answer_once", "list_audit_entries"]

_requests = schema.requests
REQUEST_ID_BYTES_MAX = 512


@dataclass(frozen=True, slots=True)
class RequestKey:
    """What a mutation is known by.

    Attributes:
        request_id: The caller's id; globally unique, for ever.
        method: Name of the rpc.
        body_digest: SHA-256 of the whole request.
        caller: Who makes it.

    Raises:
        InvalidArgumentError: where the request id is empty, too long or not printable.
    """

    request_id: str
    method: str
    body_digest: str
    caller: Caller = field(default_factory=Caller)

    def __post_init__(self) -> None:
        check_text("request_id", self.request_id, required=True, bytes_max=REQUEST_ID_BYTES_MAX)
        if not self.request_id.isprintable():
            raise InvalidArgumentError("request_id", f"{self.request_id!r} holds a character that cannot be printed")

    @classmethod
    def of(cls, method: str, request_id: str, request: Message) -> RequestKey:
        """The key of a request as it arrived, from the caller that is being served."""
        digest = hashlib.sha256(request.SerializeToString(deterministic=True)).hexdigest()
        return cls(request_id, method, digest, current_caller())


def _first_answer(connection: Connection, key: RequestKey) -> bytes:
    """The answer stored under a taken request id.

    Raises:
        AlreadyExistsError: where it was another request's.
    """
    row = connection.execute(select(_requests).where(_requests.c.request_id == key.request_id)).one()
    if row.method != key.method or row.body_digest != key.body_digest:
        difference = f"by {row.method}" if row.method != key.method else "with another body"
        raise AlreadyExistsError(
            f"{key.request_id!r} was used before {difference}; choose a new id for a new request", field="request_id"
        )
    return bytes(row.response)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a mutation came to.

    Attributes:
        response: The answer as it goes on the wire.
        campaign_id: The campaign it changed, for the audit log; "" where it named none.
        nothing_done: Whether nothing was changed, so that the same id may be tried again.
    """

    response: bytes
    campaign_id: str
    nothing_done: bool = False


def answer_once(connection: Connection, key: RequestKey, work: Callable[[], Answer]) -> bytes:
    """Does the work and stores its answer in the same transaction, or returns the answer stored before.

    The id is claimed before the work: where two transactions race (PostgreSQL), the second waits here for the first
    and then finds its answer. An error leaves the id unused. The row is the audit log's entry as well.

    Args:
        connection: A write transaction.
        key: What the mutation is known by.
        work: Makes the answer.

    Raises:
        AlreadyExistsError: where the id was used by another request.
    """
    claim = insert(_requests).values(
        request_id=key.request_id,
        method=key.method,
        body_digest=key.body_digest,
        response=b"",
        create_time_us=clock.now_us(),
        principal=key.caller.principal,
        role=key.caller.role or "",
        peer=key.caller.peer,
    )
    try:
        with connection.begin_nested():
            connection.execute(claim)
    except IntegrityError:
        return _first_answer(connection, key)
    answer = work()
    of_request = _requests.c.request_id == key.request_id
    if answer.nothing_done:
        connection.execute(delete(_requests).where(of_request))
    else:
        connection.execute(
            update(_requests).where(of_request).values(response=answer.response, campaign_id=answer.campaign_id)
        )
    return answer.response


def list_audit_entries(
    connection: Connection, *, campaign_id: str = "", after_request_id: str = "", limit: int | None = None
) -> list[AuditEntry]:
    """The next mutations, oldest first, after one ("" for the first).

    Args:
        connection: A transaction.
        campaign_id: Only what changed this campaign; "" for all.
        after_request_id: "" for the first.
        limit: At most so many; None for all.
    """
    query = select(_requests).order_by(_requests.c.create_time_us, _requests.c.request_id).limit(limit)
    if campaign_id:
        query = query.where(_requests.c.campaign_id == campaign_id)
    if after_request_id:
        last = _requests.alias("last")
        age = select(last.c.create_time_us, last.c.request_id).where(last.c.request_id == after_request_id)
        query = query.where(tuple_(_requests.c.create_time_us, _requests.c.request_id) > age.scalar_subquery())
    return [
        AuditEntry(
            request_id=row.request_id,
            method=row.method,
            campaign_id=row.campaign_id,
            principal=row.principal,
            role=row.role,
            peer=row.peer,
            body_digest=row.body_digest,
            create_time=time_from_us(row.create_time_us),
        )
        for row in connection.execute(query)
    ]
