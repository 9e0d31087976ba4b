"""The choices' probabilities, read from what the API tells of an answer: in each place the token put there and the 20
most probable ones, as text and not as ids of a tokenizer that is known.

The rules:

1. A token belongs to each choice that the answer so far, with it, is a beginning of. White space in front does not
   count; nor does the case of ASCII letters, unless two choices differ by it alone. A choice's probability is the sum
   over its tokens.
2. A token that belongs to several choices ("very" of "very good" and "very bad") tells them apart by the next place,
   where the model put that token. Where it did not, or ended there, the token is the choice's that it spells out; where
   it spells out none, they share it equally.
3. What is left of a token's probability in the next place, after the choices that go on from it, is the choice's that
   ends there ("no" beside "no idea").
4. A choice with no token among the most probable ones has at most the probability of the least probable one shown, and
   at most what all those shown leave over, of which the choices not seen have equal parts; it gets that bound.
5. At the end the choices' probabilities are divided by their sum. Where no choice was seen they are equal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from isocost.resources.task import Task
from isocost.trainer.fine_tuning.api import TokenChoices

__all__ = ["AnswerReader"]

#: Least probability of a choice: the API's logarithms have some seven digits, and no choice is impossible.
_FLOOR = 1e-9


class AnswerReader:
    """Reads the answers to one task.

    Args:
        task: Its choices are what is looked for.
    """

    def __init__(self, task: Task) -> None:
        choices = [choice.strip().encode() for choice in task.choices]
        self._folds = len({choice.lower() for choice in choices}) == len(choices)
        self._choices = [self._fold(choice) for choice in choices]
        n_shared = max(
            _n_shared(one, other) for index, one in enumerate(self._choices) for other in self._choices[:index]
        )
        #: Tokens of an answer that are needed at most: each is a byte at least.
        self.n_tokens_max = n_shared + 1

    def probabilities(self, places: Sequence[TokenChoices]) -> tuple[float, ...] | None:
        """One probability for each choice, summing to 1; None where no choice was seen.

        Args:
            places: The places of the answer, from its first.
        """
        sums = [0.0] * len(self._choices)
        if not places:
            return None
        self._read(places, b"", 1.0, list(range(len(sums))), sums)
        if not any(sums):
            return None
        shown = [math.exp(min(0.0, token.log_probability)) for token in places[0].top]
        n_missing = sum(value == 0.0 for value in sums)
        bound = min(*shown, max(0.0, 1.0 - math.fsum(shown)) / max(1, n_missing))
        sums = [value or bound for value in sums]
        floored = [max(_FLOOR, value) for value in sums]
        total = math.fsum(floored)
        return tuple(value / total for value in floored)

    def _read(
        self, places: Sequence[TokenChoices], before: bytes, probability: float, among: Sequence[int], sums: list[float]
    ) -> float:
        """Adds to `sums` what the first of `places` tells about some choices, all of which begin with `before`.

        Returns:
            The part of `probability`, which is that of `before`, that was given to choices.
        """
        given = 0.0
        for token in places[0].top:
            text = before + token.text
            spelt = self._fold(text)
            mine = [index for index in among if self._choices[index].startswith(spelt)]
            is_chosen = token.text == places[0].chosen
            # White space belongs to all choices and says nothing, unless the answer goes on behind it.
            if not mine or (not spelt and not (is_chosen and len(places) > 1)):
                continue
            part = probability * math.exp(min(0.0, token.log_probability))
            ended = [index for index in mine if self._choices[index] == spelt]
            if len(mine) > 1 and is_chosen and len(places) > 1:
                part_given = self._read(places[1:], text, part, mine, sums)
                if ended:
                    sums[ended[0]] += max(0.0, part - part_given)
            else:
                for index in ended or mine:
                    sums[index] += part / len(ended or mine)
            given += part
        return given

    def _fold(self, text: bytes) -> bytes:
        return text.lstrip().lower() if self._folds else text.lstrip()


def _n_shared(one: bytes, other: bytes) -> int:
    """Bytes that two choices begin with in common."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
