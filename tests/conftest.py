"""What tests share: the PostgreSQL server, and a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.postgres import PostgresServer, find_binaries, running_postgres
from tests.ray_cluster import start_cluster


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for the whole session; skips where there is none, unless ISOCOST_TEST_POSTGRES=required."""
    binaries = find_binaries()
    if binaries is None:
        reason = "PostgreSQL's server binaries are not installed (apt-get install postgresql)"
        if os.environ.get("ISOCOST_TEST_POSTGRES") == "required":
            pytest.fail(reason)
        pytest.skip(reason)
    with running_postgres(binaries, durable=False) as server:
        yield server


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a Ray cluster."""
    with start_cluster() as address:
        yield address
