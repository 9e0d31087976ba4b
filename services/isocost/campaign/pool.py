"""The campaign's items, read from what its file names, and checked before anything is bought."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from isocost.campaign.config import CampaignConfig, DataConfig
from isocost.core.errors import InvalidArgumentError
from isocost.resources.label import one_hot
from isocost.resources.run import Example
from isocost.resources.task import Item, Task
from isocost.tasks.dataset import Pool, build_pool, read_file, read_hub
from isocost.tasks.model_path import resolve_model
from isocost.tasks.prompt import PromptEncoder, choice_token_ids

__all__ = ["load_pool", "load_test_examples", "preflight"]

#: Name under which a campaign file asks for the carried testbed.
MICROWORLD = "microworld"


def _read(config: DataConfig, *, seed: int, test: bool, origin: str) -> pl.DataFrame:
    if config.path == MICROWORLD:
        from isocost.microworld import claims  # noqa: PLC0415 - only the testbed needs it

        if test:
            return claims.test_frame(config.n_items_max or claims.TEST_ITEMS_MAX, seed)
        return claims.pool_frame(config.n_items_max or claims.POOL_ITEMS_MAX, seed)
    if config.path is not None:
        return read_file(config.path, field=f"{origin}.path")
    hub = config.hub
    assert hub is not None
    return read_hub(hub.name, hub.config, hub.split, field=f"{origin}.hub")


def _pool(config: DataConfig, task: Task, *, seed: int, test: bool, origin: str) -> Pool:
    return build_pool(
        _read(config, seed=seed, test=test, origin=origin),
        task,
        fields=config.fields,
        id_column=config.id_column,
        gold_column=config.gold_column,
        gold_values=config.gold_values,
        n_items_max=config.n_items_max,
        origin=origin,
    )


def load_pool(config: CampaignConfig) -> Pool:
    """Reads the campaign's items.

    Raises:
        InvalidArgumentError: names the field of the campaign file, or the row, that is wrong.
    """
    pool = _pool(config.data, config.task.task(), seed=config.seed, test=False, origin="data")
    config.check_pool(len(pool.items))
    if config.human.channel.kind == "simulated" and config.data.gold_column is None:
        raise InvalidArgumentError(
            "data.gold_column", "not set; a simulated annotator reads its answers from this column"
        )
    return pool


def load_test_examples(config: CampaignConfig) -> list[Example]:
    """Reads the benchmark with its gold answers; empty where the campaign file names none.

    Raises:
        InvalidArgumentError: names the field of the campaign file, or the row, that is wrong.
    """
    if config.test is None:
        return []
    task = config.task.task()
    if config.test.gold_column is None:
        raise InvalidArgumentError("test.gold_column", "not set; a benchmark needs its gold answers")
    pool = _pool(config.test, task, seed=config.seed, test=True, origin="test")
    n_choices = len(task.choices)
    return [Example(item.item_id, item.fields, one_hot(pool.gold[item.item_id], n_choices)) for item in pool.items]


def preflight(config: CampaignConfig, items: Sequence[Item]) -> None:
    """Checks, before anything is bought, that both models are there and can read every item.

    Raises:
        InvalidArgumentError: names the model, the choice or the item.
    """
    task = config.task.task()
    reads_choices = config.method.head == "language_model"
    _check_model(task, config.strong_model, items, field="strong_model", reads_choices=reads_choices)
    weak = config.weak
    _check_model(task, weak.model, items, field=f"sources.{weak.name}.model", reads_choices=weak.runner == "generate")


def _check_model(task: Task, model: str, items: Sequence[Item], *, field: str, reads_choices: bool) -> None:
    tokenizer, max_tokens = _load_tokenizer(model, field)
    if reads_choices:
        choice_token_ids(tokenizer, task.choices)
    encoder = PromptEncoder(tokenizer, task, max_tokens=max_tokens)
    for item in items:
        try:
            encoder.encode(item.fields)
        except InvalidArgumentError as error:
            raise InvalidArgumentError(f"item {item.item_id}", f"{error.message} (read by {field})") from None


def _load_tokenizer(model: str, field: str) -> tuple[Any, int]:
    """The model's tokenizer and the tokens of its longest prompt."""
    from transformers import AutoConfig, AutoTokenizer  # noqa: PLC0415 - slow to import

    path = resolve_model(model, field=field)
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
