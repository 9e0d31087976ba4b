"""What labels cost, and a budget that is never exceeded."""

from __future__ import annotations

from collections.abc import Sequence

from isocost.bulk.rows import Row
from isocost.core.errors import BudgetExceededError, InvalidArgumentError
from isocost.core.money import Money
from isocost.resources.task import Source, SourceKind, Task
from isocost.tasks.prompt import FewShotExample

__all__ = ["Purse", "form_price", "prompt_bytes"]

#: Tokens that a tokenizer puts around a text, and then some.
_TOKENS_AROUND = 16


def form_price(unit_price: str | None, price_per_million_tokens: str | None, currency: str) -> Source | None:
    """The price of a label, as a source: fixed, or by prompt tokens; None where neither is given.

    Raises:
        InvalidArgumentError: names the option that is no price, or both where both are given.
    """
    if unit_price is not None and price_per_million_tokens is not None:
        raise InvalidArgumentError("--unit-price", "given with --price-per-million-tokens; give one of them")
    for option, amount in (("--unit-price", unit_price), ("--price-per-million-tokens", price_per_million_tokens)):
        if amount is not None:
            price = Money.parse(amount, currency, field=option)
            if price.micros <= 0:
                raise InvalidArgumentError(option, f"{price}; a price must be greater than zero")
            return Source("label", SourceKind.MODEL, price, "", None if option == "--unit-price" else price)
    return None


def prompt_bytes(task: Task, examples: Sequence[FewShotExample]) -> int:
    """UTF-8 length of all that a prompt has beside its item's texts."""
    question = len(task.template.encode())
    block = sum(
        len(task.render(example.fields).encode()) + len(task.choices[example.choice].encode()) + 2
        for example in examples
    )
    return question + block


class Purse:
    """Reserves before labels are asked for and settles when they are there, as the budget service does.

    What a metered label will cost is not known before: one token for each byte of its prompt is reserved, which
    tokenizers do not exceed, or more where labels seen so far had more.

    Args:
        price: Of a label; None where labels have none.
        budget: The most that all labels of the file may cost; None for no bound.
        prompt_bytes: Length of a prompt without its item's texts.
    """

    def __init__(self, price: Source | None, budget: Money | None, prompt_bytes: int) -> None:
        self.price = price
        self.budget = budget
        self._prompt_bytes = prompt_bytes
        self._tokens_per_byte = 1.0
        self._settled_micros = 0
        self._reserved_micros = 0
        self._reserved_by_row: dict[int, int] = {}

    @property
    def settled(self) -> Money | None:
        """What the labels so far cost; None where they have no price."""
        if self.price is None:
            return None
        return Money(self._settled_micros, self.price.unit_price.currency_code)

    def check(self, n_rows: int) -> None:
        """Checks that the budget pays for so many labels at a fixed price.

        Raises:
            InvalidArgumentError: names `--budget`, what is needed and what is there.
        """
        if self.budget is None:
            return
        if self.price is None:
            raise InvalidArgumentError(
                "--budget", "given without a price; give --unit-price or --price-per-million-tokens"
            )
        if self.price.price_per_million_tokens is None:
            needed = Money(n_rows * self.price.unit_price.micros, self.budget.currency_code)
            if needed.micros > self.budget.micros:
                raise InvalidArgumentError(
                    "--budget",
                    f"{self.budget} does not pay for {n_rows:,} labels at {self.price.unit_price}: they cost {needed}; "
                    "raise it, or label fewer rows",
                )

    def reserve(self, rows: Sequence[Row]) -> int:
        """Reserves the price of as many of the rows, from the first, as the budget pays for; returns their number."""
        if self.budget is None:
            return len(rows)
        for count, row in enumerate(rows):
            bound = self._bound_micros(row)
            if self._settled_micros + self._reserved_micros + bound > self.budget.micros:
                return count
            self._reserved_by_row[row.number] = bound
            self._reserved_micros += bound
        return len(rows)

    def settle(self, row: Row, prompt_tokens: int | None) -> int:
        """Ends a row's reservation; returns what its label cost, in micros.

        Args:
            row: The row.
            prompt_tokens: Of its label; None where it has none, which costs nothing.
        """
        self._reserved_micros -= self._reserved_by_row.pop(row.number, 0)
        if self.price is None or prompt_tokens is None:
            return 0
        self._tokens_per_byte = max(self._tokens_per_byte, prompt_tokens / self._bytes(row))
        cost = self.price.label_price(prompt_tokens).micros
        self._settled_micros += cost
        return cost

    def exceeded(self) -> BudgetExceededError:
        """The error where the budget is used up before the rows are."""
        assert self.budget is not None
        return BudgetExceededError(
            f"{self.settled} of {self.budget} is spent, and what is left does not surely pay for the next label; "
            "raise it and run the same command again: the labels made are kept",
            field="--budget",
        )

    def _bytes(self, row: Row) -> int:
        return row.n_bytes + self._prompt_bytes + _TOKENS_AROUND

    def _bound_micros(self, row: Row) -> int:
        if self.price is None or row.item is None:
            return 0
        return self.price.label_price(int(self._bytes(row) * self._tokens_per_byte) + 1).micros
