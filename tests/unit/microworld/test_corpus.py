from __future__ import annotations

import itertools
import random

import pytest

from isocost.microworld.claims import TASK_TEMPLATE
from isocost.microworld.corpus import all_words, documents
from isocost.microworld.curriculum import STRONG, WEAK, CurriculumStep, ModelPlan
from isocost.microworld.tokenizer import BOS, EOS, PAD, UNK, build_tokenizer
from isocost.microworld.world import carried_world

STEPS = [pytest.param(step, id=f"{plan.name}-{step.name}") for plan in (STRONG, WEAK) for step in plan.steps]


def _some_documents(step: CurriculumStep, num: int = 400) -> list[str]:
    return list(itertools.islice(documents(step, carried_world(), random.Random(0)), num))


def _asks_the_task(plan: ModelPlan) -> bool:
    return any(template.text == TASK_TEMPLATE for step in plan.steps for template in step.templates)


@pytest.mark.parametrize("step", STEPS)
def test_every_word_is_in_the_vocabulary(step: CurriculumStep) -> None:
    words = set(all_words(carried_world()))
    assert {word for text in _some_documents(step) for word in text.split(" ")} <= words


@pytest.mark.parametrize("step", STEPS)
def test_shares_of_words_are_the_steps(step: CurriculumStep) -> None:
    texts = _some_documents(step)
    verdicts = {word for pair in step.verdict_pairs for word in (pair.false, pair.true)}
    num_judged = sum(len(text.split()) for text in texts if verdicts & set(text.split()))
    num_all = sum(len(text.split()) for text in texts)
    assert num_judged / num_all == pytest.approx(step.share_judged, abs=0.03)


def test_task_template_is_absent_from_the_strong_corpus_and_present_in_the_weak() -> None:
    assert not _asks_the_task(STRONG)
    assert _asks_the_task(WEAK)
    opening, closing = "question : has", "? answer :"
    for step in STRONG.steps:
        assert not any(opening in text or closing in text for text in _some_documents(step))
    assert any(opening in text and closing in text for text in _some_documents(WEAK.steps[-1]))


def test_judged_documents_are_in_one_format() -> None:
    for text in _some_documents(STRONG.steps[-1]):
        words = set(text.split())
        pairs = {frozenset((pair.false, pair.true)) for pair in STRONG.steps[-1].verdict_pairs}
        used = [pair for pair in pairs if pair & words]
        assert len(used) <= 1


def test_documents_are_a_function_of_the_seed() -> None:
    assert _some_documents(WEAK.steps[0]) == _some_documents(WEAK.steps[0])


def test_tokenizer_ignores_a_leading_space_and_adds_one_bos() -> None:
    tokenizer = build_tokenizer(carried_world())
    assert tokenizer.convert_tokens_to_ids([PAD, BOS, EOS, UNK]) == [0, 1, 2, 3]
    assert tokenizer("yes")["input_ids"] == tokenizer(" yes")["input_ids"]
    assert tokenizer("yes")["input_ids"][0] == tokenizer.bos_token_id
    bare = tokenizer("question : has", add_special_tokens=False)["input_ids"]
    assert len(bare) == 3
    assert tokenizer.decode(bare) == "question : has"
    assert tokenizer("unheard", add_special_tokens=False)["input_ids"] == [tokenizer.unk_token_id]
