from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from isocost.campaign.config import CampaignConfig, EvaluationConfig
from isocost.campaign.training import Training, majority_source
from isocost.core.progress import SilentProgress
from isocost.economics.calibration import Calibration, CalibrationMethod
from isocost.economics.interval import wilson_interval
from isocost.economics.ppi import powered_mean
from isocost.resources.label import Label, LabelledItem, Purpose, one_hot
from isocost.resources.observation import Evaluation, Observation
from isocost.resources.run import Example, Prediction, RunSpec, RunState
from isocost.resources.task import Item

CONFIG = CampaignConfig.model_validate(
    {
        "campaign": "c",
        "budget": 100,
        "task": {"name": "t", "template": "{text}", "choices": ["a", "b"]},
        "data": {"path": "x.csv"},
        "sources": [
            {"kind": "model", "name": "small", "unit_price": 0.1, "model": "m"},
            {"kind": "model", "name": "large", "unit_price": 0.2, "model": "m"},
            {"kind": "human", "unit_price": 1, "channel": {"kind": "simulated"}},
            {"kind": "human", "name": "crowd", "unit_price": 0.3, "channel": {"kind": "simulated", "noise": 0.1}},
        ],
        "strong_model": "s",
        "evaluation": {"n_labels": 10},
        "pilot": {"n_weak": 4, "n_human": 20},
    }
)
RAW = (0.8, 0.2)
#: Of these, w0 to w6, h0 to h4 and e0 to e2 have labels.
POOL = [Item(f"{kind}{n}", {"text": f"{kind}{n}"}) for kind in "whe" for n in range(20)]


class FakeServices:
    """A budget service that holds labels, and a trainer that keeps what it is sent."""

    def __init__(self) -> None:
        self.labels_held = [
            *(Label(f"w{n}", RAW, source_id="small", purpose=Purpose.PILOT) for n in range(4)),
            *(Label(f"w{n}", RAW, source_id="small", purpose=Purpose.TRAINING) for n in range(4, 7)),
            # Measuring: on the pilot's own items.
            *(
                Label(f"h{n}", RAW, source_id=source, purpose=Purpose.EVALUATION)
                for n in range(5)
                for source in ("small", "large")
            ),
            *(Label(f"h{n}", one_hot(1, 2), source_id="human", purpose=Purpose.PILOT) for n in range(5)),
            *(Label(f"e{n}", one_hot(0, 2), source_id="human", purpose=Purpose.EVALUATION) for n in range(3)),
        ]
        self.lists: dict[str, list[Example]] = {}
        self.specs: list[RunSpec] = []
        self.observations: list[Observation] = []

    async def labels(
        self, campaign_id: str, *, source_id: str = "", purposes: Sequence[Purpose] = ()
    ) -> AsyncIterator[LabelledItem]:
        for label in self.labels_held:
            if source_id in ("", label.source_id) and label.purpose in purposes:
                yield LabelledItem(label, Item(label.item_id, {"text": label.item_id}))

    async def list_observations(self, campaign_id: str) -> list[Observation]:
        return self.observations

    async def record_observation(self, request_id: str, campaign_id: str, observation: Observation) -> None:
        self.observations.append(observation)

    async def put_examples(self, examples: Iterable[Example]) -> str:
        listed = list(examples)
        digest = hashlib.sha256(repr(listed).encode()).hexdigest()
        self.lists[digest] = listed
        return digest

    async def create_run(self, spec: RunSpec) -> Any:
        self.specs.append(spec)
        evaluations = {part.name: Evaluation(part.name, 3, 1.0, 0.4, 1.0, 0.5) for part in spec.evaluation_sets}
        return SimpleNamespace(
            run_id=f"r{len(self.specs)}", spec=spec, state=RunState.SUCCEEDED, evaluation=evaluations.get
        )

    async def predictions(self, run_id: str, evaluation_set: str) -> AsyncIterator[Prediction]:
        (digest,) = [part.digest for part in self.specs[-1].evaluation_sets if part.name == evaluation_set]
        for index, example in enumerate(self.lists[digest]):
            yield Prediction(example.item_id, (0.9, 0.1) if index else (0.4, 0.6), example.choice)

    async def watch_run(self, run_id: str) -> AsyncIterator[Any]:
        nothing: tuple[Any, ...] = ()
        for run in nothing:
            yield run


def _training(services: Any, calibration: Calibration, config: CampaignConfig = CONFIG) -> Training:
    return Training(
        config, services, services, SilentProgress(), (), POOL, weak_source_id="small", calibration=calibration
    )


@pytest.mark.parametrize("calibration", [Calibration(), Calibration(CalibrationMethod.TEMPERATURE, 2.0)])
async def test_runs_train_on_calibrated_labels_of_the_chosen_source_and_are_measured_by_people(
    calibration: Calibration,
) -> None:
    services = FakeServices()
    training = _training(services, calibration)
    assert await training.n_labels() == (7, 5)
    await training.observe("round 1", [(7, 5), (7, 0)])
    spec = services.specs[0]
    weak, human = services.lists[spec.weak_digest], services.lists[spec.human_digest]
    # What weak sources were measured by is neither trained on nor evaluated on.
    assert [example.item_id for example in weak] == [f"w{n}" for n in range(7)]
    expected = (2 / 3, 1 / 3) if calibration.temperature == 2 else RAW
    assert all(example.probabilities == pytest.approx(expected) for example in weak)
    assert [example.item_id for example in human] == [f"h{n}" for n in range(5)]
    assert all(example.probabilities == (0.0, 1.0) for example in human)
    (evaluation,) = spec.evaluation_sets
    assert [example.item_id for example in services.lists[evaluation.digest]] == ["e0", "e1", "e2"]
    # The ledger keeps labels as they came.
    assert all(label.probabilities == RAW for label in services.labels_held if label.source_id == "small")
    assert [(o.n_weak, o.n_human, o.weak_source_id) for o in services.observations] == [
        (7, 5, "small"),
        (7, 0, "small"),
    ]
    assert services.observations[1].human_source_id == ""


