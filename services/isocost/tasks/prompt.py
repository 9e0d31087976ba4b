"""Prompts: the few-shot block first, the item last, and the token ids of the choices.

Legend: T tokens of one prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from isocost.core.errors import InvalidArgumentError
from isocost.resources.task import Task

__all__ = ["FewShotExample", "PromptEncoder", "choice_token_ids"]


@dataclass(frozen=True, slots=True)
class FewShotExample:
    """One labelled example of a few-shot block: the item's fields and the index of its answer."""

    fields: Mapping[str, str]
    choice: int


def choice_token_ids(tokenizer: Any, choices: Sequence[str]) -> tuple[int, ...]:
    """The first token of each choice as it follows a prompt, that is, after a space.

    Only the first token is read (one forward pass an item), so the first tokens must differ.

    Raises:
        InvalidArgumentError: where a choice has no token, is unknown to the tokenizer, or two first tokens collide.
    """
    ids: dict[int, str] = {}
    for choice in choices:
        tokens = tokenizer.encode(" " + choice.strip(), add_special_tokens=False)
        # Some tokenizers write the space as a token of its own; it says nothing about the choice.
        while len(tokens) > 1 and not tokenizer.decode([tokens[0]]).strip():
            tokens = tokens[1:]
        if not tokens or tokens[0] == tokenizer.unk_token_id:
            raise InvalidArgumentError("task.choices", f"{choice!r} is not in the model's vocabulary; use another word")
        if tokens[0] in ids:
            raise InvalidArgumentError(
                "task.choices",
                f"{ids[tokens[0]]!r} and {choice!r} begin with the same token; use choices that differ from the start",
            )
        ids[tokens[0]] = choice
    return tuple(ids)


class PromptEncoder:
    """Turns items into prompts of token ids for one task, tokenizer and few-shot block.

    The block is `question answer` for each example, joined by newlines, and is encoded once; each prompt is the block
    followed by the item's question, so all prompts share their first tokens and prefix caching hits.

    Args:
        tokenizer: A Hugging Face tokenizer.
        task: The question.
        few_shot_examples: The frozen block; may be empty.
        max_tokens: Longest prompt accepted.

    Raises:
        InvalidArgumentError: names the example that is wrong, or the block where it is too long.
    """

    def __init__(
        self, tokenizer: Any, task: Task, few_shot_examples: Sequence[FewShotExample] = (), *, max_tokens: int
    ) -> None:
        self._tokenizer = tokenizer
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
                question = self._task.render(example.fields)
            except InvalidArgumentError as error:
                raise InvalidArgumentError(f"few_shot_examples[{index}].{error.field}", error.message) from None
            lines.append(f"{question} {self._task.choices[example.choice].strip()}\n")
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
        text = self._task.render(fields)
        if self.prefix:
            # Without special tokens: the block's own beginning-of-sequence token stands at the front already.
            # Not verbose: the length is checked below, with a message that names the remedy.
            tokens = [*self.prefix, *self._tokenizer.encode(text, add_special_tokens=False, verbose=False)]
        else:
            tokens = list(self._tokenizer.encode(text, verbose=False))
        if len(tokens) > self._max_tokens:
            raise InvalidArgumentError(
                "fields",
                f"the prompt has {len(tokens)} tokens, more than the model's {self._max_tokens}; "
                "shorten the item's text or the few-shot block",
            )
        return tokens
