"""`isocost plan`, on a folder as `isocost run` leaves one."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from isocost.budget.service import BudgetService
from isocost.budget.settings import BudgetSettings
from isocost.cli.app import app
from isocost.cli.console import console
from isocost.cli.plan_view import interval_bars, print_explanation, print_plan
from isocost.client import BudgetClient, Campaign, Item, Money, Source, SourceKind, Task
from isocost.core.errors import FailedPreconditionError, InvalidArgumentError
from isocost.core.grpc_server import ServiceHost
from isocost.economics.policy.decision import LineForecast
from isocost.resources.plan import Plan
from tests.unit.report.planned import explained_plan


async def _create(budget: BudgetClient, campaign_id: str, currency: str = "USD") -> None:
    task = Task("claims", "Is it true that {claim}?", ("no", "yes"))
    await budget.create_campaign(campaign_id, Campaign(campaign_id, task, Money(20_000_000, currency), "strong"))
    for source_id, kind, micros in (("weak", SourceKind.MODEL, 10_000), ("human", SourceKind.HUMAN, 100_000)):
        source = Source(source_id, kind, Money(micros, currency))
        await budget.create_source(f"{campaign_id}/{source_id}", campaign_id, source)
    await budget.add_items(f"{campaign_id}/items", campaign_id, [Item(f"i{n}", {"claim": "x"}) for n in range(500)])


async def _serve(out: Path, work: Any) -> Any:
    """Does something with the budget service of a folder."""
    service = BudgetService(BudgetSettings(database_url=f"sqlite:///{out}/state/budget.db"))
    async with ServiceHost(service, "127.0.0.1:0") as host, BudgetClient(host.address) as budget:
        return await work(budget)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder with one campaign, which nothing was bought for."""
    (tmp_path / "state").mkdir()
    asyncio.run(_serve(tmp_path, lambda budget: _create(budget, "c")))
    return tmp_path


def stored(out: Path, campaign_id: str = "c") -> list[Plan]:
    found: list[Plan] = asyncio.run(_serve(out, lambda budget: budget.list_plans(campaign_id)))
    return found


def run(out: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["plan", "--out", str(out), *arguments])


def words(text: str) -> str:
    return " ".join(text.split())


def test_a_plan_is_made_stored_and_printed_and_nothing_is_bought(out: Path) -> None:
    result = run(out, "--tranche", "5")
    assert result.exit_code == 0, result.output
    (made,) = stored(out)
    assert made.inputs is not None
    assert made.inputs.policy.tranche_micros == 5_000_000
    # Nothing was observed: the policy decides by what it knows beforehand.
    assert made.inputs.policy.observations == ()
    assert words(made.reason) in words(result.stdout)
    assert made.plan_id in result.stdout
    assert "isocost line" not in result.stdout
    status = asyncio.run(_serve(out, lambda budget: budget.get_campaign("c")))
    assert (status.balance.settled.micros, status.balance.reserved.micros) == (0, 0)


def test_what_is_asked_for_reaches_the_policy(out: Path) -> None:
    options = ["--target", "0.9", "--gain-min", "0.02", "--weak-source", "weak", "--human-source", "human"]
    assert run(out, "c", *options).exit_code == 0
    (made,) = stored(out)
    assert made.inputs is not None
    policy = made.inputs.policy
    assert (policy.target_accuracy, policy.gain_min, policy.tranche_micros) == (0.9, 0.02, policy.available_micros)


def test_explained_it_shows_the_line_the_regime_the_tranches_and_the_sources(out: Path) -> None:
    result = run(out, "--explain")
    assert result.exit_code == 0, result.output
    (made,) = stored(out)
    assert made.explanation is not None
    for title in ("isocost line", "next tranche", "sources", "expected accuracy"):
        assert title in result.stdout
    assert f"{made.regime.value}, probability {100 * made.explanation.regime_probability:.0f} %" in result.stdout
    assert result.stdout.count("●") == len(made.explanation.line)


def test_the_last_plan_is_shown_again_and_none_is_made(out: Path) -> None:
    assert run(out, "--tranche", "1").exit_code == 0
    assert run(out, "--tranche", "2").exit_code == 0
    last = stored(out)[-1]
    result = run(out, "--last", "--explain")
    assert result.exit_code == 0
    assert last.plan_id in result.stdout
    assert len(stored(out)) == 2


