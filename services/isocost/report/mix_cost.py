"""What a mix of labels cost where its human labels are of several grades.

The budget service reckons the human labels of an observation at the price of the one source that it names. A campaign
of `isocost run` trains on the human labels of all grades, in the sequence in which they were bought: the pilot's are
the reference's, the later ones may be another grade's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate

from isocost.core.money import Money
from isocost.resources.campaign import EntryKind, LedgerEntry
from isocost.resources.label import Purpose
from isocost.resources.observation import Observation
from isocost.resources.task import Source, SourceKind

__all__ = ["cost_of_all_grades"]

_TRAINED_ON = (Purpose.PILOT, Purpose.TRAINING)


def cost_of_all_grades(
    observations: Sequence[Observation],
    sources: Sequence[Source],
    entries: Sequence[LedgerEntry],
    purposes: Mapping[str, Purpose],
) -> list[Observation]:
    """The observations, each with the cost of its labels whatever their grade; as they are where there is one grade.

    Args:
        observations: Of a campaign that trains on the human labels of all grades.
        sources: Of the campaign.
        entries: Its ledger, in sequence.
        purposes: Of its orders, by id.
    """
    prices = {source.source_id: source.unit_price.micros for source in sources if source.kind is SourceKind.HUMAN}
    if len(prices) < 2:
        return list(observations)
    paid = [
        entry.amount.micros
        for entry in entries
        if entry.kind is EntryKind.SETTLE and entry.source_id in prices and purposes[entry.order_id] in _TRAINED_ON
    ]
    first = list(accumulate(paid, initial=0))

    def corrected(observation: Observation) -> Observation:
        if observation.cost is None or not observation.n_human:
            return observation
        reckoned = observation.n_human * prices[observation.human_source_id]
        micros = observation.cost.micros - reckoned + first[observation.n_human]
        return replace(observation, cost=Money(micros, observation.cost.currency_code))

    return [corrected(observation) for observation in observations]
