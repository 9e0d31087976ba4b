"""Campaigns that several tests look at."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.campaigns import isocost, small_campaign, write_campaign


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a small campaign that ran to its end, weak labels made in process."""
    folder = tmp_path_factory.mktemp("undisturbed")
    path = write_campaign(folder, small_campaign())
    done = isocost("run", path, "--out", folder / "out", "--engine", "transformers")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "out"
