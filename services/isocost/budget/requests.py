"""Idempotency for ever: every mutation's request id, the digest of its body, and its first answer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from google.protobuf.message import Message
from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import IntegrityError

from isocost.budget import schema
from isocost.budget.clock import now_us
from isocost.budget.validation import check_text
from isocost.core.errors import AlreadyExistsError, InvalidArgumentError

__all__ = ["REQUEST_ID_BYTES_MAX", "RequestKey", "answer_once"]

REQUEST_ID_BYTES_MAX = 512


@dataclass(frozen=True, slots=True)
class RequestKey:
    """What a mutation is known by.

    Attributes:
        request_id: The caller's id; globally unique, for ever.
        method: Name of the rpc.
        body_digest: SHA-256 of the whole request.

    Raises:
        InvalidArgumentError: where the request id is empty, too long or not printable.
    """

    request_id: str
    method: str
    body_digest: str

    def __post_init__(self) -> None:
        check_text("request_id", self.request_id, required=True, bytes_max=REQUEST_ID_BYTES_MAX)
        if not self.request_id.isprintable():
            raise InvalidArgumentError("request_id", f"{self.request_id!r} holds a character that cannot be printed")

    @classmethod
    def of(cls, method: str, request_id: str, request: Message) -> RequestKey:
        """The key of a request as it arrived."""
        return cls(request_id, method, hashlib.sha256(request.SerializeToString(deterministic=True)).hexdigest())


def _first_answer(connection: Connection, key: RequestKey) -> bytes:
    """The answer stored under a taken request id.

    Raises:
        AlreadyExistsError: where it was another request's.
    """
    row = connection.execute(select(schema.requests).where(schema.requests.c.request_id == key.request_id)).one()
    if row.method != key.method or row.body_digest != key.body_digest:
        difference = f"by {row.method}" if row.method != key.method else "with another body"
        raise AlreadyExistsError(
            f"{key.request_id!r} was used before {difference}; choose a new id for a new request", field="request_id"
        )
    return bytes(row.response)


def answer_once(connection: Connection, key: RequestKey, work: Callable[[], bytes]) -> bytes:
    """Does the work and stores its answer in the same transaction, or returns the answer stored before.

    The id is claimed before the work: where two transactions race (PostgreSQL), the second waits here for the first
    and then finds its answer. An error leaves the id unused.

    Args:
        connection: A write transaction.
        key: What the mutation is known by.
        work: Makes the answer.

    Raises:
        AlreadyExistsError: where the id was used by another request.
    """
    claim = insert(schema.requests).values(
        request_id=key.request_id,
        method=key.method,
        body_digest=key.body_digest,
        response=b"",
        create_time_us=now_us(),
    )
    try:
        with connection.begin_nested():
            connection.execute(claim)
    except IntegrityError:
        return _first_answer(connection, key)
    answer = work()
    connection.execute(
        update(schema.requests).where(schema.requests.c.request_id == key.request_id).values(response=answer)
    )
    return answer
