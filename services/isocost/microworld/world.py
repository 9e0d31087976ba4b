"""The made-up world: entities, relations, skewed values, and which facts belong to the pool or to the test.

Everything is a pure function of `WORLD_SEED`; nothing is read from disk.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import random
from collections.abc import Mapping

__all__ = [
    "NUM_ENTITIES",
    "NUM_TEST_FACTS",
    "RELATION_VALUES",
    "WORLD_SEED",
    "ZIPF_EXPONENT",
    "Claim",
    "Fact",
    "World",
    "build_world",
    "carried_world",
]

WORLD_SEED = 2410
"""Seed of the world that the carried models were pretrained on."""

NUM_ENTITIES = 320
"""Entities; each has one fact for each relation: 1,920 facts, enough for 2,840 balanced pool claims."""

NUM_TEST_FACTS = 500
"""Facts kept for test items; the rest make the pool."""

ZIPF_EXPONENT = 1.25
"""A relation's k-th most frequent value is held by a share of entities proportional to k**-ZIPF_EXPONENT."""

_LISTED_VALUES = {
    "colour": "red blue green white black yellow brown grey pink purple amber teal",
    "home": "coast forest desert valley island marsh meadow cliff cave river moor dune",
    "food": "rice bread fish beans nuts cheese honey figs corn eggs soup plums",
    "craft": "weaving pottery carving smithing baking sailing hunting writing tanning dyeing mining singing",
    "metal": "iron copper tin gold silver lead zinc bronze brass steel nickel cobalt",
    "animal": "horse goat dog cat owl hawk otter bear fox deer hare crow",
}

RELATION_VALUES: Mapping[str, tuple[str, ...]] = {
    relation: tuple(listed.split()) for relation, listed in _LISTED_VALUES.items()
}
"""Relation -> its possible values (listed in no order of frequency)."""


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Fact:
    """What is true of one entity under one relation."""

    entity: str
    """Made-up name, one word."""
    relation: str
    """A key of `RELATION_VALUES`."""
    value: str
    """The one true value, one word."""


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Claim:
    """A statement about an entity: true if it states the fact, false if it states another value."""

    entity: str
    """The entity spoken of."""
    relation: str
    """The relation spoken of."""
    value: str
    """The value claimed."""
    is_true: bool
    """Whether the value is the fact's."""


@dataclasses.dataclass(frozen=True, slots=True)
class World:
    """All facts, split into those behind pool items and those behind test items."""

    seed: int
    """What the world was drawn with."""
    entities: tuple[str, ...]
    """All entities' names."""
    values: Mapping[str, tuple[str, ...]]
    """Relation -> values, the most frequent first."""
    pool_facts: tuple[Fact, ...]
    """Facts that claims of the pool are about."""
    test_facts: tuple[Fact, ...]
    """Facts that claims of the test are about; disjoint from the pool's."""

    @property
    def relations(self) -> tuple[str, ...]:
        """All relations."""
        return tuple(self.values)

    @property
    def facts(self) -> tuple[Fact, ...]:
        """All facts, sorted."""
        return tuple(sorted(self.pool_facts + self.test_facts))

    def is_frequent(self, relation: str, value: str) -> bool:
        """Whether a value is one of the three most frequent of its relation.

        These are more often claimed truly than falsely, so this is what a judge who knows no facts goes by.
        """
        return value in self.values[relation][:3]

    def true_claim(self, fact: Fact) -> Claim:
        """The claim that states the fact."""
        return Claim(fact.entity, fact.relation, fact.value, is_true=True)

    def false_claims(self, fact: Fact) -> tuple[Claim, ...]:
        """One claim for each other value of the fact's relation."""
        return tuple(
            Claim(fact.entity, fact.relation, value, is_true=False)
            for value in self.values[fact.relation]
            if value != fact.value
        )


def build_world(seed: int = WORLD_SEED) -> World:
    """Draw a world: names, the order of frequency of each relation's values, facts, and the split.

    Frequencies are exact, not sampled: each relation's values are dealt out in their Zipf shares, shuffled.
    """
    rng = random.Random(seed)
    entities = _entity_names(rng)
    values: dict[str, tuple[str, ...]] = {}
    facts: list[Fact] = []
    for relation, listed in RELATION_VALUES.items():
        ranked = rng.sample(listed, len(listed))
        values[relation] = tuple(ranked)
        counts = _zipf_counts(len(ranked))
        dealt = [value for value, count in zip(ranked, counts, strict=True) for _ in range(count)]
        rng.shuffle(dealt)
        facts.extend(Fact(e, relation, value) for e, value in zip(entities, dealt, strict=True))
    rng.shuffle(facts)
    return World(
        seed=seed,
        entities=entities,
        values=values,
        pool_facts=tuple(sorted(facts[NUM_TEST_FACTS:])),
        test_facts=tuple(sorted(facts[:NUM_TEST_FACTS])),
    )


@functools.cache
def carried_world() -> World:
    """The world of the carried models (`WORLD_SEED`), built once."""
    return build_world(WORLD_SEED)


def _entity_names(rng: random.Random) -> tuple[str, ...]:
    """Draw `NUM_ENTITIES` two-syllable names, none of them a word used elsewhere in the texts."""
    syllables = [c + v for c, v in itertools.product("bdfgklmnprstvz", "aeiou")]
    endings = ["l", "n", "r", "s", "x"]
    names = [a + b + e for a, b, e in itertools.product(syllables, syllables, endings)]
    taken = {word for words in RELATION_VALUES.values() for word in words} | set(RELATION_VALUES)
    return tuple(name for name in rng.sample(names, NUM_ENTITIES) if name not in taken)


def _zipf_counts(num_values: int) -> tuple[int, ...]:
    """How many entities hold each value, the most frequent first; sums to `NUM_ENTITIES`."""
    weights = [rank**-ZIPF_EXPONENT for rank in range(1, num_values + 1)]
    shares = [NUM_ENTITIES * weight / sum(weights) for weight in weights]
    counts = [int(share) for share in shares]
    by_remainder = sorted(range(num_values), key=lambda k: counts[k] - shares[k])
    for k in by_remainder[: NUM_ENTITIES - sum(counts)]:
        counts[k] += 1
    return tuple(counts)
