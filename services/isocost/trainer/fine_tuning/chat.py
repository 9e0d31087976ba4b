"""Examples as conversations: what the user says is the prompt, what the assistant says is the choice."""

from __future__ import annotations

import json
from collections.abc import Sequence

from isocost.core.errors import InvalidArgumentError
from isocost.resources.run import Example
from isocost.resources.task import Task
from isocost.tasks.choices import answer_separator

__all__ = ["Chat"]


class Chat:
    """Renders the examples of one task with one few-shot block, as `isocost.tasks.prompt` does with token ids.

    An example of the block is asked with the rest of the block, so that none gives its own answer away.

    Args:
        task: The question.
        few_shot: The block before every question; may be empty.
    """

    def __init__(self, task: Task, few_shot: Sequence[Example]) -> None:
        self._task = task
        separator = answer_separator(task)
        self._block = [
            (example.item_id, f"{self._question(example)}{separator}{self._answer(example)}\n") for example in few_shot
        ]

    def prompt(self, example: Example) -> str:
        """The block and the question, in one message: a model that was given it answers with a choice."""
        shown = "".join(line for item_id, line in self._block if item_id != example.item_id)
        return f"{shown}{self._question(example)}"

    def training_file(self, examples: Sequence[Example], *, n_examples_min: int = 1) -> bytes:
        """The examples as JSON Lines, one conversation a line, in their order.

        A label that is a distribution becomes its most probable choice: a conversation has one answer. Where there are
        fewer than `n_examples_min`, all are repeated as often as it takes.
        """
        n_repeats = max(1, -(-n_examples_min // len(examples)))
        lines = [
            json.dumps(
                {
                    "messages": [
                        {"role": "user", "content": self.prompt(example)},
                        {"role": "assistant", "content": self._answer(example)},
                    ]
                },
                ensure_ascii=False,
            )
            for example in examples
        ]
        return "".join(f"{line}\n" for line in lines * n_repeats).encode()

    def _question(self, example: Example) -> str:
        try:
            return self._task.render(example.fields).rstrip(" \t")
        except InvalidArgumentError as error:
            raise InvalidArgumentError(f"item {example.item_id!r}", f"{error.field}: {error.message}") from None

    def _answer(self, example: Example) -> str:
        return self._task.choices[example.choice].strip()
