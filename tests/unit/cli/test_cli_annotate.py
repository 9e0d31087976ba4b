"""`isocost annotate`: on a folder as `isocost run` leaves one, and at a service that asks for tokens."""

from __future__ import annotations

import asyncio
import fcntl
import io
import os
import signal
import subprocess
import sys
import termios
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from isocost.budget import clock
from isocost.budget.database import Database
from isocost.budget.service import BudgetService
from isocost.budget.settings import BudgetSettings
from isocost.budget.tokens import create_token
from isocost.cli.annotate_session import AnnotateSession, Seat
from isocost.cli.annotate_view import print_item
from isocost.cli.app import app
from isocost.cli.keyboard import End, Keyboard
from isocost.client import (
    BudgetClient,
    Campaign,
    Item,
    Label,
    Money,
    Purpose,
    QueueClient,
    Source,
    SourceKind,
    SyncQueueClient,
    Task,
    one_hot,
)
from isocost.client.attended import ATTENDED_LEASE_DURATION
from isocost.core.caller import Role
from isocost.core.errors import FailedPreconditionError, InvalidArgumentError, UnavailableError
from isocost.core.grpc_server import ServiceHost
from isocost.tasks.choice_keys import ChoiceKeys

N_LABELS = 5
PRICE = 500_000
TASK = Task("claims", "Is it true that {claim}?", ("no", "yes"))
SHOWN = "Is it true that"


async def create(budget: BudgetClient, campaign_id: str = "c") -> None:
    await budget.create_campaign(campaign_id, Campaign(campaign_id, TASK, Money(20_000_000), "strong"))
    for source_id, kind in (("weak", SourceKind.MODEL), ("human", SourceKind.HUMAN)):
        await budget.create_source(f"{campaign_id}/{source_id}", campaign_id, Source(source_id, kind, Money(PRICE)))
    await budget.add_items(f"{campaign_id}/i", campaign_id, [Item(f"i{n}", {"claim": f"[b]{n}"}) for n in range(9)])
    await budget.create_order(f"{campaign_id}/o", campaign_id, "human", Purpose.TRAINING, N_LABELS)


async def serve(out: Path, work: Any) -> Any:
    """Does something with the budget service of a folder."""
    service = BudgetService(BudgetSettings(database_url=f"sqlite:///{out}/state/budget.db"))
    async with ServiceHost(service, "127.0.0.1:0") as host, BudgetClient(host.address) as budget:
        return await work(budget)


