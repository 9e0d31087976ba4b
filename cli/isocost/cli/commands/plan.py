"""`isocost plan`: what to buy next, and why."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

import typer

from isocost.cli.connection import (
    AddressOption,
    CaFileOption,
    CertFileOption,
    KeyFileOption,
    OutOption,
    TokenOption,
    channel_settings,
    open_budget,
)
from isocost.cli.plan_view import print_explanation, print_plan
from isocost.client import BudgetClient
from isocost.core.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from isocost.core.ids import new_id
from isocost.core.money import Money
from isocost.report.plan_table import plan_result
from isocost.resources.campaign import Campaign, CampaignState
from isocost.resources.plan import Plan

__all__ = ["plan"]

#: What the service's names of what is wrong are called here.
_OPTIONS = {
    "tranche": "--tranche",
    "target_accuracy": "--target",
    "gain_min": "--gain-min",
    "weak_source_id": "--weak-source",
    "human_source_id": "--human-source",
}


async def _find_campaign(budget: BudgetClient, campaign_id: str | None) -> Campaign:
    """The named campaign, or the only one.

    Raises:
        InvalidArgumentError: where there is no such campaign, or none is named and there is not exactly one.
    """
    campaigns = {campaign.campaign_id: campaign for campaign in await budget.list_campaigns()}
    listed = ", ".join(campaigns) or "none; there is no campaign"
    if campaign_id is None:
        if len(campaigns) != 1:
            raise InvalidArgumentError("CAMPAIGN", f"not given; name one of {listed}")
        (campaign_id,) = campaigns
    if campaign_id not in campaigns:
        raise InvalidArgumentError("CAMPAIGN", f"there is no campaign {campaign_id!r}; name one of {listed}")
    return campaigns[campaign_id]


async def _last_plan(budget: BudgetClient, campaign: Campaign) -> Plan:
    plans = await budget.list_plans(campaign.campaign_id)
    if not plans:
        raise FailedPreconditionError(
            f"no plan of campaign {campaign.campaign_id!r} was made yet; leave --last out to make one", field="--last"
        )
    return plans[-1]


def _tranche(amount: str | None, campaign: Campaign) -> Money | None:
    """The tranche in the campaign's currency.

    Raises:
        InvalidArgumentError: where it is no amount above zero.
    """
    if amount is None:
        return None
    tranche = Money.parse(amount, campaign.budget.currency_code, field="--tranche")
    if tranche.micros <= 0:
        raise InvalidArgumentError("--tranche", f"{amount}; give more than zero, or leave it out for all that is there")
    return tranche


def _print_json(made: Plan) -> None:
    """The plan as one JSON object on standard output, its inputs included."""
    create_time = made.create_time.isoformat() if made.create_time else None
    content = {
        "campaign": made.campaign_id,
        **plan_result(made),
        "inputs": json.loads(made.inputs_json),
        "create_time": create_time,
    }
    typer.echo(json.dumps(content, indent=2, ensure_ascii=False))


def plan(
    campaign: Annotated[str | None, typer.Argument(help="Campaign id, where there are several.")] = None,
    out: OutOption = None,
    address: AddressOption = None,
    tranche: Annotated[
        str | None, typer.Option(help="What the next purchase may cost at most; all that is available if not given.")
    ] = None,
    target: Annotated[
        float | None, typer.Option(help="Accuracy to reach at the least cost, such as 0.9; as much as possible if not.")
    ] = None,
    gain_min: Annotated[
        float | None, typer.Option(help="Accuracy that what is still bought must be expected to bring, such as 0.005.")
    ] = None,
    weak_source: Annotated[str, typer.Option(help="The only weak source to plan for; else all.")] = "",
    human_source: Annotated[str, typer.Option(help="The only human source to plan for; else all.")] = "",
    last: Annotated[bool, typer.Option("--last", help="Show the last plan that was made, and make none.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Show the numbers behind the plan.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON, with its inputs.")] = False,
    token: TokenOption = None,
    ca_file: CaFileOption = None,
    cert_file: CertFileOption = None,
    key_file: KeyFileOption = None,
) -> None:
    """Says what to buy next, and why. The plan is stored; nothing is bought."""
    asked = {
        "--tranche": tranche,
        "--target": target,
        "--gain-min": gain_min,
        "--weak-source": weak_source or None,
        "--human-source": human_source or None,
    }
    given = [option for option, value in asked.items() if value is not None]
    if last and given:
        raise InvalidArgumentError("--last", f"shows the plan that was made as it is; leave {', '.join(given)} out")

    async def read() -> Plan:
        async with open_budget(out, address, channel_settings(token, ca_file, cert_file, key_file)) as budget:
            found = await _find_campaign(budget, campaign)
            if last:
                return await _last_plan(budget, found)
            if found.state is CampaignState.FINISHED:
                raise FailedPreconditionError(
                    f"campaign {found.campaign_id!r} is finished and buys nothing more; --last shows its last plan",
                    field="CAMPAIGN",
                )
            try:
                return await budget.plan(
                    new_id("cli"),
                    found.campaign_id,
                    _tranche(tranche, found),
                    weak_source_id=weak_source,
                    human_source_id=human_source,
                    target_accuracy=target,
                    gain_min=gain_min,
                )
            except (InvalidArgumentError, NotFoundError) as error:
                raise InvalidArgumentError(_OPTIONS.get(error.field, error.field), error.message) from None

    made = asyncio.run(read())
    if as_json:
        _print_json(made)
        return
    print_plan(made)
    if explain:
        print_explanation(made)
