from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest

from isocost.campaign.config import CampaignConfig
from isocost.campaign.labeller import labels_to_show, make_labeller
from isocost.core.errors import FailedPreconditionError
from isocost.core.progress import SilentProgress
from isocost.resources.label import Label, LabelledItem, one_hot
from isocost.resources.run import Example, RunSpec, RunState
from isocost.resources.task import Item

ITEMS = [Item(f"i{n}", {"text": f"text {n}"}) for n in range(10)]
# People answer in another sequence than that of the order.
LABELS = [LabelledItem(Label(ITEMS[n].item_id, one_hot(n % 2, 2)), ITEMS[n]) for n in (3, 1, 9, 0, 2, 4, 8, 7, 5, 6)]


class FakeTrainer:
    """Ends every run in one state."""

    def __init__(self, state: RunState) -> None:
        self._state = state
        self.examples: list[Example] = []
        self.specs: list[RunSpec] = []

    async def put_examples(self, examples: Iterable[Example]) -> str:
        self.examples = list(examples)
        return "digest"

    async def create_run(self, spec: RunSpec) -> Any:
        self.specs.append(spec)
        return SimpleNamespace(
            run_id="r",
            state=self._state,
            spec=spec,
            error="no memory",
            output_path="/made",
            evaluation=lambda name: None,
        )

    async def watch_run(self, run_id: str) -> Any:
        progress = SimpleNamespace(step=0, max_steps=0, stage_index=0)
        run = await self.create_run(self.specs[0])
        run.progress = progress
        yield run


def _config(**model: Any) -> CampaignConfig:
    return CampaignConfig.model_validate(
        {
            "campaign": "c",
            "budget": 100,
            "seed": 5,
            "task": {"name": "t", "template": "{text}", "choices": ["a", "b"]},
            "data": {"path": "x.csv"},
            "sources": [
                {"kind": "model", "name": "weak", "unit_price": 0.1, "model": "m", **model},
                {"kind": "human", "unit_price": 1, "channel": {"kind": "simulated"}},
            ],
            "strong_model": "s",
            "evaluation": {"n_labels": 10},
            "pilot": {"n_weak": 10, "n_human": 10},
        }
    )


async def _make(config: CampaignConfig, trainer: FakeTrainer, labels: list[LabelledItem]) -> Any:
    client: Any = trainer
    return await make_labeller(config.models[0], config, labels, client, SilentProgress())


def test_what_measures_a_source_is_not_shown_to_it() -> None:
    shown = labels_to_show(LABELS, ITEMS, 6)
    # The order's first six are left out; the rest is in the sequence in which people answered.
    assert [labelled.item.item_id for labelled in shown] == ["i9", "i8", "i7", "i6"]
    assert labels_to_show(LABELS, ITEMS, 0) == LABELS
    assert labels_to_show(LABELS, ITEMS, 10) == []


async def test_a_prompted_labeller_is_shown_the_first_labels_in_its_own_words() -> None:
    trainer = FakeTrainer(RunState.SUCCEEDED)
    config = _config(few_shot_count=2, template="say {text}")
    labeller = await _make(config, trainer, LABELS)
    assert (labeller.source_id, labeller.model, labeller.runner) == ("weak", "m", "generate")
    assert labeller.task.template == "say {text}"
    assert labeller.task.choices == ("a", "b")
    assert [(dict(one.fields), one.choice) for one in labeller.few_shot_examples] == [
        ({"text": "text 3"}, 1),
        ({"text": "text 1"}, 1),
    ]
    assert not trainer.specs


async def test_a_fine_tuned_labeller_is_made_from_the_labels_it_may_see() -> None:
    trainer = FakeTrainer(RunState.SUCCEEDED)
    config = _config(runner="classify", fine_tune={"n_layers": 2})
    labeller = await _make(config, trainer, labels_to_show(LABELS, ITEMS, 4))
    assert labeller.model == "/made"
    assert [example.item_id for example in trainer.examples] == ["i9", "i4", "i8", "i7", "i5", "i6"]
    spec = trainer.specs[0]
    assert (spec.base_model, spec.n_human, spec.human_digest, spec.seed) == ("m", 6, "digest", 5)
    assert spec.method.n_layers == 2


async def test_a_labeller_that_cannot_be_made_is_said_to_be_so() -> None:
    with pytest.raises(FailedPreconditionError, match="no memory"):
        await _make(_config(runner="classify", fine_tune={}), FakeTrainer(RunState.FAILED), LABELS)