async def bought(budget: BudgetClient, campaign_id: str = "c") -> tuple[list[Label], int]:
    """The labels of a campaign, and the micros that it has spent."""
    labels = [labelled.label async for labelled in budget.labels(campaign_id)]
    return labels, (await budget.get_campaign(campaign_id)).balance.settled.micros


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder with one campaign that waits for five labels."""
    (tmp_path / "state").mkdir()
    asyncio.run(serve(tmp_path, create))
    return tmp_path


def run(out: Path, keys: str, *arguments: str) -> Result:
    """The command with keys, one a line."""
    return CliRunner().invoke(app, ["annotate", "--out", str(out), *arguments], input="".join(f"{k}\n" for k in keys))


def stored(out: Path) -> tuple[list[Label], int]:
    found: tuple[list[Label], int] = asyncio.run(serve(out, bought))
    return found


def choices(out: Path) -> list[int]:
    return [label.choice for label in stored(out)[0]]


def test_one_key_a_label_until_nothing_waits(out: Path) -> None:
    result = run(out, "12ny1", "--annotator", "ann", "--batch", "2")
    assert result.exit_code == 0, result.output
    labels, settled = stored(out)
    assert [label.choice for label in labels] == [0, 1, 0, 1, 0]
    assert len({label.item_id for label in labels}) == N_LABELS
    assert {label.annotator for label in labels} == {"ann"}
    assert settled == N_LABELS * PRICE
    # Markup in an item's text is text.
    assert "Is it true that [b]" in result.stdout
    assert "0 of 5 answered; $0.00 earned here; $0.00 of $20.00 spent" in result.stdout
    assert "4 of 5 answered; $2.00 earned here; $2.00 of $20.00 spent" in result.stdout
    assert "Nothing waits for an answer." in result.stdout
    assert "5 stored in this session; 5 of 5 answered; $2.50 earned here; $2.50 of $20.00 spent." in result.stdout
    again = run(out, "1", "--annotator", "ann")
    assert (again.exit_code, again.stdout.count(SHOWN)) == (0, 0)
    assert "Nothing waits for an answer." in again.stdout


def test_undo_takes_back_the_last_answer_that_is_not_stored(out: Path) -> None:
    # The first is taken back and answered otherwise; of two undos in sequence the second has nothing left.
    result = run(out, "1u2" + "11u" + "u" + "2q")
    assert result.exit_code == 0, result.output
    assert choices(out) == [1, 0, 1]
    assert result.stdout.count("nothing to undo") == 1
    assert "3 stored in this session" in result.stdout


def test_what_is_skipped_is_given_back_and_not_shown_again(out: Path) -> None:
    result = run(out, "ss" + "111", "--batch", "2")
    assert result.exit_code == 0, result.output
    assert result.stdout.count(SHOWN) == N_LABELS
    assert "Only items that you skipped are left" in result.stdout
    labels, settled = stored(out)
    assert (len(labels), settled) == (3, 3 * PRICE)
    # Another day they are there again.
    assert run(out, "22").exit_code == 0
    assert choices(out) == [0, 0, 0, 1, 1]


def test_a_skip_can_be_taken_back(out: Path) -> None:
    assert run(out, "su2q").exit_code == 0
    assert choices(out) == [1]


@pytest.mark.parametrize("keys", ["12q", "12"])
def test_at_quit_and_at_the_end_of_input_every_answer_is_stored_and_the_rest_given_back(out: Path, keys: str) -> None:
    assert run(out, keys, "--annotator", "ann").exit_code == 0
    assert choices(out) == [0, 1]
    # Nothing is in the first one's hands any more.
    assert run(out, "111", "--annotator", "bob").exit_code == 0
    labels, settled = stored(out)
    assert [label.annotator for label in labels] == ["ann"] * 2 + ["bob"] * 3
    assert settled == N_LABELS * PRICE


def test_a_key_that_means_nothing_is_named_and_answers_nothing(out: Path) -> None:
    result = run(out, "3x0?2q")
    assert result.exit_code == 0
    assert choices(out) == [1]
    for key in ("3", "x", "0"):
        assert f"'{key}' means nothing here" in result.stdout
    assert "takes the last answer back, until it is stored" in result.stdout


def test_the_letters_of_choices_are_those_that_nothing_else_has() -> None:
    keys = ChoiceKeys(("sports", " world", "business", "Sci", "bio", "quality", "Äther"))
    assert [keys.choice(key) for key in "wWäsqbu7890"] == [1, 1, 6, None, None, None, None, 6, None, None, None]
    assert not keys.needs_enter
    many = ChoiceKeys([f"choice {n}" for n in range(12)])
    assert many.needs_enter
    assert [many.choice(key) for key in ("1", "12", "13", "c", "²")] == [0, 11, None, None, None]


def test_an_items_text_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    item = Item("i", {"claim": "\x1b]0;owned\x07\x1b[2J\x9b31m\ttabs\nand lines\r stay"})
    print_item(TASK, item, ChoiceKeys(("a\x1b[2J", "b")), "here")
    said = capsys.readouterr().out
    assert not set("\x1b\x07\x9b\r") & set(said)
    assert "and lines" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x"], "CAMPAIGN: there is no campaign 'x'; name one of c"),
        (["--source", "x"], "--source: campaign 'c' has no source 'x'"),
        (["--source", "weak"], "--source: 'weak' is a model"),
        (["--annotator", ""], "--annotator: "),
        (["--address", "127.0.0.1:1"], "--out: give either"),
    ],
)
def test_what_is_wrong_is_named_by_its_option(out: Path, arguments: list[str], message: str) -> None:
    result = run(out, "1", *arguments)
    assert isinstance(result.exception, InvalidArgumentError), result.output
    assert str(result.exception).startswith(message)
    assert stored(out) == ([], 0)


def test_of_several_campaigns_one_is_named(out: Path) -> None:
    asyncio.run(serve(out, lambda budget: create(budget, "d")))
    result = run(out, "1")
    assert str(result.exception) == "CAMPAIGN: not given; name one of c, d"
    assert run(out, "1q", "d").exit_code == 0
    assert len(asyncio.run(serve(out, lambda budget: bought(budget, "d")))[0]) == 1


def test_a_folder_in_which_isocost_runs_is_left_alone(out: Path) -> None:
    with (out / "state" / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        result = run(out, "1")
    assert isinstance(result.exception, FailedPreconditionError)
    assert "another isocost process is running" in str(result.exception)


@contextmanager
def started(*arguments: str, token: str = "") -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", "from isocost.cli.app import main; main()", "annotate", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "200", "ISOCOST_TOKEN": token},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def press(process: subprocess.Popen[str], keys: str, n_shown: int) -> None:
    """Presses keys, and waits until so many more items were shown."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("".join(f"{key}\n" for key in keys))
    process.stdin.flush()
    said = []
    for line in process.stdout:
        said.append(line)
        n_shown -= SHOWN in line
        if not n_shown:
            return
    pytest.fail("".join(said))


