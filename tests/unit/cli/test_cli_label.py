"""`isocost label` and `isocost predict` refuse before anything is loaded; what they show while they work."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from isocost.bulk import ray_job
from isocost.bulk.tally import Tally
from isocost.cli import bulk_view
from isocost.cli.app import app
from isocost.cli.bulk_view import BulkProgress, Rate, print_outcome
from isocost.client.labeler import ServedModel
from isocost.core.errors import IsocostError, UnavailableError

TASK = 'name: claims\ntemplate: "Is {text} true?"\nchoices: ["no", "yes"]\n'


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("task.yaml").write_text(TASK)
    Path("rows.csv").write_text("text,choice\na,b\nc,d\n")


def refusal(command: str, *arguments: str) -> str:
    before = sorted(Path.cwd().iterdir())
    given = {"--input": "rows.csv", "--output": "out.parquet", "--model": "microworld:weak", "--task": "task.yaml"}
    given |= dict(zip(arguments[::2], arguments[1::2], strict=True))
    options = [part for option, value in given.items() for part in (option, value) if value != "-"]
    result = CliRunner().invoke(app, [command, *options])
    assert isinstance(result.exception, IsocostError), result.output
    assert sorted(Path.cwd().iterdir()) == before
    return str(result.exception)


@pytest.mark.parametrize("command", ["label", "predict"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--input", "none.csv"), "--input: there is no file 'none.csv'"),
        (("--input", "task.yaml"), "--input: 'task.yaml' has no known suffix; give a .csv, .jsonl or .parquet file"),
        (("--output", "out.csv"), "--output: 'out.csv' ends in neither .jsonl nor .parquet; choose one"),
        (("--task", "none.yaml"), "--task: 'none.yaml' cannot be read: No such file"),
        (("--task", "-"), "--task: not given, and 'microworld:weak' has no isocost.json"),
        (("--id-column", "nr"), "--id-column: 'rows.csv' has no column 'nr'; it has 'text', 'choice'"),
        (("--id-column", "choice"), "--id-column: the output has a column 'choice' of its own; rename"),
        (("--address", "127.0.0.1:1", "--state", "s"), "--state: a labeler at --address keeps its own"),
        (("--address", "127.0.0.1:1"), "--address: no labeler answers at 127.0.0.1:1"),
        (("--address", "127.0.0.1:1", "--key-file", "k.pem"), "give both certificate_path and key_path"),
    ],
)
def test_a_mistake_is_named_with_its_remedy(command: str, arguments: tuple[str, ...], message: str) -> None:
    assert message in refusal(command, *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--unit-price", "0.1", "--price-per-million-tokens", "1"), "--unit-price: given with --price-per"),
        (("--unit-price", "0"), "--unit-price: $0.00; a price must be greater than zero"),
        (("--budget", "1"), "--budget: given without a price; give --unit-price"),
        (("--budget", "0", "--unit-price", "1"), "--budget: $0.00 buys nothing"),
        (("--budget", "0.1", "--unit-price", "0.06"), "--budget: $0.10 does not pay for 2 labels at $0.06"),
        (
            ("--ray", "local", "--budget", "1", "--price-per-million-tokens", "1"),
            "--budget: with --ray it needs a fixed price",
        ),
        (("--ray", "local", "--output", "task.yaml"), "--output: '/"),
    ],
)
def test_a_mistake_in_prices_is_named(arguments: tuple[str, ...], message: str) -> None:
    assert message in refusal("label", *arguments)


def test_ray_is_asked_for_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_job, "find_spec", lambda name: None)
    assert "--ray: Ray is not installed; install isocost[ray]" in refusal("label", "--ray", "local")


def test_a_cluster_that_is_away_is_named() -> None:
    arguments = {"--input": "rows.csv", "--output": "out", "--model": "microworld:weak", "--task": "task.yaml"}
    options = [part for option in arguments.items() for part in option]
    result = CliRunner().invoke(app, ["label", *options, "--ray", "127.0.0.1:1"])
    assert isinstance(result.exception, UnavailableError), result.output
    assert str(result.exception).startswith("--ray: no Ray cluster at '127.0.0.1:1': Connection refused; give the addr")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_rate_is_that_of_the_last_half_minute() -> None:
    clock = Clock()
    rate = Rate(clock)
    assert rate.per_second == 0
    for second in range(1, 101):
        clock.now += 1
        # Stored labels first, a thousand a second; then ten.
        rate.note(1_000 * second if second <= 50 else 50_000 + 10 * (second - 50))
    assert rate.per_second == pytest.approx(10)
    assert rate.elapsed_seconds == 100


def test_lines_come_seldom_and_say_everything() -> None:
    clock, text = Clock(), io.StringIO()
    progress = BulkProgress("labelling", output=Console(file=text, soft_wrap=True, highlight=False), clock=clock)
    tally = Tally(10_000, errors=Counter(prompt_too_long=2), currency="USD")
    # Loading a model takes a while.
    clock.now += 500
    with progress:
        for _ in range(200):
            clock.now += 0.125
            tally.n_labels += 10
            tally.n_stored += 5
            tally.cost_micros += 100_000
            progress.show(tally)
    first, second = text.getvalue().splitlines()
    assert first.startswith(
        "labelling: 812 of 10,000, 80 labels/s, 1 min 55 s left, $8.10 so far, 50% stored, 2 errors"
    )
    assert second.startswith("labelling: 1,612 of 10,000, 80 labels/s, 1 min 45 s left, $16.10 so far")


def test_the_outcome_has_every_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.StringIO()
    monkeypatch.setattr(bulk_view, "console", Console(file=text, width=120, highlight=False))
    tally = Tally(
        1_000, 990, 400, Counter({"prompt_too_long": 7, "invalid_item": 3}), 12_345, "USD", 9_900_000, 5_900_000
    )
    served = ServedModel("m", "generate", "f", prompt_tokens=1_000, cached_prompt_tokens=750)
    print_outcome(tally, "out.parquet", 65.0, served)
    lines = [" ".join(line.split()) for line in text.getvalue().splitlines()]
    assert lines[:9] == [
        "labels 990 of 1,000 rows, 400 of them made earlier",
        "errors 7 prompt_too_long",
        "errors 3 invalid_item",
        "time 1 min 05 s, 15 rows/s",
        "cost $9.90, $5.90 of it for labels made now",
        "prompt tokens 12,345",
        "prefix cache 75% of the tokens sent to the server",
        "written out.parquet",
        "10 rows have no label: their columns error and error_reason say why",
    ]
