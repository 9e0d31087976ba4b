"""How a language model answers: the choices' token ids, as a tree where their first ones do not tell them apart.

The rules, for every tokenizer:

1. An answer follows the question after one space; where the template ends in a line break, directly. Spaces at the very
   end of a question are dropped, as they would stand between the question and the answer's own space.
2. A choice's tokens are those that it has in that place, not those that it has alone.
3. Tokens of white space that all choices begin with (tokenizers that write the space as a token of its own) belong to
   the prompt.
4. Where the first tokens of the choices differ, one forward pass reads them all. Where several choices share their
   first tokens ("very good", "very bad"), each shared beginning is one more pass, which reads the tokens that come
   next; a choice's probability is the product along its tokens up to the first that no other choice shares.
5. A choice that is the beginning of another ("no", "no idea") has what is left of that beginning's probability after
   the others that go on from it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from isocost.core.errors import InvalidArgumentError
from isocost.resources.task import Task

__all__ = ["ChoicePass", "ChoiceTree", "answer_separator", "choice_token_ids"]

#: Least probability that rule 5 leaves to a choice: what rounding may hide.
_REST_MIN = 1e-12


def answer_separator(task: Task) -> str:
    """What stands between a question and its answer: a space, or nothing where the template ends in a line break."""
    return "" if task.template.rstrip(" \t").endswith("\n") else " "


@dataclass(frozen=True, slots=True)
class ChoicePass:
    """One forward pass.

    Attributes:
        suffix: Token ids put behind the prompt.
        token_ids: Different token ids whose probabilities as the next token are read.
    """

    suffix: tuple[int, ...]
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ChoiceTree:
    """The forward passes that answer a task, and how their answers make the choices' probabilities.

    Attributes:
        lead: White-space token ids that all choices begin with; they end every prompt.
        paths: Token ids of each choice behind the lead, up to the first that tells it from all others.
        passes: The first reads the answer's first token; its suffix is empty.
    """

    lead: tuple[int, ...]
    paths: tuple[tuple[int, ...], ...]
    passes: tuple[ChoicePass, ...] = field(init=False)

    def __post_init__(self) -> None:
        shared = {path[:length] for path in self.paths for length in range(1, len(path) + 1)}
        shared = {beginning for beginning in shared if self._longer(beginning)}
        beginnings = [(), *sorted(shared, key=lambda beginning: (len(beginning), beginning))]
        passes = tuple(
            ChoicePass(beginning, tuple(dict.fromkeys(path[len(beginning)] for path in self._longer(beginning))))
            for beginning in beginnings
        )
        object.__setattr__(self, "passes", passes)

    @classmethod
    def build(cls, tokenizer: Any, task: Task) -> ChoiceTree:
        """The tree of a task's choices.

        Args:
            tokenizer: A Hugging Face tokenizer.
            task: The question.

        Raises:
            InvalidArgumentError: names `task.choices` where a choice is not in the vocabulary, or two have the same
                tokens.
        """
        tokens = [_answer_tokens(tokenizer, task, choice) for choice in task.choices]
        n_lead = 0
        while all(len(path) > n_lead + 1 for path in tokens) and len({path[n_lead] for path in tokens}) == 1:
            if tokenizer.decode([tokens[0][n_lead]]).strip():
                break
            n_lead += 1
        whole = [path[n_lead:] for path in tokens]
        paths: list[tuple[int, ...]] = []
        for index, (choice, path) in enumerate(zip(task.choices, whole, strict=True)):
            others = [other for position, other in enumerate(whole) if position != index]
            if path in others:
                twin = task.choices[next(n for n, other in enumerate(whole) if n != index and other == path)]
                raise InvalidArgumentError(
                    "task.choices",
                    f"{choice!r} and {twin!r} are the same tokens to the model; use choices that differ",
                )
            n_needed = 1 + max(_n_shared(path, other) for other in others)
            kept = path[:n_needed]
            if not kept or tokenizer.unk_token_id in kept:
                raise InvalidArgumentError(
                    "task.choices", f"{choice!r} is not in the model's vocabulary; use another word"
                )
            paths.append(kept)
        return cls(tuple(tokens[0][:n_lead]), tuple(paths))

    def log_probabilities(self, answers: Sequence[Sequence[float]]) -> tuple[float, ...]:
        """The natural logarithm of each choice's probability.

        Args:
            answers: For each of `passes`, the log-probability of each of its token ids among the whole vocabulary.
        """
        of_step = {
            (one.suffix, token_id): value
            for one, answer in zip(self.passes, answers, strict=True)
            for token_id, value in zip(one.token_ids, answer, strict=True)
        }
        values = []
        for path in self.paths:
            steps = [of_step[path[:length], path[length]] for length in range(len(path))]
            if self._longer(path):
                # Rule 5.
                gone = math.fsum(math.exp(value) for (beginning, _), value in of_step.items() if beginning == path)
                steps.append(math.log(max(_REST_MIN, 1.0 - gone)) if math.isfinite(gone) else math.nan)
            values.append(steps[0] if len(steps) == 1 else math.fsum(steps))
        return tuple(values)

    def _longer(self, beginning: tuple[int, ...]) -> list[tuple[int, ...]]:
        length = len(beginning)
        return [path for path in self.paths if len(path) > length and path[:length] == beginning]


def choice_token_ids(tokenizer: Any, task: Task) -> tuple[int, ...]:
    """One token id for each choice, for those who can read one position only, such as a trained language-model head.

    Raises:
        InvalidArgumentError: names `task.choices` where the choices' first tokens do not tell them apart, or as
            `ChoiceTree.build`.
    """
    tree = ChoiceTree.build(tokenizer, task)
    if len(tree.passes) > 1:
        shared = tree.passes[1].suffix[0]
        alike = [choice for choice, path in zip(task.choices, tree.paths, strict=True) if path[0] == shared]
        raise InvalidArgumentError(
            "task.choices",
            f"{alike[0]!r} and {alike[1]!r} begin with the same token, and one token is read; use choices that differ "
            "from the start, or a classification head",
        )
    return tuple(path[0] for path in tree.paths)


def _answer_tokens(tokenizer: Any, task: Task, choice: str) -> tuple[int, ...]:
    """A choice's token ids as they follow the end of the task's template."""
    separator = answer_separator(task)
    # What stands before it decides how some tokenizers cut: they put a space before a text that begins.
    before = task.template.rpartition("}")[2].rstrip(" \t") or ":"
    start = tokenizer.encode(before, add_special_tokens=False)
    whole = tokenizer.encode(f"{before}{separator}{choice.strip()}", add_special_tokens=False)
    if whole[: len(start)] == start:
        return tuple(whole[len(start) :])
    # The end of the question and the answer make one token together: as near as can be.
    return tuple(tokenizer.encode(f"{separator}{choice.strip()}", add_special_tokens=False))


def _n_shared(one: Sequence[int], other: Sequence[int]) -> int:
    """Tokens that two paths begin with in common."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
