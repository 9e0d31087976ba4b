"""How good a weak source is, measured against human labels, and which of several to buy from.

The rule `information-per-price`, stated in full:

1. A source is measured on items that humans have answered: its accuracy is the share of its most probable choices that
   are theirs.
2. The accuracy a that the rule reckons with is a cautious one: the mean of the posterior less one of its standard
   deviations. The posterior's prior is one right answer and C - 1 wrong ones among C choices, so that a source that is
   not measured counts as a guesser (for two choices this is Laplace's rule of succession). Without the deviation, a
   guesser that was lucky on a few items and costs little would beat a good source.
3. The information of a label is ((a - 1/C) / (1 - 1/C))^2, and 0 for sources that do no better than guessing. For two
   choices with error rate eta it is (1 - 2 eta)^2: so many labels without noise are worth one with it, as in the sample
   complexity of learning from labels that are flipped at random (Angluin & Laird 1988).
4. The source with the most information for its mean price is bought from. Where none has any, it is the most accurate
   one; of equals the cheaper one, then the one named first.

This is the rule for choosing among weak sources until the adaptive policy weighs what each can teach at most: errors
that are systematic, not random, bound what any number of weak labels can teach, and no price makes up for that.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from isocost.economics.interval import wilson_interval

__all__ = [
    "CHOICE_RULE",
    "MeasuredLabel",
    "SourceChoice",
    "SourceQuality",
    "choose_source",
    "information_per_price",
    "measure_source",
]

CHOICE_RULE = "information-per-price"
_MICROS_PER_UNIT = 1_000_000


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

    @property
    def cautious_accuracy(self) -> float:
        """Mean of the accuracy's posterior, less one standard deviation (rule 2); 0 to 1."""
        right, wrong = self.n_right + 1, self.n_measured - self.n_right + self.n_choices - 1
        total = right + wrong
        return max(0.0, right / total - math.sqrt(right * wrong / (total * total * (total + 1))))

    @property
    def information(self) -> float:
        """Labels without noise that one label is worth (rule 3); 0 to 1."""
        chance = 1 / self.n_choices
        return max(0.0, (self.cautious_accuracy - chance) / (1 - chance)) ** 2


@dataclass(frozen=True, slots=True)
class SourceChoice:
    """The source to buy from, and why, in words."""

    name: str
    reason: str


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


def information_per_price(quality: SourceQuality) -> float:
    """Information of the labels that one unit of the currency buys (rule 4); never negative."""
    return quality.information * _MICROS_PER_UNIT / quality.price_micros


def choose_source(qualities: Mapping[str, SourceQuality], *, currency: str) -> SourceChoice:
    """Chooses by the rule above. Deterministic given its inputs and their order.

    Args:
        qualities: By the source's name, in the order of the campaign file.
        currency: Named in the reason.

    Raises:
        ValueError: where there is no source.
    """
    if not qualities:
        raise ValueError("there is no weak source to choose from")
    ranked = sorted(
        qualities,
        key=lambda name: (
            -information_per_price(qualities[name]),
            -qualities[name].cautious_accuracy,
            qualities[name].price_micros,
        ),
    )
    best, *others = ranked
    words = _describe(best, qualities[best], currency)
    if not others:
        return SourceChoice(best, f"{words}, the only weak source")
    value = information_per_price(qualities[best])
    if not value:
        listed = "; ".join(_describe(name, qualities[name], currency) for name in others)
        return SourceChoice(best, f"{words}, the most accurate: no weak source is told from guessing ({listed})")
    return SourceChoice(
        best, "; ".join([words, *(_compare(value, name, qualities[name], currency) for name in others)])
    )


def _compare(value: float, name: str, quality: SourceQuality, currency: str) -> str:
    words, other = _describe(name, quality, currency), information_per_price(quality)
    if not other:
        return f"{words}, not told from guessing"
    return f"{value / other:.3g} times the information per {currency} of {words}"


def _describe(name: str, quality: SourceQuality, currency: str) -> str:
    price = f"{quality.price_micros / _MICROS_PER_UNIT:.4g} {currency}"
    if not quality.n_measured:
        return f"{name} (not measured) at {price}"
    low, high = quality.accuracy_interval
    return f"{name}: {_share(quality.accuracy)} ({_share(low)} to {_share(high)}) at {price}"


def _share(value: float) -> str:
    """Two digits behind the point: 0.71 is .71."""
    return f"{value:.2f}".removeprefix("0")
