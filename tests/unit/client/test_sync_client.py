"""The sync clients are the async ones, and nothing is left out of either."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from isocost.client import BudgetClient, QueueClient, SyncBudgetClient, SyncQueueClient
from isocost.client import budget as budget_module
from isocost.client import queue as queue_module
from isocost.v1 import budget_service_pb2, queue_service_pb2

ROOT = Path(__file__).parents[3]
PAIRS = [(BudgetClient, SyncBudgetClient), (QueueClient, SyncQueueClient)]


def test_the_committed_sync_client_is_the_generated_one() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "generate_sync_client"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _signature(function: Any) -> str:
    return re.sub(r"Async(Iterator|Iterable)", r"\1", str(inspect.signature(function)))


@pytest.mark.parametrize(("asynchronous", "sync"), PAIRS)
def test_both_clients_offer_the_same(asynchronous: type, sync: type) -> None:
    for name in dir(asynchronous):
        if name.startswith("_"):
            continue
        ours, theirs = getattr(asynchronous, name), getattr(sync, name)
        assert _signature(ours) == _signature(theirs), name
        assert not inspect.iscoroutinefunction(theirs), name
        assert not inspect.isasyncgenfunction(theirs), name


@pytest.mark.parametrize(
    ("module", "file", "service"),
    [(budget_module, budget_service_pb2, "BudgetService"), (queue_module, queue_service_pb2, "QueueService")],
)
def test_every_rpc_has_a_method(module: Any, file: Any, service: str) -> None:
    source = inspect.getsource(module)
    rpcs = [method.name for method in file.DESCRIPTOR.services_by_name[service].methods]
    assert rpcs
    assert [rpc for rpc in rpcs if f"self._stub.{rpc}," not in source] == []
