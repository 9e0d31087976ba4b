from __future__ import annotations

from collections import Counter

from isocost.microworld.world import (
    NUM_ENTITIES,
    NUM_TEST_FACTS,
    RELATION_VALUES,
    build_world,
    carried_world,
)


def test_same_seed_gives_same_world_and_another_seed_another() -> None:
    assert build_world(3) == build_world(3)
    assert build_world(3).facts != build_world(4).facts


def test_every_entity_has_one_fact_for_each_relation() -> None:
    world = carried_world()
    assert len(set(world.entities)) == NUM_ENTITIES
    assert len({(fact.entity, fact.relation) for fact in world.facts}) == NUM_ENTITIES * len(RELATION_VALUES)
    assert len(world.facts) == NUM_ENTITIES * len(RELATION_VALUES)


def test_pool_and_test_facts_are_disjoint() -> None:
    world = carried_world()
    assert len(world.test_facts) == NUM_TEST_FACTS
    assert not set(world.pool_facts) & set(world.test_facts)


def test_values_are_listed_from_frequent_to_rare() -> None:
    world = carried_world()
    for relation, values in world.values.items():
        counts = Counter(fact.value for fact in world.facts if fact.relation == relation)
        ranked = [counts[value] for value in values]
        assert ranked == sorted(ranked, reverse=True)
        assert ranked[0] > 8 * ranked[-1] > 0


def test_words_are_unique_across_relations_and_names() -> None:
    world = carried_world()
    words = [*world.entities, *world.relations, *(v for values in world.values.values() for v in values)]
    assert len(words) == len(set(words))


def test_false_claims_cover_the_other_values() -> None:
    world = carried_world()
    fact = world.facts[0]
    claimed = {claim.value for claim in world.false_claims(fact)}
    assert claimed == set(world.values[fact.relation]) - {fact.value}
    assert world.true_claim(fact).is_true
    assert not any(claim.is_true for claim in world.false_claims(fact))
