"""Each render, one after another."""

from __future__ import annotations

import pytest

from tests.unit.deploy.manifests import RENDERS, Object, Pod, pods, render


@pytest.fixture(params=RENDERS)
def objects(request: pytest.FixtureRequest) -> tuple[Object, ...]:
    return render(request.param)


@pytest.fixture
def templates(objects: tuple[Object, ...]) -> list[Pod]:
    return pods(objects)
