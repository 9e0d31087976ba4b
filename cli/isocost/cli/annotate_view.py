"""What an annotator sees in a terminal, and what the keys mean."""

from __future__ import annotations

from dataclasses import dataclass

from rich.markup import escape

from isocost.cli.console import console
from isocost.core.money import Money
from isocost.resources.task import Item, Task
from isocost.tasks.choice_keys import HELP, QUIT, SKIP, UNDO, ChoiceKeys

__all__ = ["Standing", "print_help", "print_item"]

#: So that an item's text cannot steer the terminal that shows it.
_CONTROLS = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160)], "\N{REPLACEMENT CHARACTER}")


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a campaign's human labels stand, as the service says it.

    Attributes:
        n_answered, n_ordered: Labels of the source's orders that were open in this session: those answered, and all.
        settled, budget: What the campaign has spent, and may spend.
        unit_price: What one label of the source costs.
    """

    n_answered: int
    n_ordered: int
    settled: Money
    budget: Money
    unit_price: Money

    def line(self, n_paid: int, n_paid_since: int, n_pending: int) -> str:
        """The standing in a line.

        Args:
            n_paid: Labels of this session that are stored and paid.
            n_paid_since: Those of them that came after the service was asked.
            n_pending: Labels that are answered and not stored yet.
        """
        price, currency = self.unit_price.micros, self.budget.currency_code
        earned = Money(n_paid * price, currency)
        settled = Money(self.settled.micros + n_paid_since * price, currency)
        n_answered = self.n_answered + n_paid_since + n_pending
        return f"{n_answered:,} of {self.n_ordered:,} answered; {earned} earned here; {settled} of {self.budget} spent"


def print_item(task: Task, item: Item, keys: ChoiceKeys, standing: str) -> None:
    """Shows an item: where things stand, the question, and the choices with their keys."""
    console.print()
    console.rule(f"[dim]{escape(standing)}[/]", align="left", style="dim")
    console.print(escape(_plain(task.render(item.fields))))
    for line in _choice_lines(task, keys):
        console.print(f"[bold]{escape(line[:6])}[/]{escape(line[6:])}")


def print_help(task: Task, keys: ChoiceKeys) -> None:
    """Says what each key does."""
    console.print("One key answers:")
    for line in _choice_lines(task, keys):
        console.print(escape(line))
    if keys.needs_enter:
        console.print("Numbers end with Enter.")
    console.print(
        f"   {UNDO}  undo: takes the last answer back, until it is stored; an answer is stored when the next item is\n"
        "      answered or skipped, at the end of a batch, and when you quit; then nobody can change it\n"
        f"   {SKIP}  skip: gives the item back, for somebody else or for another day\n"
        f"   {QUIT}  quit: stores the last answer and gives the rest back; so does Ctrl-C\n"
        f"   {HELP}  this help"
    )


def _choice_lines(task: Task, keys: ChoiceKeys) -> list[str]:
    """One line a choice: its keys and itself."""
    return [
        f"{number:>4} {letter or ' '}  {_plain(choice.strip())}"
        for number, (letter, choice) in enumerate(zip(keys.letters, task.choices, strict=True), start=1)
    ]


def _plain(text: str) -> str:
    return text.translate(_CONTROLS)
