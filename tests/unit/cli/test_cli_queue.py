"""`isocost queue`: what it says on a folder as `isocost run` leaves one, and what its exit codes are."""

from __future__ import annotations

import asyncio
import fcntl
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from isocost.budget.service import BudgetService
from isocost.budget.settings import BudgetSettings
from isocost.cli.app import main
from isocost.client import BudgetClient, Campaign, Item, Label, Money, Purpose, QueueClient, Source, SourceKind, Task
from isocost.core.errors import UnavailableError
from isocost.core.grpc_server import ServiceHost

TASK = Task("claims", "Is it true that {claim}?", ("[no]", "yes"))
N_ITEMS = 14


async def create(budget: BudgetClient, _: QueueClient) -> None:
    await budget.create_campaign("create", Campaign("c", TASK, Money(20_000_000), "strong"))
    for source_id, kind in (("weak", SourceKind.MODEL), ("human", SourceKind.HUMAN)):
        await budget.create_source(source_id, "c", Source(source_id, kind, Money(500_000)))
    await budget.add_items("items", "c", [Item(f"i{n}", {"claim": f"[b]{n}"}) for n in range(N_ITEMS)])
    await budget.create_order("order", "c", "human", Purpose.TRAINING, N_ITEMS)


async def serve(out: Path, work: Any) -> Any:
    """Does something with the budget service of a folder."""
    service = BudgetService(BudgetSettings(database_url=f"sqlite:///{out}/state/budget.db"))
    async with (
        ServiceHost(service, "127.0.0.1:0") as host,
        BudgetClient(host.address) as budget,
        QueueClient(host.address) as queue,
    ):
        return await work(budget, queue)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder with a campaign that waits for labels."""
    out = tmp_path / "out"
    (out / "state").mkdir(parents=True)
    asyncio.run(serve(out, create))
    return out


@pytest.fixture
def run(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs `isocost queue` beside the folder; its exit code and what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        place = () if "--address" in arguments else ("--out", str(out))
        monkeypatch.setattr("sys.argv", ["isocost", "queue", *arguments, *place])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        captured = capsys.readouterr()
        return code or 0, captured.out + captured.err

    return run


def fill(**columns: list[str | None]) -> None:
    frame = pl.read_csv("items.csv", infer_schema=False)
    frame.with_columns(**{name: pl.Series(cells, dtype=pl.String) for name, cells in columns.items()}).write_csv(
        "items.csv"
    )


def test_a_file_goes_out_and_in_with_words_about_both(run: Any) -> None:
    code, said = run("export", "c", "items.csv", "--annotator", "ann", "--n-items", "3")
    assert code == 0
    assert "3 items to ann until 20" in said
    assert "put '[no]' or 'yes' into the column label" in said
    assert "isocost queue import items.csv --campaign c --source human --" in said
    fill(label=["yes", "[no]", None])
    code, said = run("import", "items.csv", "--campaign", "c")
    assert code == 0
    assert [line.split(maxsplit=1) for line in said.splitlines()] == [
        ["accepted", "2  ($1.00 settled)"],
        ["duplicate", "0"],
        ["unanswered", "1"],
        ["refused", "0"],
    ]
    code, said = run("import", "items.csv", "--campaign", "c", "--release")
    assert code == 0
    assert "accepted    0  ($0.00 settled)" in said
    assert "given back  1\n" in said
    code, said = run("import", "items.csv", "--campaign", "c", "--release")
    assert code == 0
    assert "given back" not in said


def test_refused_answers_are_listed_and_are_exit_code_1(run: Any, out: Path) -> None:
    assert run("export", "c", "items.csv", "--annotator", "ann")[0] == 0
    fill(label=["yes"] * N_ITEMS)

    async def hand_to_bob(budget: BudgetClient, queue: QueueClient) -> None:
        (lease,) = await budget.list_leases("c")
        await queue.release_lease("release", lease.lease_id)
        leased = await queue.lease_items("bob", "c", "human", "bob", 12)
        assert leased.lease is not None
        await queue.answer_items("a", leased.lease.lease_id, [Label(item.item_id, (0, 1)) for item in leased.items])

    asyncio.run(serve(out, hand_to_bob))
    code, said = run("import", "items.csv", "--campaign", "c")
    assert code == 1
    assert "accepted    2  ($1.00 settled)" in said
    assert said.count("awaits no answer any more") == 10
    assert "and 2 more" in said


@pytest.mark.parametrize(
    ("arguments", "label", "message"),
    [
        (
            ["import", "items.csv", "--campaign", "c"],
            "perhaps",
            "FILE: 'items.csv', row 2, column 'label': 'perhaps' for",
        ),
        (["import", "items.csv", "--campaign", "x"], "yes", "--campaign: "),
        (["import", "items.csv", "--campaign", "c", "--source", "weak"], "yes", "--source: 'weak' is no HUMAN source"),
        (["import", "nowhere.csv", "--campaign", "c"], "yes", "FILE: there is no file 'nowhere.csv'"),
        (["export", "c", "items.csv"], "yes", "FILE: 'items.csv' is there already"),
        (["export", "c", "items.xlsx"], "yes", "FILE: 'items.xlsx' ends in none of .jsonl, .parquet and .csv"),
        (["export", "x", "new.csv"], "yes", "CAMPAIGN: "),
        (["export", "c", "new.csv", "--source", "weak"], "yes", "--source: "),
        (["export", "c", "new.csv", "--address", "127.0.0.1:1", "--out", "out"], "yes", "give either --out DIR or"),
    ],
)
def test_a_mistake_is_named_and_stores_nothing(
    run: Any, out: Path, arguments: list[str], label: str, message: str
) -> None:
    assert run("export", "c", "items.csv", "--annotator", "ann", "--n-items", "3")[0] == 0
    fill(label=[label, "yes", "yes"])
    code, said = run(*arguments)
    assert code == 2, said
    assert message in said

    async def n_labels(budget: BudgetClient, _: QueueClient) -> int:
        return len([each async for each in budget.labels("c")])

    assert asyncio.run(serve(out, n_labels)) == 0
    assert not Path("new.csv").exists()


def test_a_service_that_goes_away_leaves_word_of_what_is_stored(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in ("items.csv", "more.csv"):
        assert run("export", "c", file, "--annotator", "ann", "--n-items", "3")[0] == 0
    pl.concat(pl.read_csv(file, infer_schema=False) for file in ("items.csv", "more.csv")).write_csv("items.csv")
    fill(label=["yes"] * 6)
    answer = QueueClient.answer_items
    calls: list[str] = []

    async def answer_once(queue: QueueClient, request_id: str, lease_id: str, labels: Any) -> Any:
        calls.append(request_id)
        if len(calls) == 2:
            raise UnavailableError("away")
        return await answer(queue, request_id, lease_id, labels)

    monkeypatch.setattr(QueueClient, "answer_items", answer_once)
    code, said = run("import", "items.csv", "--campaign", "c")
    assert code == 1
    assert "accepted    3  ($1.50 settled)" in said
    assert "The rest is not stored yet; the same command goes on." in said
    assert "error: away" in said
    code, said = run("import", "items.csv", "--campaign", "c")
    assert (code, "accepted    3  ($1.50 settled)\nduplicate   3" in said) == (0, True)


def test_where_nothing_waits_there_is_no_file(run: Any) -> None:
    assert run("export", "c", "items.jsonl", "--annotator", "ann")[0] == 0
    code, said = run("export", "c", "more.jsonl", "--annotator", "bob")
    assert (code, Path("more.jsonl").exists()) == (0, False)
    assert "Nothing waits for this annotator" in said


def test_a_folder_that_is_at_work_is_left_alone(run: Any, out: Path) -> None:
    with (out / "state" / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        code, said = run("export", "c", "items.csv", "--annotator", "ann")
    assert code == 1
    assert "another isocost process is running" in said
    assert not Path("items.csv").exists()
