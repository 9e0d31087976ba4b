"""The reconciler: reads where the campaign stands, does the one next thing, repeats.

It keeps no state of its own. Every step is a request with an id made from the campaign and the step, so that a campaign
which was killed walks through the steps it has done (each is answered as it was) and goes on with the first one left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from isocost.campaign.channel import open_channel
from isocost.campaign.config import CampaignConfig
from isocost.campaign.pool import load_pool, load_test_examples, preflight
from isocost.campaign.progress import Progress
from isocost.campaign.purchase import Buyer, WeakLabeller
from isocost.campaign.training import Training
from isocost.client.budget import BudgetClient
from isocost.client.labeler import LabelerClient
from isocost.client.trainer import TrainerClient
from isocost.core.errors import InvalidArgumentError, NotFoundError
from isocost.core.ids import canonical_json, content_digest
from isocost.core.money import Money
from isocost.economics.mixes import final_mixes, round_mixes
from isocost.report.evidence import gather
from isocost.resources.campaign import Campaign, CampaignState
from isocost.resources.label import Purpose
from isocost.resources.observation import Decision
from isocost.resources.run import Run
from isocost.resources.task import Item
from isocost.tasks.dataset import Pool
from isocost.tasks.prompt import FewShotExample

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
        """Pilot, weak labels, training runs, plan, purchase, ..., stop; returns the run whose model is shipped.

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
        await asyncio.to_thread(preflight, config, pool.items)
        await self._open(pool)

        buyer = Buyer(
            self._budget,
            self._services.labeler,
            open_channel(config, pool.gold, self._out),
            self._progress,
            campaign_id=config.campaign,
            task=config.task.task(),
        )
        training = Training(config, self._budget, self._services.trainer, self._progress, test_examples)
        human, weak = config.human.name, config.weak.name
        await buyer.buy_human("evaluation", human, Purpose.EVALUATION, config.evaluation.n_labels)
        await buyer.buy_human("pilot-human", human, Purpose.PILOT, config.pilot.n_human)
        labeller = await self._weak_labeller(training)
        await buyer.buy_weak("pilot-weak", weak, Purpose.PILOT, config.pilot.n_weak, labeller)
        await self._buy_by_plan(buyer, training, labeller)

        n_weak, n_human = len(await training.labels(weak)), len(await training.labels(human))
        await training.observe("the final grid", final_mixes(n_weak, n_human))
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

    async def _open(self, pool: Pool) -> None:
        """Creates the campaign, its sources and its pool; repeats are answered as they were."""
        config = self._config
        campaign = Campaign(
            campaign_id=config.campaign,
            task=config.task.task(),
            budget=config.money(config.budget, "budget"),
            strong_model=config.strong_model,
            config_json=canonical_json(config.model_dump(mode="json")),
        )
        await self._budget.create_campaign(f"{config.campaign}:create", campaign)
        for section in config.sources:
            source = config.source(section)
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

    async def _weak_labeller(self, training: Training) -> WeakLabeller:
        """The weak labeller as the campaign file describes it; fine-tuned first where it says so."""
        section = self._config.weak
        model = section.model
        if section.fine_tune is not None:
            model = await training.fine_tune_labeller(section.fine_tune, section.model)
        examples = (await training.labels(self._config.human.name))[: section.few_shot_count]
        return WeakLabeller(
            model,
            section.runner,
            tuple(FewShotExample(labelled.item.fields, labelled.label.choice) for labelled in examples),
        )

    async def _buy_by_plan(self, buyer: Buyer, training: Training, labeller: WeakLabeller) -> None:
        config = self._config
        tranche = self._tranche()
        # Every purchase spends money or takes items, so the policy stops by itself.
        for index in count():
            n_weak = len(await training.labels(config.weak.name))
            n_human = len(await training.labels(config.human.name))
            await training.observe(f"round {index + 1}", round_mixes(n_weak, n_human))
            plan = await self._budget.plan(f"{config.campaign}:plan:{index}", config.campaign, tranche)
            self._progress.say(f"plan {index + 1}: {plan.reason}")
            if plan.decision is Decision.STOP:
                return
            for purchase in plan.purchases:
                name = f"plan-{index}-{purchase.source_id}"
                if purchase.source_id == config.weak.name:
                    await buyer.buy_weak(name, purchase.source_id, Purpose.TRAINING, purchase.n_labels, labeller)
                else:
                    await buyer.buy_human(name, purchase.source_id, Purpose.TRAINING, purchase.n_labels)

    def _tranche(self) -> Money:
        """The budget left after the pilot, cut into n_tranches; computed from the file, so that it never changes."""
        config = self._config
        weak, human = config.source(config.weak).unit_price, config.source(config.human).unit_price
        n_human = config.evaluation.n_labels + config.pilot.n_human
        budget = config.money(config.budget, "budget")
        left = budget.micros - n_human * human.micros - config.pilot.n_weak * weak.micros
        # At least one label of the dearer source, rounded up: the last tranche may be the smaller one.
        return Money(max(-(-left // config.n_tranches), weak.micros, human.micros), config.currency)
