"""`isocost export` and `isocost ledger verify`, as a user runs them."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from isocost.budget.service import BudgetService
from isocost.budget.settings import BudgetSettings
from isocost.cli.app import main
from isocost.client import BudgetClient, Label, Purpose, QueueClient, one_hot
from isocost.client.row_file import read_rows
from isocost.core.grpc_server import ServiceHost
from tests.integration.client.running import Running
from tests.integration.client.served import isocost, serve_budget

N_ITEMS = 30
KINDS = {"items": N_ITEMS, "labels": 7, "ledger": 9, "consensus": 2, "orders": 2, "audit": 9}


async def _fill(database: Path) -> None:
    """Five weak labels, and two human ones through the queue."""
    service = BudgetService(BudgetSettings(database_url=f"sqlite:///{database}"))
    async with ServiceHost(service, "127.0.0.1:0") as host:
        await Running(host.address, "").create(n_items=N_ITEMS)
        async with BudgetClient(host.address) as budget, QueueClient(host.address) as queue:
            weak = await budget.create_order("o1", "c", "weak", Purpose.TRAINING, 5)
            ids = [item.item_id async for item in budget.order_items(weak.order_id)]
            await budget.submit_labels("s1", weak.order_id, [Label(each, (0.25, 0.75)) for each in ids])
            await budget.create_order("o2", "c", "human", Purpose.EVALUATION, 2)
            leased = await queue.lease_items("l", "c", "human", "ann")
            assert leased.lease is not None
            answers = [Label(item.item_id, one_hot(1, 2)) for item in leased.items]
            await queue.answer_items("a", leased.lease.lease_id, answers)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder with a campaign, as `isocost run` leaves one."""
    out = tmp_path_factory.mktemp("out")
    (out / "state").mkdir()
    asyncio.run(_fill(out / "state" / "budget.db"))
    return out


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, out: Path) -> Iterator[str]:
    """The same campaign, served by another process."""
    copy = tmp_path_factory.mktemp("served") / "budget.db"
    with sqlite3.connect(out / "state" / "budget.db") as source, sqlite3.connect(copy) as target:
        source.backup(target)
    with serve_budget(copy) as address:
        yield address


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """The command in this process; its exit code."""
    monkeypatch.setattr("sys.argv", ["isocost", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    code = ended.value.code
    assert code is None or isinstance(code, int)
    return code or 0


def _rows(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if path.suffix == ".csv":
        return [row for _, row in read_rows(path)]
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", ["jsonl", "parquet", "csv"])
def test_each_kind_is_exported_from_a_folder(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    out: Path,
    tmp_path: Path,
    kind: str,
    suffix: str,
) -> None:
    file = tmp_path / f"{kind}.{suffix}"
    source = ["--source", "human"] if kind == "consensus" else []
    assert _run(monkeypatch, "export", kind, "--campaign", "c", "--out", out, "--file", file, *source) == 0
    assert f"({KINDS[kind]} rows)" in capsys.readouterr().out
    assert len(_rows(file)) == KINDS[kind]


def test_an_export_of_a_served_campaign_is_the_same(out: Path, address: str, tmp_path: Path) -> None:
    here, there = tmp_path / "here.jsonl", tmp_path / "there.jsonl"
    assert isocost("export", "labels", "--campaign", "c", "--out", out, "--file", here).returncode == 0
    done = isocost("export", "labels", "--campaign", "c", "--address", address, "--file", there, "--source", "weak")
    assert done.returncode == 0, done.stderr
    rows = _rows(here)
    assert _rows(there) == rows[:5]
    assert {row["source_id"] for row in rows} == {"weak", "human"}
    assert [row["annotator"] for row in rows[5:]] == ["ann", "ann"]
    assert all(row["lease_id"].startswith("lease-") and row["purpose"] == "evaluation" for row in rows[5:])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "OUT", "--file", "x.txt"], "ends in none of .jsonl, .parquet and .csv"),
        (["--file", "x.jsonl"], "give either --out DIR or --address HOST:PORT"),
        (["--out", "nowhere", "--file", "x.jsonl"], "holds no campaign"),
        (["--out", "OUT", "--file", "x.jsonl", "--source", "human"], "--source: says nothing about items"),
        (["--address", "budget.example.org:1", "--token", "s", "--file", "x.jsonl"], "unencrypted"),
        (["--address", "127.0.0.1:1", "--ca-file", "nowhere.pem", "--file", "x.jsonl"], "ca_path: 'nowhere.pem'"),
        (["--address", "127.0.0.1:1", "--cert-file", "c.pem", "--file", "x.jsonl"], "key_path: give both"),
    ],
)
def test_mistakes_of_an_export_are_named(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    out: Path,
    tmp_path: Path,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [str(out) if argument == "OUT" else argument for argument in arguments]
    assert _run(monkeypatch, "export", "items", "--campaign", "c", *given) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_consensus_needs_a_source(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], out: Path
) -> None:
    assert _run(monkeypatch, "export", "consensus", "--campaign", "c", "--out", out, "--file", "x.jsonl") == 2
    assert "--source: not given" in capsys.readouterr().err


