from __future__ import annotations

from collections.abc import Callable

import polars as pl
import pytest

from isocost.microworld import claims
from isocost.microworld.claims import POOL_ITEMS_MAX, TASK_CHOICES, TEST_ITEMS_MAX, task_prompt
from isocost.microworld.world import carried_world

FRAMES = [
    pytest.param(claims.pool_frame, POOL_ITEMS_MAX, id="pool"),
    pytest.param(claims.test_frame, TEST_ITEMS_MAX, id="test"),
]


@pytest.mark.parametrize(("frame_of", "num_max"), FRAMES)
def test_frame_is_balanced_and_nothing_is_there_twice(
    frame_of: Callable[[int, int], pl.DataFrame], num_max: int
) -> None:
    frame = frame_of(num_max, 0)
    assert frame.columns == ["id", "entity", "relation", "value", "label"]
    assert frame.height == num_max
    assert frame["id"].n_unique() == num_max
    assert frame.select("entity", "relation", "value").is_unique().all()
    assert (frame["label"] == "yes").sum() == num_max // 2
    assert set(frame["label"]) == set(TASK_CHOICES)


@pytest.mark.parametrize(("frame_of", "num_max"), FRAMES)
def test_labels_are_the_facts(frame_of: Callable[[int, int], pl.DataFrame], num_max: int) -> None:
    truth = {(fact.entity, fact.relation): fact.value for fact in carried_world().facts}
    for row in frame_of(num_max, 1).iter_rows(named=True):
        assert (row["label"] == "yes") == (truth[row["entity"], row["relation"]] == row["value"])


@pytest.mark.parametrize(("frame_of", "num_max"), FRAMES)
def test_frame_is_a_function_of_its_seed(frame_of: Callable[[int, int], pl.DataFrame], num_max: int) -> None:
    assert frame_of(100, 5).equals(frame_of(100, 5))
    assert not frame_of(100, 5).equals(frame_of(100, 6))
    with pytest.raises(ValueError, match="n_items"):
        frame_of(num_max + 1, 0)
    with pytest.raises(ValueError, match="n_items"):
        frame_of(1, 0)


def test_an_id_always_means_the_same_claim() -> None:
    both = pl.concat([claims.pool_frame(2000, 0), claims.pool_frame(2000, 1)]).unique()
    assert both["id"].n_unique() == both.height


def test_pool_and_test_ask_about_different_facts() -> None:
    pool = claims.pool_frame(POOL_ITEMS_MAX, 0).select("entity", "relation")
    test = claims.test_frame(TEST_ITEMS_MAX, 0).select("entity", "relation")
    assert pool.join(test, on=["entity", "relation"]).is_empty()


def test_false_values_are_drawn_evenly() -> None:
    world = carried_world()
    false = claims.pool_frame(POOL_ITEMS_MAX, 0).filter(pl.col("label") == "no")
    rows = false.iter_rows(named=True)
    num_frequent = sum(world.is_frequent(row["relation"], row["value"]) for row in rows)
    # 3 of 12 values are frequent; most facts have one of them, so 2 of 11 to 3 of 11 remain.
    assert 0.16 < num_frequent / false.height < 0.28


def test_prompt_keeps_entity_relation_value_in_this_order() -> None:
    assert task_prompt("batin", "colour", "red") == "question : has batin colour red ? answer :"
