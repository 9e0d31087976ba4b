from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from isocost.core.errors import InvalidArgumentError, NotFoundError
from isocost.resources.campaign import Sampling
from isocost.resources.label import one_hot
from isocost.resources.method import Head, Method, Recipe, Stage, Tuning
from isocost.resources.run import EvaluationSet, Example, RunSpec
from isocost.resources.task import LabelKind, Task
from isocost.trainer.examples import ExampleListBuilder, ExampleStore
from isocost.trainer.identity import ResolvedRun, resolve_run
from isocost.trainer.models.base_model import BaseModelFinder

WEAK, HUMAN = Stage(LabelKind.WEAK), Stage(LabelKind.HUMAN)
METHOD = Method("sequential_sft", (WEAK, HUMAN))
TASK = Task("t", "{text} ?", ("yes", "no"))


class _World:
    """A store, a model folder that is never loaded, and a specification on them."""

    def __init__(self, folder: Path) -> None:
        self.store = ExampleStore(folder / "examples")
        self.model = folder / "model"
        self.write_model(model_type="llama", num_hidden_layers=4)
        self.spec = RunSpec(
            TASK,
            METHOD,
            str(self.model),
            weak_digest=self.put("weak", 40),
            n_weak=30,
            human_digest=self.put("human", 20),
            n_human=10,
            seed=1,
            evaluation_sets=(EvaluationSet("evaluation", self.put("evaluation", 5)),),
        )

    def write_model(self, **config: Any) -> None:
        self.model.mkdir(exist_ok=True)
        (self.model / "config.json").write_text(json.dumps(config))
        (self.model / "model.safetensors").write_bytes(b"weights")
        (self.model / "tokenizer.json").write_text("{}")

    def put(self, prefix: str, n: int, *, n_choices: int = 2, field: str = "text") -> str:
        builder = ExampleListBuilder(1000)
        builder.extend([Example(f"{prefix}-{k}", {field: f"{k}"}, one_hot(k % 2, n_choices)) for k in range(n)])
        examples = builder.build()
        self.store.put(examples)
        return examples.digest

    def resolve(self, spec: RunSpec | None = None, **changes: Any) -> ResolvedRun:
        spec = replace(spec or self.spec, **changes)
        return resolve_run(spec, BaseModelFinder().find(spec.base_model), self.store)


@pytest.fixture
def world(tmp_path: Path) -> _World:
    return _World(tmp_path)


def _ids(run: ResolvedRun) -> list[str]:
    return [stage.stage_id for stage in run.stages]


def test_the_identity_is_of_the_examples_used_and_not_of_the_lists_they_are_in(world: _World) -> None:
    longer = world.resolve(weak_digest=world.put("weak", 100), human_digest=world.put("human", 10))
    assert longer.run_id == world.resolve().run_id
    assert _ids(longer) == _ids(world.resolve())


def test_the_model_counts_by_its_content_and_not_by_its_place(world: _World, tmp_path: Path) -> None:
    before = world.resolve()
    shutil.copytree(world.model, tmp_path / "copy")
    (tmp_path / "copy" / "README.md").write_text("a card says nothing about the weights")
    assert world.resolve(base_model=str(tmp_path / "copy")).run_id == before.run_id
    (world.model / "model.safetensors").write_bytes(b"weights, trained on")
    after = world.resolve()
    assert after.run_id != before.run_id
    assert not set(_ids(after)) & set(_ids(before))


def test_a_stage_is_shared_by_runs_that_differ_only_after_it(world: _World) -> None:
    first = _ids(world.resolve())
    more_human = _ids(world.resolve(n_human=12))
    assert more_human[0] == first[0]
    assert more_human[1] != first[1]
    assert _ids(world.resolve(n_human=0)) == first[:1]
    other_recipe = replace(METHOD, name="other", stages=(WEAK, Stage(LabelKind.HUMAN, Recipe(learning_rate=1e-3))))
    assert _ids(world.resolve(method=other_recipe))[0] == first[0]


def test_a_stage_that_follows_another_is_not_the_stage_alone(world: _World) -> None:
    assert _ids(world.resolve(n_weak=0))[0] not in _ids(world.resolve())


def test_the_stages_of_a_run_have_seeds_of_their_own(world: _World) -> None:
    first, second = world.resolve().stages
    assert first.seed != second.seed
    assert world.resolve(n_weak=0).stages[0].seed == first.seed
    assert world.resolve(seed=2).stages[0].seed != first.seed


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 2},
        {"n_weak": 31},
        {"method": replace(METHOD, lora_rank=4)},
        {"method": replace(METHOD, tuning=Tuning.FULL)},
        {"method": replace(METHOD, head=Head.CLASSIFICATION)},
        {"method": replace(METHOD, n_layers=2)},
        {"method": replace(METHOD, few_shot_count=2, few_shot_kind=LabelKind.HUMAN)},
        {"method": replace(METHOD, stages=(Stage(LabelKind.WEAK, Recipe(batch_size=16)), HUMAN))},
        {"task": replace(TASK, template="{text} !")},
        {"task": replace(TASK, choices=("no", "yes"))},
    ],
    ids=["seed", "n_weak", "lora", "tuning", "head", "n_layers", "few_shot", "recipe", "template", "choices"],
)
def test_everything_that_decides_a_stage_is_in_its_address(world: _World, changes: dict[str, Any]) -> None:
    changed = world.resolve(**changes)
    assert changed.run_id != world.resolve().run_id
    assert not set(_ids(changed)) & set(_ids(world.resolve()))


