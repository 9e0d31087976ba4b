"""The campaign's items, read from what its file names."""

from __future__ import annotations

import polars as pl

from isocost.campaign.config import CampaignConfig, DataConfig
from isocost.core.errors import InvalidArgumentError
from isocost.resources.label import one_hot
from isocost.resources.run import Example
from isocost.resources.task import Task
from isocost.tasks.dataset import Pool, build_pool, read_file, read_hub

__all__ = ["load_pool", "load_test_examples"]

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
    if any(human.channel.kind == "simulated" for human in config.humans) and config.data.gold_column is None:
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
