from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from isocost.campaign.config import CampaignConfig
from isocost.campaign.preflight import preflight
from isocost.core.errors import InvalidArgumentError
from isocost.microworld.carried import model_dir
from isocost.resources.task import Item
from isocost.tasks.choices import ChoiceTree
from isocost.tasks.prompt import FewShotExample, PromptEncoder

WORDS = ("red", "blue", "colour", "batin", "has", "question", ":", "?", "yes", "no")
TEMPLATE = "question : {text} ? answer :"


def _config(*, choices: tuple[str, ...] = ("no", "yes"), **model: Any) -> CampaignConfig:
    return CampaignConfig.model_validate(
        {
            "campaign": "c",
            "budget": 1000,
            "task": {"name": "t", "template": TEMPLATE, "choices": choices},
            "data": {"path": "x.csv", "gold_column": "g"},
            "sources": [
                {
                    "kind": "model",
                    "name": "weak",
                    "price_per_million_tokens": 1,
                    "model": "microworld:weak",
                    **model,
                },
                {"kind": "human", "unit_price": 1, "channel": {"kind": "simulated"}},
            ],
            "strong_model": "microworld:strong",
            # Several tokens a choice are the weak source's business here.
            "method": {"head": "classification"},
            "evaluation": {"n_labels": 10},
            "pilot": {"n_weak": 10, "n_human": 20},
        }
    )


def _prompt_tokens(config: CampaignConfig, item: Item, examples: list[FewShotExample]) -> int:
    """What the labeler counts for a label."""
    tokenizer = AutoTokenizer.from_pretrained(str(model_dir("weak")))
    task = config.models[0].task(config.task.task())
    tree = ChoiceTree.build(tokenizer, task)
    prompt = PromptEncoder(tokenizer, task, examples, max_tokens=10_000, lead=tree.lead).encode(item.fields)
    return sum(len(prompt) + len(one.suffix) for one in tree.passes)


items_strategy = st.lists(
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(" ".join), min_size=4, max_size=8, unique=True
).map(lambda texts: [Item(f"i{index}", {"text": text}) for index, text in enumerate(texts)])


@given(items=items_strategy, few_shot_count=st.integers(0, 4), data=st.data())
@settings(deadline=None, max_examples=30)
def test_no_label_takes_more_tokens_than_is_reckoned_with(
    items: list[Item], few_shot_count: int, data: st.DataObject
) -> None:
    choices = data.draw(st.sampled_from([("no", "yes"), ("red yes", "red no", "blue")]))
    template = data.draw(st.sampled_from([None, "{text} ?", "has {text}\n"]))
    config = _config(choices=choices, few_shot_count=few_shot_count, template=template)
    n_tokens_max = preflight(config, items)["weak"]
    shown = data.draw(st.lists(st.sampled_from(items), min_size=few_shot_count, max_size=few_shot_count))
    examples = [FewShotExample(item.fields, data.draw(st.integers(0, len(choices) - 1))) for item in shown]
    asked = data.draw(st.sampled_from(items))
    assert _prompt_tokens(config, asked, examples) <= n_tokens_max


def test_without_examples_it_is_the_longest_prompt() -> None:
    items = [Item("a", {"text": "red"}), Item("b", {"text": "red blue batin"})]
    config = _config()
    assert preflight(config, items) == {"weak": _prompt_tokens(config, items[1], [])}


def test_no_prompt_is_reckoned_longer_than_the_models_context() -> None:
    items = [Item("a", {"text": "red " * 40})]
    assert preflight(_config(few_shot_count=50), items)["weak"] == preflight(_config(few_shot_count=90), items)["weak"]


@pytest.mark.parametrize("template", [None, "{text} {text} {text}"])
def test_an_item_that_a_source_cannot_read_is_named_with_the_source(template: str | None) -> None:
    # Three times as long for the source that asks three times.
    items = [Item("short", {"text": "red"}), Item("long", {"text": "red " * (10_000 if template is None else 800)})]
    with pytest.raises(InvalidArgumentError, match=r"read by (strong_model|sources\.weak\.model)") as caught:
        preflight(_config(template=template), items)
    assert caught.value.field == "item long"


def test_an_adapter_is_read_with_its_base_model(tmp_path: Path) -> None:
    items = [Item("a", {"text": "red blue"})]
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "/gone/away"}))
    (tmp_path / "isocost.json").write_text(json.dumps({"base_model": "microworld:weak"}))
    assert preflight(_config(model=str(tmp_path)), items) == preflight(_config(), items)
    (tmp_path / "isocost.json").unlink()
    with pytest.raises(InvalidArgumentError, match=r"base model of .* cannot be found .*/gone/away") as caught:
        preflight(_config(model=str(tmp_path)), items)
    assert caught.value.field == "sources.weak.model"
    (tmp_path / "adapter_config.json").write_text("{")
    with pytest.raises(InvalidArgumentError, match="cannot be read"):
        preflight(_config(model=str(tmp_path)), items)


def test_a_strong_model_behind_an_api_has_no_tokenizer_to_check() -> None:
    config = _config().model_copy(update={"strong_model": "openai:gpt-4o-mini"})
    assert preflight(config, [Item("i", {"text": "red"})])["weak"] > 0
    with pytest.raises(InvalidArgumentError, match="strong_model"):
        preflight(config.model_copy(update={"strong_model": "opendai:gpt-4o-mini"}), [Item("i", {"text": "red"})])
