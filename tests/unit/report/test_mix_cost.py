from __future__ import annotations

import pytest

from isocost.core.money import Money
from isocost.report.mix_cost import cost_of_all_grades
from isocost.resources.campaign import EntryKind, LedgerEntry
from isocost.resources.label import Purpose
from isocost.resources.observation import Evaluation, Observation
from isocost.resources.task import Source, SourceKind

WEAK = Source("weak", SourceKind.MODEL, Money(10), "m")
EXPERT, CROWD = Source("expert", SourceKind.HUMAN, Money(1_000)), Source("crowd", SourceKind.HUMAN, Money(300))
PURPOSES = {
    "evaluation": Purpose.EVALUATION,
    "pilot": Purpose.PILOT,
    "measured": Purpose.EVALUATION,
    "bought": Purpose.TRAINING,
    "weak": Purpose.PILOT,
}


def _entries(*parts: tuple[str, Source, int]) -> list[LedgerEntry]:
    entries: list[LedgerEntry] = []
    for order_id, source, n_labels in parts:
        kinds = [EntryKind.RESERVE] + [EntryKind.SETTLE] * n_labels
        entries += [
            LedgerEntry(len(entries) + n, "c", order_id, source.source_id, kind, source.unit_price, f"l{n}", None)
            for n, kind in enumerate(kinds)
        ]
    return entries


def _observation(n_weak: int, n_human: int, source_id: str) -> Observation:
    cost = n_weak * 10 + n_human * {"expert": 1_000, "crowd": 300, "": 0}[source_id]
    return Observation(
        f"r{n_weak}-{n_human}",
        "m",
        n_weak,
        n_human,
        0,
        Evaluation("evaluation", 10, 0.5, 0.4, 0.6, 0.5),
        weak_source_id="weak" if n_weak else "",
        human_source_id=source_id,
        cost=Money(cost),
    )


def test_human_labels_cost_what_each_grade_was_paid() -> None:
    entries = _entries(
        ("evaluation", EXPERT, 3), ("pilot", EXPERT, 4), ("measured", CROWD, 2), ("weak", WEAK, 5), ("bought", CROWD, 6)
    )
    observations = [_observation(5, 10, "crowd"), _observation(0, 4, "expert"), _observation(5, 0, "")]
    observations.append(_observation(2, 6, "expert"))
    corrected = cost_of_all_grades(observations, [WEAK, EXPERT, CROWD], entries, PURPOSES)
    # Four of the experts' pilot and the crowd's after them; what measures is not trained on.
    expected = [50 + 4_000 + 6 * 300, 4_000, 50, 20 + 4_000 + 2 * 300]
    assert [one.cost.micros for one in corrected if one.cost] == expected
    assert [one.run_id for one in corrected] == [one.run_id for one in observations]


@pytest.mark.parametrize("sources", [[WEAK, EXPERT], [EXPERT]])
def test_with_one_grade_nothing_is_changed(sources: list[Source]) -> None:
    observations = [_observation(5, 10, "expert")]
    assert cost_of_all_grades(observations, sources, [], {}) == observations
