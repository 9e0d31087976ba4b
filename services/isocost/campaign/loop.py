"""The reconciler: reads where the campaign stands, does the one next thing, repeats.

It keeps no state of its own. Every step is a request with an id made from the campaign and the step, so that a campaign
which was killed walks through the steps it has done (each is answered as it was) and goes on with the first one left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from isocost.campaign.channel import open_channel
from isocost.campaign.config import CampaignConfig
from isocost.campaign.item_choice import ItemChooser
from isocost.campaign.labeller import WeakLabeller, labels_to_show, make_labeller
from isocost.campaign.pool import load_pool, load_test_examples
from isocost.campaign.preflight import preflight
from isocost.campaign.pricing import PriceList, price_sources
from isocost.campaign.purchase import Buyer
from isocost.campaign.training import Training
from isocost.client.budget import BudgetClient
from isocost.client.labeler import LabelerClient
from isocost.client.trainer import TrainerClient
from isocost.core.errors import InvalidArgumentError, NotFoundError
from isocost.core.ids import canonical_json, content_digest
from isocost.core.progress import Progress
from isocost.economics.mixes import final_mixes, round_mixes
from isocost.report.evidence import gather
from isocost.report.weak_source import WeakSources, gather_weak_sources
from isocost.resources.campaign import Campaign, CampaignState, Order
from isocost.resources.label import Purpose
from isocost.resources.plan import Decision
from isocost.resources.run import Run
from isocost.resources.task import Item, Source
from isocost.tasks.dataset import Pool

__all__ = ["CampaignLoop", "Services"]


@dataclass(frozen=True, slots=True)
class Services:
    """Clients of the three services."""

    budget: BudgetClient
    labeler: LabelerClient
    trainer: TrainerClient


class CampaignLoop:
    """Drives one campaign to its end.

    Usage::

        loop = CampaignLoop(config, Services(budget, labeler, trainer), progress, out=Path("runs/demo"))
        run = await loop.run()

    Args:
        config: The campaign file.
        services: Clients of the three services.
        progress: Where to report to.
        out: Folder for files that people fill in.
    """

    def __init__(self, config: CampaignConfig, services: Services, progress: Progress, *, out: Path) -> None:
        self._config = config
        self._services = services
        self._budget = services.budget
        self._progress = progress
        self._out = out

    async def run(self) -> Run:
        """Pilot, measured sources, training runs, plan, purchase, ..., stop; returns the run that is shipped.

        Raises:
            InvalidArgumentError: the campaign file, the data or a model is wrong; nothing was bought.
            LabelsAwaitedError: people have not answered everything yet.
            IsocostError: a service failed; what was bought is kept.
        """
        config = self._config
        pool = await asyncio.to_thread(load_pool, config)
        test_examples = await asyncio.to_thread(load_test_examples, config)
        self._progress.say(f"{len(pool.items)} items in the pool, {len(test_examples)} in the benchmark test set")
        await self._check_unchanged()
        n_tokens_max = await asyncio.to_thread(preflight, config, pool.items)
        prices = await self._open(pool, price_sources(config, n_tokens_max))

        buyer = Buyer(
            self._budget,
            self._services.labeler,
            {human.name: open_channel(config, human, pool.gold, self._out) for human in config.humans},
            self._progress,
            campaign_id=config.campaign,
        )
        human = config.human.name
        await buyer.buy_human("evaluation", human, Purpose.EVALUATION, config.evaluation.n_labels)
        pilot = await buyer.buy_human("pilot-human", human, Purpose.PILOT, config.pilot.n_human)
        labellers = await self._labellers(pilot)
        weak = await self._measure(buyer, labellers, pilot)
        labeller = labellers[weak.chosen]
        await buyer.buy_weak("pilot-weak", Purpose.PILOT, config.pilot.n_weak, labeller)
        training = Training(
            config,
            self._budget,
            self._services.trainer,
            self._progress,
            test_examples,
            pool.items,
            weak_source_id=weak.chosen,
            calibration=weak.calibration,
        )
        await self._buy_by_plan(buyer, training, labeller, prices)

        await training.observe("the final grid", final_mixes(*await training.n_labels()))
        evidence = await gather(self._budget, config.campaign)
        run = await training.rerun(evidence.shipped)
        await self._budget.finish_campaign(f"{config.campaign}:finish", config.campaign)
        return run

    async def _check_unchanged(self) -> None:
        """A campaign that has begun goes on only with the file it began with."""
        try:
            status = await self._budget.get_campaign(self._config.campaign)
        except NotFoundError:
            return
        begun = CampaignConfig.model_validate_json(status.campaign.config_json).model_dump(mode="json")
        now = self._config.model_dump(mode="json")
        changed = [name for name in now if now[name] != begun.get(name)]
        if changed:
            raise InvalidArgumentError(
                changed[0],
                f"differs from what campaign {self._config.campaign!r} began with; put it back to go on, or give a new "
                "campaign id or another --out to begin a new one",
            )

    async def _open(self, pool: Pool, prices: PriceList) -> PriceList:
        """Creates the campaign, its sources and its pool; repeats are answered as they were.

        Returns:
            The prices that were agreed on when the sources were created.
        """
        config = self._config
        stored = await self._stored_sources()
        prices = prices.with_stored(stored)
        prices.check_affordable()
        campaign = Campaign(
            campaign_id=config.campaign,
            task=config.task.task(),
            budget=config.money(config.budget, "budget"),
            strong_model=config.strong_model,
            config_json=canonical_json(config.model_dump(mode="json")),
        )
        await self._budget.create_campaign(f"{config.campaign}:create", campaign)
        for source in prices.sources:
            await self._budget.create_source(f"{config.campaign}:source:{source.source_id}", config.campaign, source)
        status = await self._budget.get_campaign(config.campaign)
        if status.n_items < len(pool.items):
            await self._add_items(pool)
        else:
            balance = status.balance
            self._progress.say(
                f"resuming: {balance.settled} of {balance.budget} spent, {balance.reserved} reserved"
                if status.campaign.state is CampaignState.ACTIVE
                else f"campaign {config.campaign!r} is finished; nothing more is bought"
            )
        return prices

    async def _stored_sources(self) -> list[Source]:
        try:
            return await self._budget.list_sources(self._config.campaign)
        except NotFoundError:
            return []

    async def _add_items(self, pool: Pool) -> None:
        # Other items, where the file has changed meanwhile, are another request: each is answered by itself.
        digest = content_digest([[item.item_id, dict(item.fields)] for item in pool.items])
        request_id = f"{self._config.campaign}:items:{digest}"
        with self._progress.bar("items", len(pool.items)) as bar:

            def counted() -> Iterator[Item]:
                for item in pool.items:
                    bar.advance()
                    yield item

            added = await self._budget.add_items(request_id, self._config.campaign, counted())
        if added.n_errors:
            error = added.errors[0]
            raise InvalidArgumentError(f"item {error.item_id}", f"{error.message} ({added.n_errors} items refused)")

    async def _labellers(self, pilot: Order) -> dict[str, WeakLabeller]:
        """The weak labellers by source; made from the pilot's human labels, but for those that they are measured by."""
        config = self._config
        items = [item async for item in self._budget.order_items(pilot.order_id)]
        stream = self._budget.labels(config.campaign, source_id=config.human.name, purposes=(Purpose.PILOT,))
        seen = labels_to_show([labelled async for labelled in stream], items, config.n_measured)
        return {
            section.name: await make_labeller(section, config, seen, self._services.trainer, self._progress)
            for section in config.models
        }

    async def _measure(self, buyer: Buyer, labellers: Mapping[str, WeakLabeller], pilot: Order) -> WeakSources:
        """Lets every other source answer what the reference has answered, and chooses the ones to buy from."""
        config = self._config
        if config.n_measured:
            for name, labeller in labellers.items():
                await buyer.buy_weak(f"measure-{name}", Purpose.EVALUATION, config.n_measured, labeller, items_of=pilot)
            for human in config.humans[1:]:
                name, n_labels = human.name, config.n_measured
                await buyer.buy_human(f"measure-{name}", name, Purpose.EVALUATION, n_labels, items_of=pilot)
        status = await self._budget.get_campaign(config.campaign)
        weak = await gather_weak_sources(self._budget, status.campaign, await self._stored_sources())
        self._progress.say(f"weak labels from {weak.reason}")
        return weak

    async def _buy_by_plan(self, buyer: Buyer, training: Training, labeller: WeakLabeller, prices: PriceList) -> None:
        config = self._config
        chooser = ItemChooser(config, self._budget, training) if config.human_sampling != "random" else None
        # Every purchase spends money or takes items, so the policy stops by itself.
        for index in count():
            await training.observe(f"round {index + 1}", round_mixes(*await training.n_labels()))
            plan = await self._budget.plan(
                f"{config.campaign}:plan:{index}",
                config.campaign,
                prices.tranche,
                weak_source_id=labeller.source_id,
                # Of several grades none is named: labels of all are trained on, and the plan says from which to buy.
                human_source_id=config.human.name if len(config.humans) == 1 else "",
                target_accuracy=config.target_accuracy,
                gain_min=config.gain_min,
            )
            self._progress.say(f"plan {index + 1}: {plan.reason}")
            if plan.decision is Decision.STOP:
                return
            for purchase in plan.purchases:
                name = f"plan-{index}-{purchase.source_id}"
                if purchase.source_id == labeller.source_id:
                    await buyer.buy_weak(name, Purpose.TRAINING, purchase.n_labels, labeller)
                else:
                    await buyer.buy_human(
                        name, purchase.source_id, Purpose.TRAINING, purchase.n_labels, chooser=chooser
                    )
