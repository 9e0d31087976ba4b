"""Every domain object crosses the wire unchanged."""

from datetime import UTC, datetime
from typing import Any

import pytest

from isocost.core.errors import InvalidArgumentError
from isocost.core.money import Money
from isocost.economics.policy.decision import LineForecast
from isocost.economics.regime import Regime
from isocost.resources.campaign import Balance, Campaign, CampaignState, EntryKind, LedgerEntry, Order, OrderState
from isocost.resources.label import Label, LabelledItem, Purpose
from isocost.resources.method import Head, Method, Recipe, Stage, Tuning
from isocost.resources.observation import Evaluation, FrontierPoint, Observation
from isocost.resources.plan import Decision, Plan, PlanExplanation, Purchase, TrancheValue
from isocost.resources.run import EvaluationSet, Example, Run, RunProgress, RunSpec, RunState, StageResult
from isocost.resources.task import Item, LabelKind, Source, SourceKind, Task

TIME = datetime(2026, 2, 3, 4, 5, 6, 7000, tzinfo=UTC)
TASK = Task("t", "{text} ?", ("no", "yes"))
ITEM = Item("i", {"text": "x"})
LABEL = Label("i", (0.25, 0.75), "ann", "engine", 12, 0.9, "l", "s", "o", TIME, 3, Purpose.PILOT)
METHOD = Method(
    "m",
    (Stage(LabelKind.WEAK, Recipe(learning_rate=1e-3)), Stage(LabelKind.HUMAN)),
    Head.CLASSIFICATION,
    Tuning.FULL,
    2,
    LabelKind.HUMAN,
    4,
    8.0,
    0.1,
    3,
)
EVALUATION = Evaluation("evaluation", 100, 0.8, 0.7, 0.9, 0.85)
SPEC = RunSpec(TASK, METHOD, "model", "w", 10, "h", 5, 7, (EvaluationSet("evaluation", "e"),))
EXPLANATION = PlanExplanation(
    (LineForecast(0.25, 10, 5, 0.8, 0.7, 0.9, 0.6), LineForecast(1.0, 20, 0, 0.75, 0.65, 0.85, 0.4)),
    0.75,
    (TrancheValue("s", 3, Money(9), 0.01, 0.02),),
    0.7,
    0.8,
)
OBJECTS: list[Any] = [
    TASK,
    ITEM,
    Source("s", SourceKind.MODEL, Money(5), "model"),
    LABEL,
    LabelledItem(LABEL, ITEM),
    Campaign("c", TASK, Money(10), "model", "{}", CampaignState.FINISHED, TIME),
    Order("o", "c", "s", Purpose.TRAINING, 5, 2, 1, Money(3), OrderState.OPEN, "r", TIME),
    Order(
        "p",
        "c",
        "s",
        Purpose.TRAINING,
        5,
        2,
        1,
        Money(3),
        OrderState.OPEN,
        "r",
        price_per_million_tokens=Money(7),
        items_of_order_id="o",
    ),
    LedgerEntry(1, "c", "o", "s", EntryKind.SETTLE, Money(3), "l", TIME),
    Balance(Money(10), Money(3), Money(2)),
    METHOD,
    EVALUATION,
    Observation("run", "m", 10, 5, 0, EVALUATION, EVALUATION, "weak", "human", Money(5), TIME),
    Observation("run", "m", 0, 5, 0, EVALUATION, None, "", "human"),
    Plan("p", "c", Decision.BUY, (Purchase("s", 3, Money(9), 0.1),), "why", Regime.MIXED, "policy", "{}", TIME),
    Plan("p", "c", Decision.STOP, (), "why", Regime.MIXED, "policy", "{}", TIME, EXPLANATION),
    FrontierPoint(Money(5), 0.8, 0.7, 0.9, 10, 5, "m", 2),
    Example("i", {"text": "x"}, (0.5, 0.5)),
    SPEC,
    Run(
        "r",
        SPEC,
        RunState.SUCCEEDED,
        RunProgress(1, 2, 3, 0.5, 0.25),
        (StageResult(LabelKind.WEAK, 10, 2, 30, 20, 0.9, 1.5, True, "stage"),),
        (EVALUATION,),
        "out",
        "error",
        TIME,
    ),
]


@pytest.mark.parametrize("value", OBJECTS, ids=lambda value: type(value).__name__)
def test_round_trip(value: Any) -> None:
    assert type(value).from_proto(value.to_proto()) == value


@pytest.mark.parametrize("probabilities", [(1.0,), (0.5, 0.6), (-0.1, 1.1), (float("nan"), 1.0), ()])
def test_a_label_is_a_distribution(probabilities: tuple[float, ...]) -> None:
    with pytest.raises(InvalidArgumentError, match="distribution"):
        Label("i", probabilities)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"base_model": ""}, "spec.base_model"),
        ({"seed": -1}, "spec.seed"),
        ({"weak_digest": ""}, "spec.weak_digest"),
        ({"n_human": -1}, "spec.n_human"),
        ({"n_weak": 0, "n_human": 0}, "spec.n_human"),
    ],
)
def test_a_run_names_what_is_wrong(change: dict[str, Any], field: str) -> None:
    values = {name: getattr(SPEC, name) for name in SPEC.__dataclass_fields__}
    with pytest.raises(InvalidArgumentError) as caught:
        RunSpec(**{**values, **change})
    assert caught.value.field == field


def test_head_only_needs_a_head() -> None:
    with pytest.raises(InvalidArgumentError, match="classification head"):
        Method("m", (Stage(LabelKind.WEAK),), Head.LANGUAGE_MODEL, Tuning.HEAD_ONLY)
