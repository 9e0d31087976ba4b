"""What is known of a campaign's weak sources, and which one is bought from: read from stored labels, never kept.

The labels that a weak source is measured by are its labels of purpose EVALUATION whose item a human has answered for
the pilot. The same labels give the same answer, so that a campaign that was killed chooses as it did.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from isocost.client.budget import BudgetClient
from isocost.economics.calibration import Calibration, CalibrationMethod, CalibrationReport, calibrate
from isocost.economics.source_quality import MeasuredLabel, SourceQuality, choose_source, measure_source
from isocost.resources.campaign import Campaign
from isocost.resources.label import Purpose
from isocost.resources.task import Source, SourceKind

__all__ = ["WeakSource", "WeakSources", "gather_weak_sources"]


@dataclass(frozen=True, slots=True)
class WeakSource:
    """One weak source.

    Attributes:
        source: With its price.
        quality: What measuring it showed.
        calibration: How its labels are calibrated, and what that brings; None where the campaign file asks for none, or
            nothing was measured.
    """

    source: Source
    quality: SourceQuality
    calibration: CalibrationReport | None


@dataclass(frozen=True, slots=True)
class WeakSources:
    """All weak sources of a campaign, in the order they were created.

    Attributes:
        sources: At least one.
        chosen: Id of the one that labels are bought from.
        reason: Why, in words.
    """

    sources: tuple[WeakSource, ...]
    chosen: str
    reason: str

    @property
    def chosen_source(self) -> WeakSource:
        """The one that labels are bought from."""
        return next(weak for weak in self.sources if weak.source.source_id == self.chosen)

    @property
    def calibration(self) -> Calibration:
        """What its labels go through before they are trained on."""
        report = self.chosen_source.calibration
        return report.calibration if report else Calibration()


async def gather_weak_sources(budget: BudgetClient, campaign: Campaign, sources: Sequence[Source]) -> WeakSources:
    """Measures a campaign's weak sources on the labels that are stored, and chooses one.

    Where labels to train on have been bought from one, that one stays chosen.

    Args:
        budget: The budget service.
        campaign: The campaign; its file says which source is calibrated and how.
        sources: Its sources, one MODEL source or more.
    """
    campaign_id = campaign.campaign_id
    human_choices: dict[str, int] = {}
    for source in sources:
        if source.kind is SourceKind.HUMAN:
            async for labelled in budget.labels(campaign_id, source_id=source.source_id, purposes=(Purpose.PILOT,)):
                human_choices.setdefault(labelled.item.item_id, labelled.label.choice)
    methods = _calibration_methods(campaign.config_json)
    models = [source for source in sources if source.kind is SourceKind.MODEL]
    weak = [
        _measure(
            source,
            methods.get(source.source_id, CalibrationMethod.NONE),
            await _measured_labels(budget, campaign_id, source, human_choices),
            n_choices=len(campaign.task.choices),
        )
        for source in models
    ]
    choice = choose_source({one.source.source_id: one.quality for one in weak}, currency=campaign.budget.currency_code)
    names = {source.source_id for source in models}
    trained_on = (Purpose.PILOT, Purpose.TRAINING)
    bought = [o for o in await budget.list_orders(campaign_id) if o.source_id in names and o.purpose in trained_on]
    return WeakSources(tuple(weak), bought[0].source_id if bought else choice.name, choice.reason)


async def _measured_labels(
    budget: BudgetClient, campaign_id: str, source: Source, human_choices: dict[str, int]
) -> list[MeasuredLabel]:
    stream = budget.labels(campaign_id, source_id=source.source_id, purposes=(Purpose.EVALUATION,))
    return [
        MeasuredLabel(
            probabilities=labelled.label.probabilities,
            human_choice=human_choices[labelled.item.item_id],
            choices_mass=labelled.label.choices_mass,
            price_micros=source.label_price(labelled.label.prompt_tokens).micros,
        )
        async for labelled in stream
        if labelled.item.item_id in human_choices
    ]


def _measure(
    source: Source, method: CalibrationMethod, labels: Sequence[MeasuredLabel], *, n_choices: int
) -> WeakSource:
    calibration = None
    if labels and method is not CalibrationMethod.NONE:
        calibration = calibrate(
            method, [label.probabilities for label in labels], [label.human_choice for label in labels]
        )
    quality = measure_source(labels, n_choices=n_choices, price_micros=source.unit_price.micros)
    return WeakSource(source, quality, calibration)


def _calibration_methods(config_json: str) -> dict[str, CalibrationMethod]:
    """By source, from the campaign file; empty for a campaign that was made without one."""
    sections = json.loads(config_json).get("sources", ()) if config_json else ()
    return {
        section["name"]: CalibrationMethod(section.get("calibration", "none"))
        for section in sections
        if section["kind"] == "model"
    }
