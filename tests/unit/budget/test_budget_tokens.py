"""Tokens in the database, who they let in, and for how long."""

from __future__ import annotations

import hashlib
import re

import pytest
from sqlalchemy import text

from isocost.budget import clock, tokens
from isocost.budget.database import Database
from isocost.budget.tokens import (
    TokenAuthenticator,
    allowed_roles,
    create_token,
    find_token,
    list_tokens,
    revoke_token,
)
from isocost.core.caller import Caller, Role
from isocost.core.errors import InvalidArgumentError, NotFoundError
from isocost.v1 import budget_service_pb2, queue_service_pb2

MINUTE_US = 60_000_000


class Monotonic:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def monotonic() -> Monotonic:
    return Monotonic()


@pytest.fixture
def authenticator(database: Database, monotonic: Monotonic) -> TokenAuthenticator:
    return TokenAuthenticator(database, cache_seconds=5.0, monotonic=monotonic)


def make(database: Database, role: Role = Role.ANNOTATOR, *, expire_time_us: int | None = None) -> tuple[str, str]:
    with database.write() as connection:
        return create_token(connection, "ann1", role, expire_time_us)


def test_only_the_hash_is_stored(database: Database) -> None:
    token_id, secret = make(database)
    assert re.fullmatch(r"isocost_[A-Za-z0-9_-]{43}", secret)
    with database.read() as connection:
        (row,) = connection.execute(text("SELECT * FROM tokens"))
        assert secret not in str(row)
        assert row.digest == hashlib.sha256(secret.encode()).hexdigest()
        found = find_token(connection, secret)
        assert found is not None
        assert (found.token_id, found.principal, found.role) == (token_id, "ann1", Role.ANNOTATOR)
        assert found.is_valid(clock.now_us())
        assert find_token(connection, f"{secret[:-1]}!") is None


def test_a_principal_may_have_several_tokens(database: Database) -> None:
    first, second = make(database), make(database)
    assert first[1] != second[1]
    with database.write() as connection:
        revoke_token(connection, first[0])
    with database.read() as connection:
        valid = {token.token_id: token.is_valid(clock.now_us()) for token in list_tokens(connection)}
    assert valid == {first[0]: False, second[0]: True}


def test_a_token_ends_by_itself(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    now_us = clock.now_us()
    monkeypatch.setattr(clock, "now_us", lambda: now_us)
    _, secret = make(database, expire_time_us=now_us + MINUTE_US)
    with database.read() as connection:
        token = find_token(connection, secret)
    assert token is not None
    assert token.is_valid(now_us + MINUTE_US - 1)
    assert not token.is_valid(now_us + MINUTE_US)


def test_revoking_again_changes_nothing(database: Database) -> None:
    token_id, _ = make(database)
    with database.write() as connection:
        first = revoke_token(connection, token_id)
        assert first.revoke_time_us is not None
        assert revoke_token(connection, token_id) == first
        with pytest.raises(NotFoundError, match="isocost token list"):
            revoke_token(connection, "token-x")


@pytest.mark.parametrize("principal", ["", "two\nlines", "nul\0", "long" * 100])
def test_names_are_checked(database: Database, principal: str) -> None:
    with database.write() as connection, pytest.raises(InvalidArgumentError, match="principal"):
        create_token(connection, principal, Role.ADMIN, None)


def test_a_token_may_not_be_born_expired(database: Database) -> None:
    with pytest.raises(InvalidArgumentError, match="expire_time"):
        make(database, expire_time_us=clock.now_us())


async def test_a_token_is_asked_for_once_in_a_while(
    database: Database, authenticator: TokenAuthenticator, monotonic: Monotonic
) -> None:
    token_id, secret = make(database)
    assert await authenticator.authenticate(secret) == Caller("ann1", Role.ANNOTATOR)
    with database.write() as connection:
        revoke_token(connection, token_id)
    # Remembered: another server's revocation shows when the memory is over, and not later.
    monotonic.seconds = 4.9
    assert await authenticator.authenticate(secret) == Caller("ann1", Role.ANNOTATOR)
    monotonic.seconds = 5.0
    assert await authenticator.authenticate(secret) is None


async def test_an_expired_token_is_refused_even_where_it_is_remembered(
    database: Database, authenticator: TokenAuthenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_us = clock.now_us()
    _, secret = make(database, expire_time_us=now_us + MINUTE_US)
    assert await authenticator.authenticate(secret) is not None
    monkeypatch.setattr(clock, "now_us", lambda: now_us + MINUTE_US)
    assert await authenticator.authenticate(secret) is None


async def test_what_is_no_secret_of_ours_costs_no_query(
    database: Database, authenticator: TokenAuthenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_query(*_: object) -> None:
        raise AssertionError("asked the database")

    monkeypatch.setattr(database, "run_read", no_query)
    for secret in ("", "guess", "isocost_short", "Isocost_" + "x" * 43, "isocost_" + "x" * 44):
        assert await authenticator.authenticate(secret) is None


async def test_the_memory_is_bounded_and_refuses_the_unknown(
    database: Database, authenticator: TokenAuthenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "_CACHE_MAX", 3)
    _, secret = make(database)
    for number in range(10):
        assert await authenticator.authenticate(f"isocost_{number:043}") is None
        assert await authenticator.authenticate(secret) is not None
        assert len(authenticator._cache) <= 3


def test_the_roles_of_every_method() -> None:
    """A new rpc shows up here, so that somebody decides who may call it."""
    budget = budget_service_pb2.DESCRIPTOR.services_by_name["BudgetService"]
    queue = queue_service_pb2.DESCRIPTOR.services_by_name["QueueService"]
    roles = {
        method.full_name.removeprefix("isocost.v1."): allowed_roles(f"/{service.full_name}/{method.name}")
        for service in (budget, queue)
        for method in service.methods
    }
    assert {method for method, allowed in roles.items() if Role.ANNOTATOR in allowed} == {
        "QueueService.GetCaller",
        "QueueService.ListQueues",
        "QueueService.LeaseItems",
        "QueueService.ExtendLease",
        "QueueService.AnswerItems",
        "QueueService.ReleaseLease",
    }
    assert {method for method, allowed in roles.items() if Role.PIPELINE not in allowed} == {
        "BudgetService.CreateCorrection",
        "BudgetService.ListAuditEntries",
    }
    assert all(Role.ADMIN in allowed for allowed in roles.values())
    assert len(roles) >= 30
    assert allowed_roles("/isocost.v1.NewService/Anything") == {Role.ADMIN}
