"""How good a source is, measured against people's labels of the same items.

Its accuracy is the share of its most probable choices that are theirs. Which of several sources to buy from is for
`isocost.economics.policy.source_choice` to say.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from isocost.economics.interval import wilson_interval

__all__ = ["MeasuredLabel", "SourceQuality", "measure_source"]


@dataclass(frozen=True, slots=True)
class MeasuredLabel:
    """A source's answer to an item that a human has answered too.

    Attributes:
        probabilities: One for each choice.
        human_choice: Index of the human's choice.
        choices_mass: Probability of all choices together before normalising, 0 to 1; 0 where it is not known.
        price_micros: What the label cost, in millionths of a unit of the currency.
    """

    probabilities: tuple[float, ...]
    human_choice: int
    choices_mass: float
    price_micros: int

    @property
    def choice(self) -> int:
        """Index of the most probable choice; the first where several tie."""
        return max(range(len(self.probabilities)), key=lambda index: self.probabilities[index])


@dataclass(frozen=True, slots=True)
class SourceQuality:
    """What measuring a source showed.

    Attributes:
        n_choices: Choices of the task, C; at least 2.
        n_measured: Items that it and a human have answered.
        n_right: Of these, the items with the same answer.
        recalls: For each choice, the share of the human's answers that the source gave too; None where the human never
            gave it.
        choices_mass: Mean probability of all choices together before normalising, 0 to 1; None where it is not known.
        price_micros: Mean price of a label, in millionths of a unit of the currency; above 0.
    """

    n_choices: int
    n_measured: int
    n_right: int
    recalls: tuple[float | None, ...]
    choices_mass: float | None
    price_micros: float

    @property
    def accuracy(self) -> float:
        """Share of right answers, 0 to 1; that of a guesser where nothing was measured."""
        return self.n_right / self.n_measured if self.n_measured else 1 / self.n_choices

    @property
    def accuracy_interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the accuracy; from 0 to 1 where nothing was measured."""
        return wilson_interval(self.accuracy, self.n_measured) if self.n_measured else (0.0, 1.0)


def measure_source(labels: Sequence[MeasuredLabel], *, n_choices: int, price_micros: int) -> SourceQuality:
    """Compares a source's labels with human ones.

    Args:
        labels: Its labels of items that humans have answered; may be empty.
        n_choices: Choices of the task; at least 2.
        price_micros: Price of a label where none was measured; above 0.
    """
    recalls: list[float | None] = []
    for choice in range(n_choices):
        answered = [label for label in labels if label.human_choice == choice]
        recalls.append(sum(label.choice == choice for label in answered) / len(answered) if answered else None)
    masses = [label.choices_mass for label in labels if label.choices_mass > 0]
    return SourceQuality(
        n_choices=n_choices,
        n_measured=len(labels),
        n_right=sum(label.choice == label.human_choice for label in labels),
        recalls=tuple(recalls),
        choices_mass=statistics.fmean(masses) if masses else None,
        price_micros=statistics.fmean(label.price_micros for label in labels) if labels else float(price_micros),
    )
