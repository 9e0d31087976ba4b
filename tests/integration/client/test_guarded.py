"""Both clients against a service that asks for certificates and tokens, and lets only so many calls through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from isocost.budget.database import Database
from isocost.budget.service import BudgetService
from isocost.budget.settings import BudgetSettings
from isocost.budget.tokens import create_token
from isocost.client import (
    BudgetClient,
    ChannelSettings,
    QueueClient,
    RetryPolicy,
    SyncBudgetClient,
    SyncQueueClient,
    one_hot,
)
from isocost.core.caller import Role
from isocost.core.errors import LimitExceededError, PermissionDeniedError, UnauthenticatedError, UnavailableError
from isocost.core.grpc_server import ServiceHost
from isocost.core.server_settings import ServerSettings
from isocost.resources.label import Label, Purpose
from tests.authority import Authority
from tests.integration.client.running import HUMAN, campaign, items
from tests.unit.client.scripted import QUICK


@dataclass(frozen=True)
class Guarded:
    """A service with mTLS and tokens, and how each role reaches it."""

    address: str
    admin: ChannelSettings
    annotator: ChannelSettings


@asynccontextmanager
async def _guarded(tmp_path: Path, *, calls_per_second_max: float = 0.0) -> AsyncIterator[Guarded]:
    authority = Authority(tmp_path, "authority")
    server_files, client_files = authority.issue("server"), authority.issue("client")
    settings = BudgetSettings(database_url=f"sqlite:///{tmp_path}/budget.db", require_tokens=True)
    database = Database(settings.database_url)
    database.migrate()
    with database.write() as connection:
        _, admin = create_token(connection, "boss", Role.ADMIN, None)
        _, annotator = create_token(connection, "ann", Role.ANNOTATOR, None)
    database.close()
    server = ServerSettings(
        certificate_path=server_files[0],
        key_path=server_files[1],
        client_ca_path=authority.path,
        calls_per_second_max=calls_per_second_max,
        burst_calls=3,
    )
    channel = ChannelSettings(ca_path=authority.path, certificate_path=client_files[0], key_path=client_files[1])
    async with ServiceHost(BudgetService(settings), "127.0.0.1:0", server) as host:
        yield Guarded(host.address, replace(channel, token=admin), replace(channel, token=annotator))


async def test_a_token_and_a_certificate_let_each_role_do_what_it_may(tmp_path: Path) -> None:
    async with _guarded(tmp_path) as guarded:
        async with BudgetClient(guarded.address, channel=guarded.admin, retry=QUICK) as budget:
            await budget.create_campaign("create", campaign())
            await budget.create_source("source", "c", HUMAN)
            await budget.add_items("items", "c", items(5))
            await budget.create_order("order", "c", "human", Purpose.TRAINING, 2)

        def annotate() -> int:
            with SyncQueueClient(guarded.address, channel=guarded.annotator, retry=QUICK) as queue:
                leased = queue.lease_items("lease", "c", "human")
                assert leased.lease is not None
                assert leased.lease.annotator == "ann"
                answers = [Label(item.item_id, one_hot(0, 2)) for item in leased.items]
                return queue.answer_items("answer", leased.lease.lease_id, answers).n_accepted

        assert await asyncio.to_thread(annotate) == 2
        async with BudgetClient(guarded.address, channel=guarded.annotator, retry=QUICK) as budget:
            with pytest.raises(PermissionDeniedError):
                await budget.get_campaign("c")
            with pytest.raises(PermissionDeniedError):
                _ = [entry async for entry in budget.ledger("c")]
            with pytest.raises(PermissionDeniedError):
                await budget.add_items("more", "c", items(5))

        def audit() -> set[tuple[str, str]]:
            with SyncBudgetClient(guarded.address, channel=guarded.admin, retry=QUICK) as budget:
                return {(entry.method, entry.principal) for entry in budget.audit_entries("c")}

        assert {("AnswerItems", "ann"), ("CreateOrder", "boss")} <= await asyncio.to_thread(audit)


async def test_without_them_the_error_says_what_is_missing(tmp_path: Path) -> None:
    async with _guarded(tmp_path) as guarded:
        for token in ("", "no-such-token"):
            async with QueueClient(guarded.address, channel=replace(guarded.admin, token=token), retry=QUICK) as queue:
                with pytest.raises(UnauthenticatedError):
                    await queue.lease_items("lease", "c", "human", "ann")
        for channel in (ChannelSettings(), ChannelSettings(ca_path=guarded.admin.ca_path)):
            async with BudgetClient(guarded.address, channel=channel, retry=QUICK) as budget:
                with pytest.raises(UnavailableError, match="attempt 4 of 4"):
                    await budget.list_campaigns()


async def test_a_limit_of_calls_only_slows_a_client_down(tmp_path: Path) -> None:
    async with _guarded(tmp_path, calls_per_second_max=50) as guarded:
        once = RetryPolicy(attempts_max=1)
        async with BudgetClient(guarded.address, channel=guarded.admin, retry=once) as budget:
            with pytest.raises(LimitExceededError) as refusal:
                await asyncio.gather(*(budget.list_campaigns() for _ in range(20)))
            assert refusal.value.retry_after is not None
        async with BudgetClient(guarded.address, channel=guarded.admin) as budget:
            assert await asyncio.gather(*(budget.list_campaigns() for _ in range(20))) == [[]] * 20
