"""Bearer tokens: who a caller is, by a secret of which only the hash is stored."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select, update

from isocost.budget import clock, schema
from isocost.budget.database import Database
from isocost.budget.validation import check_text
from isocost.core.caller import Caller, Role
from isocost.core.errors import InvalidArgumentError, NotFoundError
from isocost.core.ids import new_id

__all__ = ["Token", "TokenAuthenticator", "allowed_roles", "create_token", "find_token", "list_tokens", "revoke_token"]

#: So that scanners of repositories and logs recognise a leaked secret.
_PREFIX = "isocost_"
_SECRET_BYTES = 32
#: The prefix and 32 bytes in URL-safe base64: anything of another length is no secret of ours.
_SECRET_CHARACTERS = len(_PREFIX) + 43
_PRINCIPAL_BYTES_MAX = 128
#: Tokens remembered, known and unknown.
_CACHE_MAX = 10_000

_tokens = schema.tokens
_ALL_ROLES = frozenset(Role)
_PIPELINE = frozenset({Role.ADMIN, Role.PIPELINE})
_ADMIN = frozenset({Role.ADMIN})
_BUDGET = "/isocost.v1.BudgetService/"
_ADMIN_METHODS = frozenset({f"{_BUDGET}CreateCorrection", f"{_BUDGET}ListAuditEntries"})
_ANNOTATOR_SERVICES = ("/isocost.v1.QueueService/", "/grpc.reflection.v1alpha.ServerReflection/")


def allowed_roles(method: str) -> frozenset[Role]:
    """The roles that may call a method, named as on the wire.

    Annotators lease and answer, and nothing else; a pipeline does all but correct the ledger and read the audit log.
    """
    if method.startswith(_ANNOTATOR_SERVICES):
        return _ALL_ROLES
    if method.startswith(_BUDGET) and method not in _ADMIN_METHODS:
        return _PIPELINE
    return _ADMIN


@dataclass(frozen=True, slots=True)
class Token:
    """What is known of a token; the secret is not.

    Attributes:
        token_id: Its name, for revoking it.
        principal: Who it stands for; an annotator's answers carry this name.
        role: What it allows.
        create_time_us: When it was made, in microseconds since 1970 UTC.
        expire_time_us: When it ends by itself; None for never.
        revoke_time_us: When it was revoked; None where it was not.
    """

    token_id: str
    principal: str
    role: Role
    create_time_us: int
    expire_time_us: int | None
    revoke_time_us: int | None

    def is_valid(self, now_us: int) -> bool:
        """Whether calls with it are let through."""
        return self.revoke_time_us is None and (self.expire_time_us is None or now_us < self.expire_time_us)


def create_token(connection: Connection, principal: str, role: Role, expire_time_us: int | None) -> tuple[str, str]:
    """Makes a token; returns its id and its secret, which nobody can find out later.

    A principal may have several: make the new one, hand it over, revoke the old one.

    Raises:
        InvalidArgumentError: where the name is empty, too long or unprintable, or the token would have expired.
    """
    check_text("principal", principal, required=True, bytes_max=_PRINCIPAL_BYTES_MAX)
    if not principal.isprintable():
        raise InvalidArgumentError("principal", f"{principal!r} holds characters that cannot be printed; remove them")
    now_us = clock.now_us()
    if expire_time_us is not None and expire_time_us <= now_us:
        raise InvalidArgumentError("expire_time", "lies in the past; give a later time, or none")
    token_id, secret = new_id("token"), _PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
    connection.execute(
        _tokens.insert().values(
            token_id=token_id,
            principal=principal,
            role=role.value,
            digest=_digest(secret),
            create_time_us=now_us,
            expire_time_us=expire_time_us,
            revoke_time_us=None,
        )
    )
    return token_id, secret


def find_token(connection: Connection, secret: str) -> Token | None:
    """The token with a secret, expired and revoked ones too; None where there is none."""
    return _find_digest(connection, _digest(secret))


def list_tokens(connection: Connection) -> list[Token]:
    """All tokens, oldest first."""
    return [_token(row) for row in connection.execute(_select().order_by(_tokens.c.create_time_us, _tokens.c.token_id))]


def revoke_token(connection: Connection, token_id: str) -> Token:
    """Ends a token for good; one that is revoked already stays as it is.

    Raises:
        NotFoundError: where there is no such token.
    """
    connection.execute(
        update(_tokens)
        .where(_tokens.c.token_id == token_id, _tokens.c.revoke_time_us.is_(None))
        .values(revoke_time_us=clock.now_us())
    )
    row = connection.execute(_select().where(_tokens.c.token_id == token_id)).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no token {token_id!r}; isocost token list names them", field="token_id")
    return _token(row)


class TokenAuthenticator:
    """Knows the tokens of a database, and remembers them for a few seconds, so that a call costs no query.

    A token that is revoked is refused by every server once its memory of the token is over.

    Args:
        database: Where the tokens are.
        cache_seconds: How long a token is remembered.
        monotonic: Seconds.
    """

    def __init__(
        self, database: Database, *, cache_seconds: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._cache_seconds = cache_seconds
        self._monotonic = monotonic
        self._cache: dict[str, tuple[float, Token | None, Caller | None]] = {}

    async def authenticate(self, secret: str) -> Caller | None:
        """The caller to whom a token belongs; None where it is unknown, expired or revoked.

        Raises:
            UnavailableError: where the database is away.
        """
        if len(secret) != _SECRET_CHARACTERS or not secret.startswith(_PREFIX):
            return None
        # The memory holds no secrets either.
        digest, now = _digest(secret), self._monotonic()
        known = self._cache.get(digest)
        if known is None or known[0] <= now:
            token = await self._database.run_read(lambda connection: _find_digest(connection, digest))
            known = self._remember(digest, now, token)
        _, token, caller = known
        return caller if token is not None and token.is_valid(clock.now_us()) else None

    def _remember(self, digest: str, now: float, token: Token | None) -> tuple[float, Token | None, Caller | None]:
        if len(self._cache) >= _CACHE_MAX:
            self._cache = {key: known for key, known in self._cache.items() if known[0] > now}
        if len(self._cache) >= _CACHE_MAX:
            self._cache.clear()
        caller = Caller(token.principal, token.role) if token is not None else None
        known = self._cache[digest] = (now + self._cache_seconds, token, caller)
        return known


def _digest(secret: str) -> str:
    # A plain hash is enough: nobody guesses 32 random bytes, however fast they may try.
    return hashlib.sha256(secret.encode()).hexdigest()


def _find_digest(connection: Connection, digest: str) -> Token | None:
    row = connection.execute(_select().where(_tokens.c.digest == digest)).one_or_none()
    return _token(row) if row is not None else None


def _select() -> Any:
    return select(*(column for column in _tokens.c if column is not _tokens.c.digest))


def _token(row: Any) -> Token:
    return Token(
        token_id=row.token_id,
        principal=row.principal,
        role=Role(row.role),
        create_time_us=row.create_time_us,
        expire_time_us=row.expire_time_us,
        revoke_time_us=row.revoke_time_us,
    )
