"""What is known of a campaign's sources, and which ones are bought from: read from stored labels, never kept.

The labels that a source is measured by are its labels of purpose EVALUATION whose item a human has answered for the
pilot. That holds for weak sources, and for every grade of human labels but the first: the reference, which answers the
pilot.

The rule `expected-final-accuracy`: of all pairs of a weak source and a grade of human labels, the one is bought from
whose labels are expected to bring the highest accuracy once all the money is spent, by the policy's own forecast
(`isocost.economics.policy.source_choice`), given prices and measured accuracies. The weak source is kept to the end,
as its calibration and its errors are what the model learns; the grade is what the choice begins with, and each plan,
which has seen runs as well, says from which grade people's labels are bought.

The same labels and orders give the same answer, so that a campaign that was killed chooses as it did.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from isocost.client.budget import BudgetClient
from isocost.economics.calibration import Calibration, CalibrationMethod, CalibrationReport, calibrate
from isocost.economics.policy.inputs import PolicyInputs, SourceState
from isocost.economics.policy.source_choice import RankedPair, rank_sources
from isocost.economics.source_quality import MeasuredLabel, SourceQuality, measure_source
from isocost.resources.campaign import Campaign, Order
from isocost.resources.label import Purpose
from isocost.resources.task import Source, SourceKind

__all__ = ["CHOICE_RULE", "HumanGrade", "WeakSource", "WeakSources", "gather_weak_sources"]

CHOICE_RULE = "expected-final-accuracy"
#: Fewer measured labels than this are no accuracy, as for the plans.
_MEASURED_MIN = 10
_MICROS_PER_UNIT = 1_000_000
_TRAINED_ON = (Purpose.PILOT, Purpose.TRAINING)


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
class HumanGrade:
    """One source of human labels.

    Attributes:
        source: With its price.
        quality: What measuring it against the reference showed; None for the reference.
    """

    source: Source
    quality: SourceQuality | None


@dataclass(frozen=True, slots=True)
class WeakSources:
    """All sources of a campaign, in the order they were created, and the choice among them.

    Attributes:
        sources: The weak ones; at least one.
        chosen: Id of the one that weak labels are bought from.
        reason: Why, in words; of several grades of human labels as well.
        grades: The human ones, the reference first.
        grade: Id of the one that was best with the chosen weak source; "" where there is no human source.
    """

    sources: tuple[WeakSource, ...]
    chosen: str
    reason: str
    grades: tuple[HumanGrade, ...] = ()
    grade: str = ""

    @property
    def chosen_source(self) -> WeakSource:
        """The one that weak labels are bought from."""
        return next(weak for weak in self.sources if weak.source.source_id == self.chosen)

    @property
    def calibration(self) -> Calibration:
        """What its labels go through before they are trained on."""
        report = self.chosen_source.calibration
        return report.calibration if report else Calibration()


async def gather_weak_sources(budget: BudgetClient, campaign: Campaign, sources: Sequence[Source]) -> WeakSources:
    """Measures a campaign's sources on the labels that are stored, and chooses among them.

    Where labels to train on have been bought from a weak source, that one stays chosen.

    Args:
        budget: The budget service.
        campaign: The campaign; its file says which source is calibrated and how.
        sources: Its sources, one MODEL source or more.
    """
    campaign_id = campaign.campaign_id
    humans = [source for source in sources if source.kind is SourceKind.HUMAN]
    models = [source for source in sources if source.kind is SourceKind.MODEL]
    human_choices: dict[str, int] = {}
    for source in humans:
        async for labelled in budget.labels(campaign_id, source_id=source.source_id, purposes=(Purpose.PILOT,)):
            human_choices.setdefault(labelled.item.item_id, labelled.label.choice)
    file: dict[str, Any] = json.loads(campaign.config_json) if campaign.config_json else {}
    methods = _calibration_methods(file)
    n_choices = len(campaign.task.choices)
    weak = [
        _measure(
            source,
            methods.get(source.source_id, CalibrationMethod.NONE),
            await _measured_labels(budget, campaign_id, source, human_choices),
            n_choices=n_choices,
        )
        for source in models
    ]
    grades = [HumanGrade(source, None) for source in humans[:1]]
    for source in humans[1:]:
        labels = await _measured_labels(budget, campaign_id, source, human_choices)
        grades.append(
            HumanGrade(source, measure_source(labels, n_choices=n_choices, price_micros=source.unit_price.micros))
        )
    orders = await budget.list_orders(campaign_id)
    names = {source.source_id for source in models}
    first = next((n for n, o in enumerate(orders) if o.source_id in names and o.purpose in _TRAINED_ON), len(orders))
    ranked: tuple[RankedPair, ...] = ()
    if humans and len(models) * len(humans) > 1:
        n_items = (await budget.get_campaign(campaign_id)).n_items
        inputs = _inputs(campaign, file, weak, grades, orders[:first], n_items)
        ranked = rank_sources(inputs, held_out_datasets=(campaign.task.name,))
    chosen = ranked[0].weak_source_id if ranked else models[0].source_id
    if first < len(orders):
        chosen = orders[first].source_id
    grade = next((pair.human_source_id for pair in ranked if pair.weak_source_id == chosen), "")
    if not grade and humans:
        grade = humans[0].source_id
    reason = _reason(weak, grades, ranked, chosen, campaign.budget.currency_code)
    return WeakSources(tuple(weak), chosen, reason, tuple(grades), grade)


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


def _calibration_methods(file: Mapping[str, Any]) -> dict[str, CalibrationMethod]:
    """By source, from the campaign file; empty for a campaign that was made without one."""
    return {
        section["name"]: CalibrationMethod(section.get("calibration", "none"))
        for section in file.get("sources", ())
        if section["kind"] == "model"
    }


# The choice ----------------------------------------------------------------------------------------------------------


def _inputs(
    campaign: Campaign,
    file: Mapping[str, Any],
    weak: Sequence[WeakSource],
    grades: Sequence[HumanGrade],
    before: Sequence[Order],
    n_items: int,
) -> PolicyInputs:
    """What the choice is made from: money, items and labels as they were before any weak label to train on was ordered.

    Args:
        campaign, file: The campaign and its file.
        weak, grades: What measuring showed.
        before: The orders of that time.
        n_items: Items of the pool.
    """
    reference = grades[0].source.source_id
    fixed = {
        source.source_id: source.unit_price.micros
        for source in (*(one.source for one in weak), *(one.source for one in grades))
        if source.price_per_million_tokens is None
    }
    spent = sum(order.n_settled * fixed.get(order.source_id, 0) for order in before)
    spent += sum(
        round(one.quality.n_measured * one.quality.price_micros) for one in weak if one.source.source_id not in fixed
    )
    own = [order for order in before if not order.items_of_order_id and order.purpose is not Purpose.GOLD_QUESTION]
    n_bought = sum(order.n_settled for order in before if order.purpose in _TRAINED_ON)
    n_eval = sum(o.n_settled for o in own if o.purpose is Purpose.EVALUATION and o.source_id == reference)
    available = max(1, campaign.budget.micros - spent)
    return PolicyInputs(
        weak=tuple(_state(one.source, one.quality) for one in weak),
        human=tuple(
            _state(one.source, one.quality, n_bought=n_bought if one.source.source_id == reference else 0)
            for one in grades
        ),
        available_micros=available,
        tranche_micros=-(-available // max(1, int(file.get("n_tranches") or 1))),
        n_items_free=max(1, n_items - sum(order.n_items for order in own)),
        n_choices=len(campaign.task.choices),
        n_eval=n_eval or None,
    )


def _state(source: Source, quality: SourceQuality | None, *, n_bought: int = 0) -> SourceState:
    price_micros = source.unit_price.micros
    if quality is None or quality.n_measured < _MEASURED_MIN:
        return SourceState(source.source_id, price_micros, n_bought)
    return SourceState(
        source.source_id, max(1, math.ceil(quality.price_micros)), n_bought, quality.accuracy, quality.n_measured
    )


def _reason(
    weak: Sequence[WeakSource],
    grades: Sequence[HumanGrade],
    ranked: Sequence[RankedPair],
    chosen: str,
    currency: str,
) -> str:
    """The choice in words: each source with its figures, and the accuracy expected in the end with its best pair."""
    figures = [(one.source, one.quality) for one in weak] + [(one.source, one.quality) for one in grades]
    words = {source.source_id: _describe(source, quality, currency) for source, quality in figures}
    if not ranked:
        return f"{words[chosen]}, the only weak source" if len(weak) == 1 else words[chosen]
    final: dict[str, float] = {}
    for pair in reversed(ranked):
        final[pair.weak_source_id] = pair.accuracy_final
    parts = [f"{words[chosen]}, the only weak source"]
    if len(weak) > 1:
        others = [one.source.source_id for one in weak if one.source.source_id != chosen]
        expected = f"{words[chosen]}, with an expected accuracy of {_thousandths(final[chosen])} once all is spent"
        parts = [expected, *(f"{_thousandths(final[name])} with {words[name]}" for name in others)]
    if len(grades) > 1:
        with_chosen = [pair for pair in ranked if pair.weak_source_id == chosen]
        listed = [f"{words[pair.human_source_id]} ({_thousandths(pair.accuracy_final)})" for pair in with_chosen]
        parts.append(f"human labels by expected accuracy: {', then '.join(listed)}")
    return "; ".join(parts)


def _describe(source: Source, quality: SourceQuality | None, currency: str) -> str:
    name = source.source_id
    if quality is None:
        return f"{name} (the reference) at {source.unit_price.micros / _MICROS_PER_UNIT:.4g} {currency}"
    price = f"{quality.price_micros / _MICROS_PER_UNIT:.4g} {currency}"
    if not quality.n_measured:
        return f"{name} (not measured) at {price}"
    low, high = quality.accuracy_interval
    return f"{name}: {_share(quality.accuracy)} ({_share(low)} to {_share(high)}) at {price}"


def _share(value: float) -> str:
    """Two digits behind the point: 0.71 is .71."""
    return f"{value:.2f}".removeprefix("0")


def _thousandths(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")
