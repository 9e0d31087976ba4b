"""The keys with which people answer: the same in the terminal and on the web page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

__all__ = ["HELP", "QUIT", "SKIP", "UNDO", "ChoiceKeys"]

UNDO, SKIP, QUIT, HELP = "u", "s", "q", "?"
_COMMANDS = {UNDO, SKIP, QUIT, HELP}


class ChoiceKeys:
    """The keys of a task's choices: numbers from 1, and first letters that no other choice and no command has.

    Args:
        choices: The task's choices.
    """

    def __init__(self, choices: Sequence[str]) -> None:
        firsts = [choice.strip()[0].casefold() for choice in choices]
        n_choices_with = Counter(firsts)
        self._letters = {
            letter: index
            for index, letter in enumerate(firsts)
            if letter.isalpha() and n_choices_with[letter] == 1 and letter not in _COMMANDS
        }
        self._n_choices = len(choices)

    @property
    def needs_enter(self) -> bool:
        """Whether one digit does not tell the choices apart."""
        return self._n_choices > 9

    @property
    def letters(self) -> list[str]:
        """The letter of each choice; "" where it has none."""
        of_choice = {index: letter for letter, index in self._letters.items()}
        return [of_choice.get(index, "") for index in range(self._n_choices)]

    def choice(self, key: str) -> int | None:
        """The index of the choice that a key stands for; None where it stands for none."""
        if key.isascii() and key.isdigit():
            return int(key) - 1 if 1 <= int(key) <= self._n_choices else None
        return self._letters.get(key.casefold())