def test_killed_in_the_middle_the_same_command_goes_on_and_pays_nothing_twice(out: Path) -> None:
    with started("--out", str(out), "--annotator", "ann") as process:
        press(process, "212", n_shown=4)
        process.kill()
        process.wait()
    # The third answer was held: it could have been taken back.
    assert choices(out) == [1, 0]
    result = run(out, "222", "--annotator", "ann")
    assert result.exit_code == 0, result.output
    labels, settled = stored(out)
    assert [label.choice for label in labels] == [1, 0, 1, 1, 1]
    assert len({label.item_id for label in labels}) == N_LABELS
    assert settled == N_LABELS * PRICE


def test_ctrl_c_stores_what_was_answered_and_gives_the_rest_back(out: Path) -> None:
    with started("--out", str(out), "--annotator", "ann") as process:
        press(process, "12", n_shown=3)
        process.send_signal(signal.SIGINT)
        # Standard input stays open: its end would end the session as well.
        process.wait(timeout=60)
        assert process.stdout is not None
        said = process.stdout.read()
    assert process.returncode == 130, said
    assert "2 stored in this session" in said
    assert "Traceback" not in said
    assert choices(out) == [0, 1]
    assert run(out, "111", "--annotator", "bob").exit_code == 0
    assert len(choices(out)) == N_LABELS


@pytest.fixture
async def address(tmp_path: Path) -> AsyncIterator[str]:
    """A service with the campaign."""
    service = BudgetService(BudgetSettings(database_url=f"sqlite:///{tmp_path}/budget.db"))
    async with ServiceHost(service, "127.0.0.1:0") as host:
        async with BudgetClient(host.address) as budget:
            await create(budget)
        yield host.address


class Script(io.StringIO):
    """Keys, and between them things that happen while an annotator thinks."""

    def __init__(self, steps: Sequence[str | Callable[[], object]]) -> None:
        super().__init__()
        self._steps = list(steps)

    def readline(self, size: int | None = -1, /) -> str:  # type: ignore[override]
        while self._steps:
            step = self._steps.pop(0)
            if isinstance(step, str):
                return f"{step}\n"
            step()
        return ""


async def session(address: str, steps: Sequence[str | Callable[[], object]], annotator: str = "ann") -> End | None:
    with Keyboard(Script(steps)) as keyboard:
        async with BudgetClient(address) as budget, QueueClient(address) as queue:
            return await AnnotateSession(budget, queue, keyboard, Seat("c", "human", annotator, 10)).run()


async def bought_at(address: str) -> tuple[list[Label], int]:
    async with BudgetClient(address) as budget:
        return await bought(budget)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes the service believe that a lease's time is over."""
    offsets_us = [0]
    now_us = clock.now_us
    monkeypatch.setattr(clock, "now_us", lambda: now_us() + offsets_us[0])

    def pass_time() -> None:
        offsets_us[0] += clock.us_from_delta(ATTENDED_LEASE_DURATION + timedelta(seconds=1))

    return pass_time


