"""One Label Studio for all tests: its first start takes half a minute."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.integration.label_studio.studio import Studio, find_label_studio, free_port, is_required


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A running Label Studio with two annotators; skips without, unless ISOCOST_TEST_LABEL_STUDIO=required."""
    program = find_label_studio()
    if program is None:
        reason = "Label Studio is not installed (make .venv-label-studio/.ready)"
        if is_required():
            pytest.fail(reason)
        pytest.skip(reason)
    studio = Studio(program, tmp_path_factory.mktemp("label_studio"), free_port())
    try:
        asyncio.run(studio.start("ann@example.com", "bob@example.com"))
        yield studio
    finally:
        if studio.command is not None and not studio.command.has_ended:
            asyncio.run(studio.command.stop())
