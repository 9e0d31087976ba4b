"""A pipeline's process: `python deployment_client.py CAMPAIGN ADDRESSES` drives a campaign on services elsewhere.

Token and certificate come from `ISOCOST_TOKEN`, `ISOCOST_CA_FILE`, `ISOCOST_CERT_FILE` and `ISOCOST_KEY_FILE`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from isocost.campaign.config_file import load_config
from isocost.campaign.loop import CampaignLoop, Services
from isocost.cli.connection import channel_settings
from isocost.client import BudgetClient, LabelerClient, TrainerClient
from isocost.core.progress import SilentProgress


async def drive(campaign: Path, addresses: dict[str, str]) -> dict[str, object]:
    """Runs the campaign to its end; returns what was spent, in micros, and what is shipped."""
    config = load_config(campaign)
    settings = channel_settings()
    # The names are those of the cluster; the budget service alone keeps tokens.
    budget, labeler, trainer = (
        replace(
            settings,
            server_name=f"isocost-{name}.isocost.svc",
            token=settings.token if name == "budget" else "",
        )
        for name in ("budget", "labeler", "trainer")
    )
    async with AsyncExitStack() as stack:
        services = Services(
            await stack.enter_async_context(BudgetClient(addresses["budget"], channel=budget)),
            await stack.enter_async_context(LabelerClient(addresses["labeler"], channel=labeler)),
            await stack.enter_async_context(TrainerClient(addresses["trainer"], channel=trainer)),
        )
        run = await CampaignLoop(config, services, SilentProgress(), out=campaign.parent).run()
        status = await services.budget.get_campaign(config.campaign)
        described = await services.labeler.describe()
    return {
        "state": status.campaign.state.name,
        "budget": status.balance.budget.micros,
        "settled": status.balance.settled.micros,
        "reserved": status.balance.reserved.micros,
        "run_id": run.run_id,
        "run_state": run.state.name,
        "output_path": run.output_path,
        "prompt_tokens": {model.engine_fingerprint: model.prompt_tokens for model in described.served_models},
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(drive(Path(sys.argv[1]), json.loads(sys.argv[2])))))