def test_as_json_it_is_one_object_with_its_inputs(out: Path) -> None:
    result = run(out, "--json", "--tranche", "3")
    printed = json.loads(result.stdout)
    (made,) = stored(out)
    assert (printed["plan_id"], printed["campaign"], printed["reason"]) == (made.plan_id, "c", made.reason)
    assert printed["inputs"] == json.loads(made.inputs_json)
    assert printed["explanation"]["accuracy_now"] == made.explanation.accuracy_now if made.explanation else False
    assert json.loads(run(out, "--json", "--last").stdout) == printed


def test_a_finished_campaign_shows_its_last_plan_alone(out: Path) -> None:
    assert run(out).exit_code == 0
    asyncio.run(_serve(out, lambda budget: budget.finish_campaign("finish", "c")))
    refused = run(out)
    assert isinstance(refused.exception, FailedPreconditionError)
    assert "'c' is finished and buys nothing more; --last shows its last plan" in str(refused.exception)
    assert run(out, "--last").exit_code == 0


def test_of_several_campaigns_one_is_named(out: Path) -> None:
    asyncio.run(_serve(out, lambda budget: _create(budget, "d", "EUR")))
    refused = run(out)
    assert isinstance(refused.exception, InvalidArgumentError)
    assert str(refused.exception) == "CAMPAIGN: not given; name one of c, d"
    assert run(out, "d", "--tranche", "2").exit_code == 0
    (made,) = stored(out, "d")
    assert made.inputs is not None
    assert (made.inputs.currency_code, made.inputs.policy.tranche_micros) == ("EUR", 2_000_000)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x"], "CAMPAIGN: there is no campaign 'x'; name one of c"),
        (["--tranche", "much"], "--tranche: 'much' is not an amount of money"),
        (["--tranche", "0"], "--tranche: 0; give more than zero"),
        (["--tranche=-3"], "--tranche: -3; give more than zero"),
        (["--target", "0.5"], "--target: 0.5; must be above that of guessing"),
        (["--gain-min", "2"], "--gain-min: 2; must be from 0"),
        (["--weak-source", "x"], "--weak-source: campaign 'c' has no source 'x'"),
        (["--human-source", "weak"], "--human-source: 'weak' is a MODEL source"),
        (["--last", "--tranche", "3", "--target", "0.9"], "--last: shows the plan that was made as it is; leave"),
    ],
)
def test_mistakes_are_named(out: Path, arguments: list[str], message: str) -> None:
    result = run(out, *arguments)
    assert isinstance(result.exception, InvalidArgumentError), result.output
    assert message in str(result.exception)
    assert stored(out) == []


def test_there_is_no_last_plan_before_the_first(out: Path) -> None:
    result = run(out, "--last")
    assert isinstance(result.exception, FailedPreconditionError)
    assert "leave --last out to make one" in str(result.exception)


def test_without_a_folder_or_an_address_it_says_so() -> None:
    result = CliRunner().invoke(app, ["plan"])
    assert "give either --out DIR or --address HOST:PORT" in str(result.exception)


def test_bars_share_one_scale() -> None:
    def forecast(low: float, accuracy: float, high: float) -> LineForecast:
        return LineForecast(0.0, 0, 1, accuracy, low, high, 0.5)

    bars = interval_bars([forecast(0.5, 0.6, 0.7), forecast(0.6, 0.8, 1.0), forecast(0.5, 0.5, 0.5)], width=11)
    assert bars == ["──●──      ", "  ────●────", "●          "]
    assert interval_bars([forecast(0.5, 0.5, 0.5)], width=3) == ["●  "]


def test_a_plan_is_printed_with_all_that_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    plan = explained_plan()
    with console.capture() as captured:
        print_plan(plan)
        print_explanation(plan)
    printed = captured.get()
    for said in (
        "buy 20 human labels for $20.00 and 1 weak label for $0.10",
        "mixed, probability 72 %",
        "78.1 % now, 82.2 % once everything is spent",
        "77.0 to 86.0",
        "59.8 to 85.8",
        "weak<2>",
        "+4.0",
    ):
        assert said in printed
    assert capsys.readouterr().out == ""