async def test_what_is_observed_already_is_not_run_again() -> None:
    services = FakeServices()
    training = _training(services, Calibration())
    await training.observe("round 1", [(7, 5)])
    await training.observe("round 2", [(7, 5), (3, 5)])
    assert [(spec.n_weak, spec.n_human) for spec in services.specs] == [(7, 5), (3, 5)]


async def test_predictions_for_items_without_label_tighten_the_interval() -> None:
    services = FakeServices()
    config = CONFIG.model_copy(update={"evaluation": EvaluationConfig(n_labels=10, n_unlabelled=30)})
    await _training(services, Calibration(), config).observe("round 1", [(7, 5)])
    sets = {part.name: services.lists[part.digest] for part in services.specs[0].evaluation_sets}
    unlabelled = [example.item_id for example in sets["unlabelled"]]
    labelled = {label.item_id for label in services.labels_held}
    assert len(set(unlabelled)) == 30
    assert not labelled & set(unlabelled)
    assert all(example.probabilities == (0.5, 0.5) for example in sets["unlabelled"])
    # The model answers the first of e0, e1, e2 wrongly (with less confidence), and is as sure of the others.
    expected = powered_mean([0, 1, 1], [0.6, 0.9, 0.9], [0.6] + [0.9] * 29)
    (observation,) = services.observations
    evaluation = observation.evaluation
    assert (evaluation.accuracy, evaluation.accuracy_low, evaluation.accuracy_high, evaluation.n_unlabelled) == (
        expected.mean,
        expected.low,
        expected.high,
        30,
    )
    assert observation.point.n_eval == evaluation.n_effective >= evaluation.n_eval == 3


def test_an_interval_is_worth_the_labels_that_would_give_it() -> None:
    low, high = wilson_interval(0.8, 400)
    powered = Evaluation("evaluation", 100, 0.8, low, high, 0.5, n_unlabelled=1000)
    assert powered.n_effective == pytest.approx(400, rel=0.02)
    assert replace(powered, n_unlabelled=0).n_effective == 100
    assert replace(powered, accuracy_low=0.5).n_effective == 100


async def test_the_human_stage_trains_on_all_grades_in_the_sequence_of_purchase() -> None:
    services = FakeServices()
    pilot = [label for label in services.labels_held if label.source_id == "human" and label.purpose is Purpose.PILOT]
    services.labels_held = [label for label in services.labels_held if label not in pilot]
    services.labels_held += [
        # What the crowd is measured by is not trained on.
        *(Label(f"h{n}", one_hot(1, 2), source_id="crowd", purpose=Purpose.EVALUATION) for n in range(3)),
        Label("h19", one_hot(0, 2), source_id="human", purpose=Purpose.TRAINING, sequence=30),
        *(replace(label, sequence=n + 1) for n, label in enumerate(pilot)),
        *(
            Label(f"h{n}", one_hot(0, 2), source_id="crowd", purpose=Purpose.TRAINING, sequence=10 + n)
            for n in range(5, 11)
        ),
    ]
    training = _training(services, Calibration())
    assert await training.n_labels() == (7, 12)
    await training.observe("round 1", [(7, 12), (7, 9), (0, 5), (7, 0)])
    human = services.lists[services.specs[0].human_digest]
    assert [example.item_id for example in human] == [*(f"h{n}" for n in range(11)), "h19"]
    (evaluation,) = services.specs[0].evaluation_sets
    assert [example.item_id for example in services.lists[evaluation.digest]] == ["e0", "e1", "e2"]
    # An observation names the grade that most of its human labels are from.
    assert [(o.n_human, o.human_source_id) for o in services.observations] == [
        (12, "human"),
        (9, "human"),
        (5, "human"),
        (0, ""),
    ]


@pytest.mark.parametrize(
    ("source_ids", "n_human", "named"),
    [("rrccc", 5, "c"), ("rrcc", 4, "c"), ("rrcc", 3, "r"), ("ccrr", 4, "r"), ("rr", 0, ""), ("", 0, "")],
)
def test_of_equally_many_labels_the_later_grade_is_named(source_ids: str, n_human: int, named: str) -> None:
    assert majority_source(source_ids, n_human) == named


async def test_the_model_that_is_asked_about_free_items_has_seen_weak_labels_only() -> None:
    services = FakeServices()
    training = _training(services, Calibration())
    free = [Example(f"w{n}", {"text": f"w{n}"}, (0.5, 0.5)) for n in range(10, 13)]
    answered = [Example("h0", {"text": "h0"}, (0.0, 1.0))]
    of_free, of_answered = await training.weak_only_predictions("plan-0-human", free, answered)
    (spec,) = services.specs
    assert (spec.n_weak, spec.n_human, spec.human_digest) == (7, 0, "")
    assert [example.item_id for example in services.lists[spec.weak_digest]] == [f"w{n}" for n in range(7)]
    assert [one.item_id for one in of_free] == ["w10", "w11", "w12"]
    assert [one.item_id for one in of_answered] == ["h0"]
    # Nothing of it is an observation.
    assert not services.observations
    assert (await training.weak_only_predictions("plan-0-human", free, []))[1] == []
