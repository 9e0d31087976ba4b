from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser

from tests.integration.web.site import Site, browser


@asynccontextmanager
async def _started(*, require_tokens: bool) -> AsyncIterator[Site]:
    # Sockets have short paths, so not in the test's own folder.
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder), require_tokens)
        await site.start()
        yield site
        await site.stop()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """A page whose visitors need tokens."""
    async with _started(require_tokens=True) as site:
        yield site


@pytest.fixture
async def open_site() -> AsyncIterator[Site]:
    """A page whose visitors only say their names."""
    async with _started(require_tokens=False) as site:
        yield site


@pytest.fixture
async def chromium() -> AsyncIterator[Browser]:
    async with browser() as found:
        yield found