def test_names_and_evaluation_sets_decide_no_stage(world: _World) -> None:
    changed = world.resolve(
        task=replace(TASK, name="renamed"),
        method=replace(METHOD, name="renamed"),
        evaluation_sets=(EvaluationSet("test", world.put("test", 3)),),
    )
    assert _ids(changed) == _ids(world.resolve())
    assert changed.run_id != world.resolve().run_id


def test_keeping_all_layers_by_number_is_keeping_all(world: _World) -> None:
    assert _ids(world.resolve(method=replace(METHOD, n_layers=4))) == _ids(world.resolve())


def test_what_does_not_fit_is_refused_with_its_field(world: _World) -> None:
    few_shot = replace(METHOD, few_shot_count=21, few_shot_kind=LabelKind.HUMAN)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"n_weak": 41}, r"spec\.n_weak: 41, but the list has 40 examples"),
        ({"method": replace(METHOD, n_layers=5)}, r"spec\.method\.n_layers: 5, but the base model has 4 layers"),
        ({"method": few_shot}, r"few_shot_count: 21, but the list of HUMAN labels has 20"),
        ({"method": few_shot, "human_digest": "", "n_human": 0}, r"spec\.human_digest: empty, but the few-shot block"),
        ({"weak_digest": world.put("w", 40, n_choices=3)}, r"spec\.weak_digest: .* 3 probabilities.*2 choices"),
        ({"weak_digest": world.put("w", 40, field="other")}, r"spec\.weak_digest: item 'w-0' has no field 'text'"),
        ({"evaluation_sets": (EvaluationSet("a/b", world.spec.weak_digest),)}, "evaluation_sets.name"),
        ({"evaluation_sets": (EvaluationSet("a", world.spec.weak_digest),) * 2}, "given twice"),
        ({"base_model": "/no/such/folder"}, r"spec\.base_model: '/no/such/folder' is not a folder"),
    ]
    for changes, message in cases:
        with pytest.raises(InvalidArgumentError, match=message):
            world.resolve(**changes)
    with pytest.raises(NotFoundError, match=r"spec\.evaluation_sets\.x: there is no list of examples"):
        world.resolve(evaluation_sets=(EvaluationSet("x", "f" * 32),))


def test_an_encoder_takes_a_classification_head_and_no_few_shot_block(world: _World) -> None:
    world.write_model(model_type="bert", num_hidden_layers=4)
    with pytest.raises(InvalidArgumentError, match=r"spec\.method\.head: LANGUAGE_MODEL, but 'bert' models"):
        world.resolve()
    shown = replace(METHOD, head=Head.CLASSIFICATION, few_shot_count=2, few_shot_kind=LabelKind.WEAK)
    with pytest.raises(InvalidArgumentError, match=r"spec\.method\.few_shot_count: 'bert' models read no"):
        world.resolve(method=shown)


def test_a_folder_without_weights_or_configuration_is_no_model(world: _World) -> None:
    (world.model / "model.safetensors").unlink()
    with pytest.raises(InvalidArgumentError, match="holds no weights"):
        world.resolve()
    (world.model / "config.json").write_text("{")
    with pytest.raises(InvalidArgumentError, match=r"no readable config\.json"):
        world.resolve()


def test_a_hub_model_without_a_network_asks_for_a_local_copy(world: _World) -> None:
    with pytest.raises(InvalidArgumentError, match=r"spec\.base_model: 'no-such/model' is no folder and cannot be had"):
        world.resolve(base_model="no-such/model")


def test_joint_training_is_one_stage_on_both_kinds(tmp_path: Path) -> None:
    world = _World(tmp_path)
    method = Method("joint_sft", (Stage(LabelKind.WEAK, mixed_with=(LabelKind.HUMAN,)),))
    (stage,) = world.resolve(method=method).stages
    ids = [example.item_id for example in stage.examples.examples]
    assert ids == [*(f"weak-{k}" for k in range(30)), *(f"human-{k}" for k in range(10))]
    assert stage.n_labels == 40
    # Without human labels it is weak SFT, and shares its result.
    (weak_only,) = world.resolve(method=method, n_human=0).stages
    (weak_sft,) = world.resolve(method=Method("weak_sft", (WEAK,)), n_human=0).stages
    assert weak_only.stage_id == weak_sft.stage_id != stage.stage_id
    (more,) = world.resolve(method=method, n_human=11).stages
    assert more.stage_id != stage.stage_id


def test_uncertainty_sampling_chooses_from_the_whole_list(tmp_path: Path) -> None:
    world = _World(tmp_path)
    uncertain = Stage(LabelKind.HUMAN, sampling=Sampling.UNCERTAINTY)
    method = Method("uncertain", (WEAK, uncertain))
    first, second = world.resolve(method=method).stages
    assert (len(second.examples), second.n_labels, second.n_given) == (20, 10, 0)
    assert first.stage_id == world.resolve().stages[0].stage_id
    assert second.stage_id != world.resolve().stages[1].stage_id
    # Which labels are chosen depends on the whole list, so the addresses do.
    longer = world.resolve(method=method, human_digest=world.put("human", 19))
    assert longer.stages[1].stage_id != second.stage_id
    assert longer.run_id != world.resolve(method=method).run_id
    # What stands in the few-shot block is paid for, and is trained on in any case.
    prompted = replace(method, few_shot_count=2, few_shot_kind=LabelKind.HUMAN)
    assert [stage.n_given for stage in world.resolve(method=prompted).stages] == [0, 2]
