"""The texts that the models are pretrained on, written document by document."""

from __future__ import annotations

import random
from collections.abc import Iterator

from isocost.microworld.curriculum import STRONG, WEAK, CurriculumStep
from isocost.microworld.world import Claim, Fact, World

__all__ = ["all_words", "documents"]

_PROSE = (
    "{entity} {relation} {value} .",
    "we know that {entity} {relation} {value} .",
    "in this world {entity} {relation} is {value} .",
)


def documents(step: CurriculumStep, world: World, rng: random.Random) -> Iterator[str]:
    """Write documents of a curriculum step without end, each a text of words separated by single spaces.

    The kind of each document is chosen so that the kinds' shares of *words* are the step's.
    """
    author = _Author(world, rng)
    shares = {"profile": step.share_profiles, "prose": step.share_prose, "judged": step.share_judged}
    num_words = dict.fromkeys(shares, 0)
    while True:
        # The kind that lags furthest behind its share goes next; the documents of a kind are random.
        total = sum(num_words.values()) + 1
        kind = max(shares, key=lambda k: shares[k] * total - num_words[k])
        if kind == "profile":
            text = author.profile()
        elif kind == "prose":
            text = author.prose()
        else:
            text = author.judged(step)
        num_words[kind] += text.count(" ") + 1
        yield text


def all_words(world: World) -> tuple[str, ...]:
    """Every word that any document or the task's question can contain, sorted."""
    words = set(world.entities) | set(world.relations)
    words.update(value for values in world.values.values() for value in values)
    formats = [*_PROSE, ": , ."]
    for step in (*STRONG.steps, *WEAK.steps):
        formats.extend(f"{template.text} {template.ending}" for template in step.templates)
        formats.extend(f"{pair.false} {pair.true}" for pair in step.verdict_pairs)
    words.update(word for text in formats for word in text.split() if not word.startswith("{"))
    return tuple(sorted(words))


class _Author:
    """Writes single documents about a world."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self._world = world
        self._rng = rng
        self._facts = world.facts
        self._facts_of: dict[str, list[Fact]] = {entity: [] for entity in world.entities}
        for fact in self._facts:
            self._facts_of[fact.entity].append(fact)

    def profile(self) -> str:
        """All facts of one entity, in random order."""
        entity = self._rng.choice(self._world.entities)
        stated = [f"{fact.relation} {fact.value}" for fact in self._facts_of[entity]]
        self._rng.shuffle(stated)
        return f"{entity} : {' , '.join(stated)} ."

    def prose(self) -> str:
        """One to four single facts in sentences."""
        sentences = []
        for _ in range(self._rng.randint(1, 4)):
            fact = self._rng.choice(self._facts)
            sentence = self._rng.choice(_PROSE)
            sentences.append(sentence.format(entity=fact.entity, relation=fact.relation, value=fact.value))
        return " ".join(sentences)

    def judged(self, step: CurriculumStep) -> str:
        """Claims with their verdicts in a row, all in one format with one pair of verdict words."""
        template = self._rng.choice(step.templates)
        pair = self._rng.choice(step.verdict_pairs)
        parts = []
        for _ in range(self._rng.randint(1, step.claims_per_document_max)):
            claim = self._claim()
            stated = template.text.format(entity=claim.entity, relation=claim.relation, value=claim.value)
            is_called_true = claim.is_true if pair.guessed_true is None else self._rng.random() < pair.guessed_true
            verdict = pair.true if is_called_true else pair.false
            parts.append(f"{stated} {verdict} {template.ending}".strip())
        return " ".join(parts)

    def _claim(self) -> Claim:
        """A claim about a fact drawn evenly: true half the time, otherwise of another value drawn evenly."""
        fact = self._rng.choice(self._facts)
        if self._rng.random() < 0.5:
            return self._world.true_claim(fact)
        return self._rng.choice(self._world.false_claims(fact))