async def test_after_the_lease_has_expired_the_session_leases_again_and_loses_nothing(
    address: str, later: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert await session(address, ["1", later, "2", "1", "2", "1"]) is None
    labels, settled = await bought_at(address)
    assert [label.choice for label in labels] == [0, 1, 0, 1, 0]
    assert settled == N_LABELS * PRICE
    assert "The lease has ended meanwhile." in capsys.readouterr().out


async def test_an_answer_that_came_too_late_is_not_paid_and_said_so(
    address: str, later: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    def bob_answers_all() -> None:
        with SyncQueueClient(address) as queue:
            leased = queue.lease_items("bob", "c", "human", "bob")
            assert leased.lease is not None
            labels = [Label(item.item_id, one_hot(1, 2)) for item in leased.items]
            assert queue.answer_items("bob-answers", leased.lease.lease_id, labels).n_accepted == N_LABELS

    assert await session(address, ["1", later, bob_answers_all, "1"]) is None
    labels, settled = await bought_at(address)
    assert [label.annotator for label in labels] == ["bob"] * N_LABELS
    assert settled == N_LABELS * PRICE
    said = capsys.readouterr().out
    assert said.count("not taken and not paid:") == 2
    assert "0 stored in this session" in said


async def test_an_answer_that_may_not_be_stored_is_named_and_asked_again_where_it_is_not(
    address: str, later: Callable[[], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer_items = QueueClient.answer_items
    n_sent = 0

    async def lost(self: QueueClient, request_id: str, lease_id: str, labels: Sequence[Label]) -> Any:
        """The second answer arrives, but not the service's word that it did; then the service is away."""
        nonlocal n_sent
        n_sent += 1
        answered = await answer_items(self, request_id, lease_id, labels)
        if n_sent == 2:
            raise UnavailableError("away")
        return answered

    monkeypatch.setattr(QueueClient, "answer_items", lost)
    with pytest.raises(UnavailableError):
        await session(address, list("1212"))
    labels, _ = await bought_at(address)
    assert [label.choice for label in labels] == [0, 1]
    assert f"the answer to item {labels[1].item_id} may not be stored" in capsys.readouterr().out
    later()
    assert await session(address, list("222")) is None
    labels, settled = await bought_at(address)
    assert [label.choice for label in labels] == [0, 1, 1, 1, 1]
    assert settled == N_LABELS * PRICE


async def test_what_a_dead_session_holds_comes_back_when_its_lease_is_over(
    address: str, later: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    async with QueueClient(address) as queue:
        await queue.lease_items("dead", "c", "human", "ann", duration=ATTENDED_LEASE_DURATION)
    assert await session(address, ["1"]) is None
    assert "Nothing is left for you: the 5 labels" in capsys.readouterr().out
    later()
    assert await session(address, list("11111")) is None
    assert len((await bought_at(address))[0]) == N_LABELS


async def test_an_annotators_token_answers_in_its_name_and_sees_no_money(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/budget.db"
    service = BudgetService(BudgetSettings(database_url=url))
    async with ServiceHost(service, "127.0.0.1:0") as host, BudgetClient(host.address) as budget:
        await create(budget)
    database = Database(url)
    with database.write() as connection:
        _, secret = create_token(connection, "ann", Role.ANNOTATOR, None)
    database.close()

    async def annotate(address: str, keys: str, *arguments: str) -> tuple[int, str]:
        def work() -> tuple[int, str]:
            with started("--address", address, *arguments, token=secret) as process:
                said, _ = process.communicate("".join(f"{key}\n" for key in keys), timeout=60)
            return process.returncode, said

        return await asyncio.to_thread(work)

    guarded = BudgetService(BudgetSettings(database_url=url, require_tokens=True))
    async with ServiceHost(guarded, "127.0.0.1:0") as host:
        other = await annotate(host.address, "1", "c", "--annotator", "bob")
        # The only campaign that asks for labels need not be named.
        unnamed = await annotate(host.address, "2q")
        done, said = await annotate(host.address, "12q", "c")
    assert other[0] == 2
    assert "--annotator: 'bob' is not you" in other[1]
    assert unnamed[0] == 0, unnamed[1]
    assert done == 0, said
    assert "1 answered in this session" in said
    assert "2 stored in this session" in said
    assert "$" not in said
    async with ServiceHost(BudgetService(BudgetSettings(database_url=url)), "127.0.0.1:0") as host:
        labels, settled = await bought_at(host.address)
    assert [(label.annotator, label.choice) for label in labels] == [("ann", 1), ("ann", 0), ("ann", 1)]
    assert settled == 3 * PRICE


async def test_on_a_terminal_keys_count_at_once_and_arrows_are_one_key() -> None:
    leader, follower = os.openpty()
    with os.fdopen(follower) as stream:
        before = termios.tcgetattr(stream)
        with Keyboard(stream) as keyboard:
            assert keyboard.is_terminal
            os.write(leader, b"2")
            assert await keyboard.read() == "2"
            os.write(leader, b"\x1b[A")
            assert await keyboard.read() == "\x1b"
            # More than nine choices: a number and Enter, with one digit taken back.
            os.write(leader, b"13\x7f2\n")
            assert await keyboard.read(whole_numbers=True) == "12"
            os.write(leader, "ä".encode())
            assert await keyboard.read(whole_numbers=True) == "ä"
            reading = asyncio.create_task(keyboard.read())
            await asyncio.sleep(0)
            keyboard.interrupt()
            assert await reading is End.INTERRUPTED
        assert termios.tcgetattr(stream) == before
    os.close(leader)


async def test_on_a_terminal_ctrl_d_ends_the_input() -> None:
    leader, follower = os.openpty()
    with os.fdopen(follower) as stream, Keyboard(stream) as keyboard:
        os.write(leader, b"1\x04")
        assert [await keyboard.read(), await keyboard.read()] == ["1", End.OF_INPUT]
    os.close(leader)
