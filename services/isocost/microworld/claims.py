"""Claims as items to be labelled: the pool to buy labels for, the test to measure with, and the question."""

from __future__ import annotations

import random
from collections.abc import Sequence

import polars as pl

from isocost.microworld.world import Claim, Fact, World, carried_world

__all__ = [
    "POOL_ITEMS_MAX",
    "TASK_CHOICES",
    "TASK_TEMPLATE",
    "TEST_ITEMS_MAX",
    "pool_frame",
    "task_prompt",
    "test_frame",
]

TASK_TEMPLATE = "question : has {entity} {relation} {value} ? answer :"
"""The question asked of each item; the answer is the next word. The strong model has never read it."""

TASK_CHOICES = ("no", "yes")
"""The possible answers, the false one first; each is one token."""

POOL_ITEMS_MAX = 2 * len(carried_world().pool_facts)
"""Most distinct balanced items of the pool: every pool fact stated truly once, and as many false claims."""

TEST_ITEMS_MAX = 2 * len(carried_world().test_facts)
"""Most distinct balanced items of the test."""


def task_prompt(entity: str, relation: str, value: str) -> str:
    """The task's question about one item, without an answer.

    >>> task_prompt("batin", "colour", "red")
    'question : has batin colour red ? answer :'
    """
    return TASK_TEMPLATE.format(entity=entity, relation=relation, value=value)


def pool_frame(n_items: int, seed: int) -> pl.DataFrame:
    """Draw items of the pool (at most `POOL_ITEMS_MAX`), balanced, no claim twice, in random order.

    Returns a frame with columns id, entity, relation, value and label ("no" or "yes": the known answer), all
    strings. The first k rows are a random sample too, but not an exactly balanced one.
    """
    world = carried_world()
    return _claims_frame(world, world.pool_facts, n_items, seed, prefix="pool")


def test_frame(n_items: int, seed: int) -> pl.DataFrame:
    """Draw items of the test (at most `TEST_ITEMS_MAX`), from facts that the pool does not ask about.

    Returns a frame as `pool_frame` does.
    """
    world = carried_world()
    return _claims_frame(world, world.test_facts, n_items, seed, prefix="test")


test_frame.__test__ = False  # type: ignore[attr-defined]  # pytest would otherwise collect it where it is imported


def _claims_frame(world: World, facts: Sequence[Fact], n_items: int, seed: int, prefix: str) -> pl.DataFrame:
    """Draw half true claims and half false ones, a false value drawn evenly from the fact's other values."""
    if not 2 <= n_items <= 2 * len(facts):
        raise ValueError(f"n_items must be between 2 and {2 * len(facts)}, not {n_items}")
    rng = random.Random(f"{prefix}:{seed}")
    num_true = n_items // 2
    chosen = [world.true_claim(fact) for fact in rng.sample(facts, num_true)]
    chosen += [rng.choice(world.false_claims(fact)) for fact in rng.sample(facts, n_items - num_true)]
    rng.shuffle(chosen)
    return pl.DataFrame(
        {
            "id": [_claim_id(prefix, claim) for claim in chosen],
            "entity": [claim.entity for claim in chosen],
            "relation": [claim.relation for claim in chosen],
            "value": [claim.value for claim in chosen],
            "label": [TASK_CHOICES[claim.is_true] for claim in chosen],
        }
    )


def _claim_id(prefix: str, claim: Claim) -> str:
    """An id that is the same in every frame, whatever its size and seed."""
    return f"{prefix}-{claim.entity}-{claim.relation}-{claim.value}"