def test_an_unknown_campaign_leaves_no_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], out: Path, tmp_path: Path
) -> None:
    assert _run(monkeypatch, "export", "items", "--campaign", "x", "--out", out, "--file", tmp_path / "x.parquet") == 1
    assert "'x'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_token_comes_from_the_environment(address: str, tmp_path: Path) -> None:
    """A token for a server on loopback that asks for none is sent and does no harm; beyond loopback it is not sent."""
    done = isocost(
        "export", "items", "--campaign", "c", "--address", address, "--file", tmp_path / "a.jsonl", ISOCOST_TOKEN="s"
    )
    assert done.returncode == 0, done.stderr
    done = isocost("status", "--address", "budget.example.org:1", ISOCOST_TOKEN="s")
    assert done.returncode == 2
    assert "unencrypted" in done.stderr


def test_a_sound_ledger_is_proved(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], out: Path
) -> None:
    assert _run(monkeypatch, "ledger", "verify", "--out", out) == 0
    printed = capsys.readouterr().out
    assert "$0.205" in printed
    assert "proved  1 campaign" in printed
    url = f"sqlite:///{out / 'state' / 'budget.db'}"
    assert _run(monkeypatch, "ledger", "verify", "--database-url", url, "--campaign", "c") == 0
    # As in the service's container, whose environment names its database; --out goes before it.
    monkeypatch.setenv("ISOCOST_BUDGET_DATABASE_URL", url)
    assert _run(monkeypatch, "ledger", "verify", "--campaign", "c") == 0
    monkeypatch.setenv("ISOCOST_BUDGET_DATABASE_URL", "sqlite:///nowhere.db")
    assert _run(monkeypatch, "ledger", "verify", "--out", out) == 0


def test_a_damaged_ledger_is_exit_code_1_and_its_first_discrepancy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], out: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "budget.db"
    with sqlite3.connect(out / "state" / "budget.db") as source, sqlite3.connect(copy) as target:
        source.backup(target)
        # As someone would who edits the file: the database itself refuses to change a row of the ledger.
        triggers = target.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for (name,) in triggers:
            target.execute(f'DROP TRIGGER "{name}"')
        target.execute("UPDATE ledger_entries SET amount_micros = amount_micros + 1 WHERE sequence = 3")
    assert _run(monkeypatch, "ledger", "verify", "--database-url", f"sqlite:///{copy}") == 1
    assert "the ledger of campaign 'c' is damaged: entry 3" in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "give either --out DIR or --database-url URL"),
        (["--database-url", "budget.db"], 2, "is not a URL"),
        (["--database-url", "sqlite:///nowhere.db"], 1, "there is no database"),
        (["--out", "OUT", "--campaign", "x"], 1, "'x'"),
    ],
)
def test_mistakes_of_a_proof_are_named(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    out: Path,
    tmp_path: Path,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [str(out) if argument == "OUT" else argument for argument in arguments]
    assert _run(monkeypatch, "ledger", "verify", *given) == code
    assert message in capsys.readouterr().err
