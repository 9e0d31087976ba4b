from __future__ import annotations

from pathlib import Path

import pytest

_DATA = Path(__file__).parents[4] / "shared" / "data"


@pytest.fixture
def shared_data() -> Path:
    """Folder of real tasks' data, which the repository does not hold."""
    if not _DATA.is_dir():
        pytest.skip(f"there are no data at {_DATA}")
    return _DATA
