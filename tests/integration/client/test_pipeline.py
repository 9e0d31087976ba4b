"""The pipeline that the documentation shows runs as written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from isocost.budget.proof import verify_ledger
from isocost.core.money import Money
from tests.integration.client.served import environment, serve_budget

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "docs" / "examples" / "pipeline.py"
#: Pages that show the example.
PAGES = ("README.md", "docs/pipeline.md")


def _run(address: str) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLE)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=environment(ISOCOST_ADDRESS=address),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example_runs_and_a_repeat_buys_nothing(tmp_path: Path) -> None:
    database = tmp_path / "budget.db"
    with serve_budget(database) as address:
        assert _run(address) == "$1.00 of $5.00 spent, $4.00 left\n"
        assert _run(address) == "$1.00 of $5.00 spent, $4.00 left\n"
    (proof,) = verify_ledger(f"sqlite:///{database}")
    assert (proof.n_orders, proof.n_labels, proof.settled) == (1, 2, Money(1_000_000))


@pytest.mark.parametrize("page", PAGES)
def test_pages_show_the_example_word_for_word(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert f"```python\n{EXAMPLE.read_text(encoding='utf-8')}```" in text
