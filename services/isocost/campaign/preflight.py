"""What is checked, before anything is bought, of the models that a campaign file names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from isocost.campaign.config import CampaignConfig
from isocost.campaign.source import ModelSource
from isocost.core.errors import InvalidArgumentError
from isocost.resources.task import Item, Task
from isocost.tasks.choices import ChoiceTree, answer_separator, choice_token_ids
from isocost.tasks.model_path import REMOTE_PREFIX, adapter_base_model, is_adapter, resolve_model
from isocost.tasks.prompt import PromptEncoder

__all__ = ["preflight"]

#: Tokens by which an example of a few-shot block may be longer within the block than alone: tokenizers may cut
#: differently where two texts meet.
_SEAM_TOKENS = 2


def preflight(config: CampaignConfig, items: Sequence[Item]) -> dict[str, int]:
    """Checks that all models are there and can read every item.

    Returns:
        By source of weak labels, the most prompt tokens that one label may take.

    Raises:
        InvalidArgumentError: names the model, the choice or the item.
    """
    task = config.task.task()
    # Of a model behind an API there is no tokenizer; what it cannot read, the API says.
    if not config.strong_model.startswith(REMOTE_PREFIX):
        tokenizer, max_tokens = _load_tokenizer(config.strong_model, "strong_model")
        if config.method.head == "language_model":
            choice_token_ids(tokenizer, task)
        _longest_prompt(PromptEncoder(tokenizer, task, max_tokens=max_tokens), items, "strong_model")
    return {section.name: _label_tokens_max(section, section.task(task), items) for section in config.models}


def _label_tokens_max(section: ModelSource, task: Task, items: Sequence[Item]) -> int:
    field = f"sources.{section.name}.model"
    tokenizer, max_tokens = _load_tokenizer(section.model, field)
    if section.runner == "classify":
        return _longest_prompt(PromptEncoder(tokenizer, task, max_tokens=max_tokens), items, field)
    tree = ChoiceTree.build(tokenizer, task)
    suffixes = [len(one.suffix) for one in tree.passes]
    max_tokens -= max(suffixes)
    encoder = PromptEncoder(tokenizer, task, max_tokens=max_tokens, lead=tree.lead)
    longest = _longest_prompt(encoder, items, field)
    if section.few_shot_count:
        # The examples are bought later: the longest that there can be are reckoned with.
        longest += section.few_shot_count * (_longest_example(tokenizer, task, items) + _SEAM_TOKENS)
    # A longer prompt is refused, not paid for.
    return sum(min(longest, max_tokens) + suffix for suffix in suffixes)


def _longest_prompt(encoder: PromptEncoder, items: Sequence[Item], field: str) -> int:
    longest = 0
    for item, prompt in zip(items, encoder.encode_many([item.fields for item in items]), strict=True):
        if isinstance(prompt, InvalidArgumentError):
            raise InvalidArgumentError(f"item {item.item_id}", f"{prompt.message} (read by {field})")
        longest = max(longest, len(prompt))
    return longest


def _longest_example(tokenizer: Any, task: Task, items: Sequence[Item]) -> int:
    """Tokens of the longest question with an answer, as a line of a few-shot block."""

    def n_tokens(texts: Sequence[str]) -> list[int]:
        encoded = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        return [len(tokens) for tokens in encoded]

    answers = [f"{answer_separator(task)}{choice.strip()}\n" for choice in task.choices]
    return max(n_tokens([task.render(item.fields) for item in items])) + max(n_tokens(answers))


def _load_tokenizer(model: str, field: str) -> tuple[Any, int]:
    """The model's tokenizer and the tokens of its longest prompt; an adapter's are those of its base model."""
    from transformers import AutoConfig, AutoTokenizer  # noqa: PLC0415 - slow to import

    folder = Path(model).expanduser()
    path = adapter_base_model(model, folder, field=field) if is_adapter(folder) else resolve_model(model, field=field)
    try:
        model_config = AutoConfig.from_pretrained(path)
        tokenizer = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidArgumentError(
            field, f"{model!r} cannot be loaded: {reason} Give the folder of a downloaded model, or a hub name"
        ) from None
    # One position is kept for the answer: vLLM refuses a prompt that fills the context.
    return tokenizer, int(model_config.max_position_embeddings) - 1
