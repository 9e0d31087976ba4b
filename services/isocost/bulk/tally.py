"""What became of the rows so far, in numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from isocost.bulk.rows import Row
from isocost.core.money import Money
from isocost.resources.label import Label

__all__ = ["Answered", "Tally"]


@dataclass(frozen=True, slots=True)
class Answered:
    """One row and what became of it.

    Attributes:
        row: The row.
        label: Its label, or None where error is set.
        stored: Whether it was made earlier.
        error: Why it has none, or "".
        error_reason: What kind of error it is, or "".
    """

    row: Row
    label: Label | None
    stored: bool = False
    error: str = ""
    error_reason: str = ""


@dataclass(slots=True)
class Tally:
    """Counts of a job.

    Attributes:
        n_rows: Rows to answer.
        n_labels: Rows with a label, those with stored ones included.
        n_stored: Labels that were made earlier.
        errors: Rows without a label, by the kind of error.
        prompt_tokens: Of all labels.
        currency: ISO 4217 code; None where labels have no price.
        cost_micros: What all labels cost, those made earlier included.
        new_cost_micros: What the labels made by this job cost.
    """

    n_rows: int
    n_labels: int = 0
    n_stored: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int = 0
    currency: str | None = None
    cost_micros: int = 0
    new_cost_micros: int = 0

    @property
    def n_errors(self) -> int:
        """Rows that have no label."""
        return self.errors.total()

    @property
    def n_done(self) -> int:
        """Rows that are answered, with a label or an error."""
        return self.n_labels + self.n_errors

    @property
    def cost(self) -> Money | None:
        """What all labels cost; None where they have no price."""
        return None if self.currency is None else Money(self.cost_micros, self.currency)

    @property
    def new_cost(self) -> Money | None:
        """What the labels made by this job cost; None where they have no price."""
        return None if self.currency is None else Money(self.new_cost_micros, self.currency)

    def add(self, answer: Answered, cost_micros: int) -> None:
        """Counts one row, whose label cost so much."""
        if answer.label is None:
            self.errors[answer.error_reason] += 1
            return
        self.n_labels += 1
        self.prompt_tokens += answer.label.prompt_tokens
        self.cost_micros += cost_micros
        if answer.stored:
            self.n_stored += 1
        else:
            self.new_cost_micros += cost_micros

    def merge(self, other: Tally) -> None:
        """Adds another's answers to these."""
        self.n_labels += other.n_labels
        self.n_stored += other.n_stored
        self.errors.update(other.errors)
        self.prompt_tokens += other.prompt_tokens
        self.cost_micros += other.cost_micros
        self.new_cost_micros += other.new_cost_micros
