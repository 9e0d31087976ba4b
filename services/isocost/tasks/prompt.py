"""Prompts: the few-shot block first, the item last.

Legend: T tokens of one prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from isocost.core.errors import InvalidArgumentError
from isocost.resources.task import Task
from isocost.tasks.choices import answer_separator

__all__ = ["FewShotExample", "PromptEncoder", "PromptTooLongError"]


class PromptTooLongError(InvalidArgumentError):
    """An item whose prompt does not fit into the model's context."""


@dataclass(frozen=True, slots=True)
class FewShotExample:
    """One labelled example of a few-shot block: the item's fields and the index of its answer."""

    fields: Mapping[str, str]
    choice: int


class PromptEncoder:
    """Turns items into prompts of token ids for one task, tokenizer and few-shot block.

    The block is `question answer` for each example, joined by newlines, and is encoded once; each prompt is the block
    followed by the item's question, so all prompts share their first tokens and prefix caching hits. Spaces at the end
    of a question are dropped: the space before the answer is the answer's (see `isocost.tasks.choices`).

    Args:
        tokenizer: A Hugging Face tokenizer.
        task: The question.
        few_shot_examples: The frozen block; may be empty.
        max_tokens: Longest prompt accepted.
        lead: Token ids that end every prompt: `ChoiceTree.lead`.

    Raises:
        InvalidArgumentError: names the example that is wrong, or the block where it is too long.
    """

    def __init__(
        self,
        tokenizer: Any,
        task: Task,
        few_shot_examples: Sequence[FewShotExample] = (),
        *,
        max_tokens: int,
        lead: Sequence[int] = (),
    ) -> None:
        self._tokenizer = tokenizer
        self._lead = tuple(lead)
        self._task = task
        self._max_tokens = max_tokens
        #: Token ids every prompt begins with; empty without few-shot examples.
        self.prefix: tuple[int, ...] = self._encode_block(few_shot_examples) if few_shot_examples else ()
        if len(self.prefix) >= max_tokens:
            raise InvalidArgumentError(
                "few_shot_examples",
                f"the block alone has {len(self.prefix)} tokens and leaves no room for an item among the model's "
                f"{max_tokens}; use fewer or shorter examples",
            )

    def _encode_block(self, examples: Sequence[FewShotExample]) -> tuple[int, ...]:
        lines = []
        for index, example in enumerate(examples):
            if not 0 <= example.choice < len(self._task.choices):
                raise InvalidArgumentError(
                    f"few_shot_examples[{index}].choice",
                    f"{example.choice} is not the index of one of the {len(self._task.choices)} choices",
                )
            try:
                question = self._question(example.fields)
            except InvalidArgumentError as error:
                raise InvalidArgumentError(f"few_shot_examples[{index}].{error.field}", error.message) from None
            answer = self._task.choices[example.choice].strip()
            lines.append(f"{question}{answer_separator(self._task)}{answer}\n")
        tokens = self._tokenizer.encode("".join(lines), add_special_tokens=False, verbose=False)
        # What the tokenizer puts before a text (beginning of sequence) belongs here; what it puts behind one does not,
        # as the item follows.
        marked = self._tokenizer.encode("".join(lines), verbose=False)
        n_special = len(marked) - len(tokens)
        n_before = next((n for n in range(n_special + 1) if marked[n : n + len(tokens)] == tokens), 0)
        return (*marked[:n_before], *tokens)

    def encode(self, fields: Mapping[str, str]) -> list[int]:
        """The prompt of one item, as T token ids.

        Raises:
            InvalidArgumentError: where a field is missing or the prompt is longer than `max_tokens`.
        """
        (prompt,) = self.encode_many([fields])
        if isinstance(prompt, InvalidArgumentError):
            raise prompt
        return prompt

    def encode_many(self, items: Sequence[Mapping[str, str]]) -> list[list[int] | InvalidArgumentError]:
        """The prompt of each item, or why it has none; several times as fast as one by one."""
        texts: list[str | InvalidArgumentError] = []
        for fields in items:
            try:
                texts.append(self._question(fields))
            except InvalidArgumentError as error:
                texts.append(error)
        # Behind a block without special tokens: its own beginning-of-sequence token stands at the front already. Not
        # verbose: the length is checked below, with a message that names the remedy.
        encoded = iter(
            self._tokenizer(
                [text for text in texts if isinstance(text, str)],
                add_special_tokens=not self.prefix,
                return_attention_mask=False,
                return_token_type_ids=False,
                verbose=False,
            )["input_ids"]
            if any(isinstance(text, str) for text in texts)
            else ()
        )
        return [text if isinstance(text, InvalidArgumentError) else self._whole(next(encoded)) for text in texts]

    def _whole(self, tokens: list[int]) -> list[int] | PromptTooLongError:
        prompt = [*self.prefix, *tokens, *self._lead]
        if len(prompt) <= self._max_tokens:
            return prompt
        return PromptTooLongError(
            "fields",
            f"the prompt has {len(prompt)} tokens, more than the model's {self._max_tokens}; "
            "shorten the item's text or the few-shot block",
        )

    def _question(self, fields: Mapping[str, str]) -> str:
        return self._task.render(fields).rstrip(" \t")
