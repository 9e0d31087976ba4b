"""Every bad request gets its status and names the field; none is INTERNAL."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from isocost.v1 import budget_service_pb2 as pb
from isocost.v1 import resources_pb2

Status = grpc.StatusCode
INT64_MAX = 2**63 - 1
NAN = float("nan")
#: A number that no enum knows; the wire lets it through.
UNKNOWN: Any = 99


def money(micros: int = 1, currency_code: str = "USD") -> resources_pb2.Money:
    return resources_pb2.Money(currency_code=currency_code, micros=micros)


def task(**changes: Any) -> resources_pb2.Task:
    return resources_pb2.Task(**{"name": "t", "template": "{claim}?", "choices": ["no", "yes"], **changes})


def campaign(request_id: str = "r", **changes: Any) -> pb.CreateCampaignRequest:
    fields = {"campaign_id": "new", "task": task(), "budget": money(), "strong_model": "strong", **changes}
    return pb.CreateCampaignRequest(request_id=request_id, campaign=resources_pb2.Campaign(**fields))


def source(request_id: str = "r", campaign_id: str = "c", **changes: Any) -> pb.CreateSourceRequest:
    fields = {"source_id": "new", "kind": resources_pb2.SOURCE_KIND_MODEL, "unit_price": money(), **changes}
    return pb.CreateSourceRequest(request_id=request_id, campaign_id=campaign_id, source=resources_pb2.Source(**fields))


def order(**changes: Any) -> pb.CreateOrderRequest:
    fields = {
        "request_id": "r",
        "campaign_id": "c",
        "source_id": "weak",
        "purpose": resources_pb2.PURPOSE_TRAINING,
        "n_labels": 1,
        **changes,
    }
    return pb.CreateOrderRequest(**fields)


def observation(**changes: Any) -> pb.RecordObservationRequest:
    evaluation = resources_pb2.Evaluation(
        name="e", n_eval=10, accuracy=0.5, accuracy_low=0.2, accuracy_high=0.8, auroc=0.5
    )
    fields = {
        "run_id": "run",
        "method": "m",
        "n_weak": 1,
        "weak_source_id": "weak",
        "evaluation": evaluation,
        **changes,
    }
    return pb.RecordObservationRequest(request_id="r", campaign_id="c", observation=resources_pb2.Observation(**fields))


def plan(**changes: Any) -> pb.PlanRequest:
    return pb.PlanRequest(**{"request_id": "r", "campaign_id": "c", **changes})


async def refuse(call: Any, request: Any, code: grpc.StatusCode, field: str) -> None:
    """The call ends with the code and a field violation that names the field."""
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await call(request)
    error = refusal.value
    assert error.code() is code, error.details()
    status = rpc_status.from_call(error)
    bad_request = error_details_pb2.BadRequest()
    assert status.details
    assert status.details[0].Unpack(bad_request)
    (violation,) = bad_request.field_violations
    assert violation.field == field, error.details()
    assert violation.description


CASES: list[tuple[str, Any, grpc.StatusCode, str]] = [
    ("CreateCampaign", campaign(""), Status.INVALID_ARGUMENT, "request_id"),
    ("CreateCampaign", campaign("a\0b"), Status.INVALID_ARGUMENT, "request_id"),
    ("CreateCampaign", pb.CreateCampaignRequest(request_id="r"), Status.INVALID_ARGUMENT, "task.name"),
    ("CreateCampaign", campaign(campaign_id="c"), Status.ALREADY_EXISTS, "campaign.campaign_id"),
    ("CreateCampaign", campaign(campaign_id="no/id"), Status.INVALID_ARGUMENT, "campaign.campaign_id"),
    ("CreateCampaign", campaign(campaign_id="x" * 100_000), Status.INVALID_ARGUMENT, "campaign.campaign_id"),
    ("CreateCampaign", campaign(budget=money(0)), Status.INVALID_ARGUMENT, "campaign.budget"),
    ("CreateCampaign", campaign(budget=money(INT64_MAX)), Status.INVALID_ARGUMENT, "campaign.budget.micros"),
    ("CreateCampaign", campaign(budget=money(1, "usd")), Status.INVALID_ARGUMENT, "campaign.budget.currency_code"),
    ("CreateCampaign", campaign(strong_model="a\0"), Status.INVALID_ARGUMENT, "campaign.strong_model"),
    ("CreateCampaign", campaign(config_json="a\0"), Status.INVALID_ARGUMENT, "campaign.config_json"),
    ("CreateCampaign", campaign(task=task(choices=["a"])), Status.INVALID_ARGUMENT, "task.choices"),
    ("CreateCampaign", campaign(task=task(choices=["a", "b\0"])), Status.INVALID_ARGUMENT, "campaign.task.choices[1]"),
    ("CreateCampaign", campaign(task=task(template="{claim}\0")), Status.INVALID_ARGUMENT, "campaign.task.template"),
    ("CreateCampaign", campaign(task=task(template="{a" * 9_999)), Status.INVALID_ARGUMENT, "task.template"),
    ("CreateCampaign", campaign(task=task(template="{\0}" * 9_999)), Status.INVALID_ARGUMENT, "task.template"),
    ("GetCampaign", pb.GetCampaignRequest(), Status.INVALID_ARGUMENT, "campaign_id"),
    ("GetCampaign", pb.GetCampaignRequest(campaign_id="x\0"), Status.INVALID_ARGUMENT, "campaign_id"),
    ("GetCampaign", pb.GetCampaignRequest(campaign_id="nobody"), Status.NOT_FOUND, "campaign_id"),
    ("FinishCampaign", pb.FinishCampaignRequest(request_id="r", campaign_id="x"), Status.NOT_FOUND, "campaign_id"),
    ("CreateSource", source(""), Status.INVALID_ARGUMENT, "request_id"),
    ("CreateSource", source(campaign_id="nobody"), Status.NOT_FOUND, "campaign_id"),
    ("CreateSource", source(campaign_id="done"), Status.FAILED_PRECONDITION, "campaign_id"),
    ("CreateSource", source(source_id="weak"), Status.ALREADY_EXISTS, "source.source_id"),
    ("CreateSource", source(kind=0), Status.INVALID_ARGUMENT, "source.kind"),
    ("CreateSource", source(kind=77), Status.INVALID_ARGUMENT, "source.kind"),
    ("CreateSource", source(unit_price=money(0)), Status.INVALID_ARGUMENT, "source.unit_price"),
    ("CreateSource", source(unit_price=money(-INT64_MAX)), Status.INVALID_ARGUMENT, "source.unit_price.micros"),
    ("CreateSource", source(unit_price=money(1, "EUR")), Status.INVALID_ARGUMENT, "source.unit_price"),
    ("CreateSource", source(model="a\0"), Status.INVALID_ARGUMENT, "source.model"),
    (
        "CreateSource",
        source(price_per_million_tokens=money(0)),
        Status.INVALID_ARGUMENT,
        "source.price_per_million_tokens",
    ),
    (
        "CreateSource",
        source(price_per_million_tokens=money(1, "EUR")),
        Status.INVALID_ARGUMENT,
        "source.price_per_million_tokens",
    ),
    (
        "CreateSource",
        source(price_per_million_tokens=money(INT64_MAX)),
        Status.INVALID_ARGUMENT,
        "source.price_per_million_tokens.micros",
    ),
    (
        "CreateSource",
        source(kind=resources_pb2.SOURCE_KIND_HUMAN, price_per_million_tokens=money()),
        Status.INVALID_ARGUMENT,
        "source.price_per_million_tokens",
    ),
    ("CreateOrder", order(request_id=""), Status.INVALID_ARGUMENT, "request_id"),
    ("CreateOrder", order(campaign_id="nobody"), Status.NOT_FOUND, "campaign_id"),
    ("CreateOrder", order(campaign_id="done"), Status.FAILED_PRECONDITION, "campaign_id"),
    ("CreateOrder", order(source_id="nobody"), Status.NOT_FOUND, "source_id"),
    ("CreateOrder", order(source_id="a\0"), Status.INVALID_ARGUMENT, "source_id"),
    ("CreateOrder", order(purpose=0), Status.INVALID_ARGUMENT, "purpose"),
    ("CreateOrder", order(purpose=99), Status.INVALID_ARGUMENT, "purpose"),
    ("CreateOrder", order(sampling=99), Status.INVALID_ARGUMENT, "sampling"),
    ("CreateOrder", order(n_labels=0), Status.INVALID_ARGUMENT, "n_labels"),
    ("CreateOrder", order(n_labels=-1), Status.INVALID_ARGUMENT, "n_labels"),
    ("CreateOrder", order(n_labels=INT64_MAX), Status.INVALID_ARGUMENT, "n_labels"),
    ("CreateOrder", order(n_labels=10**9), Status.RESOURCE_EXHAUSTED, "n_labels"),
    ("CreateOrder", order(n_labels=21), Status.FAILED_PRECONDITION, "n_labels"),
    ("CreateOrder", order(sampling=resources_pb2.SAMPLING_GIVEN), Status.INVALID_ARGUMENT, "item_ids"),
    (
        "CreateOrder",
        order(sampling=resources_pb2.SAMPLING_RANDOM, item_ids=["i1"]),
        Status.INVALID_ARGUMENT,
        "item_ids",
    ),
    ("CreateOrder", order(item_ids=["x\0"]), Status.INVALID_ARGUMENT, "item_ids[0]"),
    ("CreateOrder", order(item_ids=["nobody"]), Status.NOT_FOUND, "item_ids[0]"),
    ("CreateOrder", order(items_of_order_id="nobody"), Status.NOT_FOUND, "items_of_order_id"),
    ("CreateOrder", order(items_of_order_id="a\0"), Status.INVALID_ARGUMENT, "items_of_order_id"),
    ("CreateOrder", order(items_of_order_id="o", item_ids=["i1"]), Status.INVALID_ARGUMENT, "item_ids"),
    (
        "CreateOrder",
        order(items_of_order_id="o", sampling=resources_pb2.SAMPLING_UNCERTAINTY),
        Status.INVALID_ARGUMENT,
        "sampling",
    ),
    ("CreateOrder", order(items_of_order_id="o", n_labels=0), Status.INVALID_ARGUMENT, "n_labels"),
    ("GetOrder", pb.GetOrderRequest(order_id="nobody"), Status.NOT_FOUND, "order_id"),
    ("ListOrders", pb.ListOrdersRequest(campaign_id="nobody"), Status.NOT_FOUND, "campaign_id"),
    ("ListSources", pb.ListSourcesRequest(campaign_id="nobody"), Status.NOT_FOUND, "campaign_id"),
    ("CancelOrder", pb.CancelOrderRequest(request_id="r", order_id="nobody"), Status.NOT_FOUND, "order_id"),
    ("RecordObservation", observation(run_id=""), Status.INVALID_ARGUMENT, "observation.run_id"),
    ("RecordObservation", observation(n_weak=-1), Status.INVALID_ARGUMENT, "observation.n_weak"),
    ("RecordObservation", observation(n_weak=INT64_MAX), Status.INVALID_ARGUMENT, "observation.n_weak"),
    ("RecordObservation", observation(weak_source_id=""), Status.INVALID_ARGUMENT, "observation.weak_source_id"),
    ("RecordObservation", observation(weak_source_id="a\0"), Status.INVALID_ARGUMENT, "observation.weak_source_id"),
    ("RecordObservation", observation(weak_source_id="x"), Status.NOT_FOUND, "observation.weak_source_id"),
    ("RecordObservation", observation(evaluation=None), Status.INVALID_ARGUMENT, "observation.evaluation"),
    (
        "RecordObservation",
        observation(evaluation=resources_pb2.Evaluation(n_eval=1, accuracy=NAN)),
        Status.INVALID_ARGUMENT,
        "evaluation.accuracy",
    ),
    ("Plan", pb.PlanRequest(request_id="r", campaign_id="nobody"), Status.NOT_FOUND, "campaign_id"),
    ("Plan", pb.PlanRequest(request_id="r", campaign_id="done"), Status.FAILED_PRECONDITION, "campaign_id"),
    ("Plan", pb.PlanRequest(request_id="r", campaign_id="c", tranche=money(-1)), Status.INVALID_ARGUMENT, "tranche"),
    ("Plan", plan(target_accuracy=0.5), Status.INVALID_ARGUMENT, "target_accuracy"),
    ("Plan", plan(target_accuracy=NAN), Status.INVALID_ARGUMENT, "target_accuracy"),
    ("Plan", plan(gain_min=-0.1), Status.INVALID_ARGUMENT, "gain_min"),
    ("Plan", plan(gain_min=NAN), Status.INVALID_ARGUMENT, "gain_min"),
    ("Plan", plan(weak_source_id="nobody"), Status.NOT_FOUND, "weak_source_id"),
    ("Plan", plan(weak_source_id="human"), Status.INVALID_ARGUMENT, "weak_source_id"),
    ("Plan", plan(weak_source_id="a\0"), Status.INVALID_ARGUMENT, "weak_source_id"),
    ("Plan", plan(human_source_id="nobody"), Status.NOT_FOUND, "human_source_id"),
    ("Plan", plan(human_source_id="weak"), Status.INVALID_ARGUMENT, "human_source_id"),
    ("ListPlans", pb.ListPlansRequest(campaign_id="nobody"), Status.NOT_FOUND, "campaign_id"),
    ("ListObservations", pb.ListObservationsRequest(campaign_id="nobody"), Status.NOT_FOUND, "campaign_id"),
    ("GetFrontier", pb.GetFrontierRequest(campaign_id="nobody"), Status.NOT_FOUND, "campaign_id"),
]


async def test_bad_requests(rig: Any) -> None:
    await rig.create()
    await rig.create(campaign_id="done")
    await rig.stub.FinishCampaign(pb.FinishCampaignRequest(request_id="finish", campaign_id="done"))
    before = await rig.balance()
    for method, request, code, field in CASES:
        await refuse(getattr(rig.stub, method), request, code, field)
    assert await rig.balance() == before


async def test_bad_labels(rig: Any) -> None:
    await rig.create()
    made = await rig.order("o", n_labels=2)
    good, other = await rig.items(made.order_id)

    def submit(*labels: resources_pb2.Label, order_id: str = made.order_id) -> pb.SubmitLabelsRequest:
        return pb.SubmitLabelsRequest(request_id="r", order_id=order_id, labels=labels)

    def label(item_id: str = other, probabilities: Any = (0.5, 0.5), **fields: Any) -> resources_pb2.Label:
        return resources_pb2.Label(item_id=item_id, probabilities=probabilities, **fields)

    first = label(good)
    cases = [
        (submit(), Status.INVALID_ARGUMENT, "labels"),
        (submit(*[first] * 10_001), Status.INVALID_ARGUMENT, "labels"),
        (submit(first, order_id="nobody"), Status.NOT_FOUND, "order_id"),
        (submit(first, label("")), Status.INVALID_ARGUMENT, "labels[1].item_id"),
        (submit(first, label("a\0")), Status.INVALID_ARGUMENT, "labels[1].item_id"),
        (submit(first, label("nobody")), Status.INVALID_ARGUMENT, "labels[1].item_id"),
        (submit(first, label(probabilities=(NAN, 0.5))), Status.INVALID_ARGUMENT, "labels[1].probabilities"),
        (submit(first, label(probabilities=(0.9, 0.9))), Status.INVALID_ARGUMENT, "labels[1].probabilities"),
        (submit(first, label(probabilities=(-0.5, 1.5))), Status.INVALID_ARGUMENT, "labels[1].probabilities"),
        (submit(first, label(probabilities=(0.2, 0.3, 0.5))), Status.INVALID_ARGUMENT, "labels[1].probabilities"),
        (submit(first, label(probabilities=[0.0] * 99_999)), Status.INVALID_ARGUMENT, "labels[1].probabilities"),
        (submit(first, label(annotator="a\0")), Status.INVALID_ARGUMENT, "labels[1].annotator"),
        (submit(first, label(engine_fingerprint="a\0")), Status.INVALID_ARGUMENT, "labels[1].engine_fingerprint"),
        (submit(first, label(prompt_tokens=-1)), Status.INVALID_ARGUMENT, "labels[1].prompt_tokens"),
        (submit(first, label(choices_mass=NAN)), Status.INVALID_ARGUMENT, "labels[1].choices_mass"),
    ]
    for request, code, field in cases:
        await refuse(rig.stub.SubmitLabels, request, code, field)
    assert await rig.items(made.order_id, pending_only=True) == [good, other]
    assert (await rig.balance()).settled.micros == 0


async def test_bad_labels_of_a_metered_source(rig: Any) -> None:
    await rig.create()
    await rig.add_metered()
    made = await rig.order("o", "metered", 2)
    items = await rig.items(made.order_id)
    for n_tokens in (0, 667, 10**9, 10**9 + 1):
        labels = [
            resources_pb2.Label(item_id=item_id, probabilities=[0.5, 0.5], prompt_tokens=tokens)
            for item_id, tokens in zip(items, (666, n_tokens), strict=True)
        ]
        request = pb.SubmitLabelsRequest(request_id="r", order_id=made.order_id, labels=labels)
        await refuse(rig.stub.SubmitLabels, request, Status.INVALID_ARGUMENT, "labels[1].prompt_tokens")
    assert (await rig.balance()).settled.micros == 0


async def test_items_of_an_order_that_does_not_fit(rig: Any) -> None:
    await rig.create()
    human = await rig.order("o", "human", 2)
    await rig.create(campaign_id="d")
    elsewhere = order(request_id="d", campaign_id="d", items_of_order_id=human.order_id)
    for request, code, field in (
        (order(source_id="human", items_of_order_id=human.order_id), Status.INVALID_ARGUMENT, "items_of_order_id"),
        (elsewhere, Status.INVALID_ARGUMENT, "items_of_order_id"),
        (order(items_of_order_id=human.order_id, n_labels=3), Status.INVALID_ARGUMENT, "n_labels"),
        (
            order(items_of_order_id=human.order_id, purpose=resources_pb2.PURPOSE_EVALUATION),
            Status.FAILED_PRECONDITION,
            "n_labels",
        ),
    ):
        await refuse(rig.stub.CreateOrder, request, code, field)
    assert (await rig.balance()).reserved.micros == 200_000


async def test_bad_streams_of_items(rig: Any) -> None:
    await rig.create()
    await rig.create(campaign_id="done")
    await rig.stub.FinishCampaign(pb.FinishCampaignRequest(request_id="finish", campaign_id="done"))
    item = resources_pb2.Item(item_id="a", fields={"claim": "x"})

    def add(campaign_id: str, n_items: int = 1) -> pb.AddItemsRequest:
        return pb.AddItemsRequest(request_id=f"add/{campaign_id}", campaign_id=campaign_id, items=[item] * n_items)

    for stream, code, field in (
        ([], Status.INVALID_ARGUMENT, "campaign_id"),
        ([add("")], Status.INVALID_ARGUMENT, "campaign_id"),
        ([add("nobody")], Status.NOT_FOUND, "campaign_id"),
        ([add("done")], Status.FAILED_PRECONDITION, "campaign_id"),
        ([add("c"), add("done")], Status.INVALID_ARGUMENT, "campaign_id"),
        ([add("c", 10_001)], Status.INVALID_ARGUMENT, "items"),
    ):
        await refuse(lambda messages: rig.stub.AddItems(iter(messages)), stream, code, field)


async def test_bad_exports(rig: Any) -> None:
    await rig.create()

    async def drain(call: Any) -> None:
        async for _ in call:
            pass

    for method, request, code, field in (
        ("ExportOrderItems", pb.ExportOrderItemsRequest(order_id="nobody"), Status.NOT_FOUND, "order_id"),
        ("ExportLabels", pb.ExportLabelsRequest(campaign_id="nobody"), Status.NOT_FOUND, "campaign_id"),
        ("ExportLabels", pb.ExportLabelsRequest(campaign_id="c", source_id="x"), Status.NOT_FOUND, "source_id"),
        (
            "ExportLabels",
            pb.ExportLabelsRequest(campaign_id="c", purposes=[UNKNOWN]),
            Status.INVALID_ARGUMENT,
            "purposes",
        ),
        ("ExportLedger", pb.ExportLedgerRequest(campaign_id="nobody"), Status.NOT_FOUND, "campaign_id"),
    ):
        await refuse(lambda message, name=method: drain(getattr(rig.stub, name)(message)), request, code, field)


async def test_what_the_service_sets_is_ignored_where_a_caller_sends_it(rig: Any) -> None:
    request = campaign(campaign_id="mine", state=99)
    request.campaign.create_time.seconds = INT64_MAX
    stored = (await rig.stub.CreateCampaign(request)).campaign
    assert stored.state == resources_pb2.CAMPAIGN_STATE_ACTIVE
    await rig.create()
    made = await rig.order("o", n_labels=1)
    (item_id,) = await rig.items(made.order_id)
    label = resources_pb2.Label(
        item_id=item_id, probabilities=[0.5, 0.5], sequence=-7, purpose=UNKNOWN, label_id="mine"
    )
    label.create_time.nanos = -1
    await rig.stub.SubmitLabels(pb.SubmitLabelsRequest(request_id="s", order_id=made.order_id, labels=[label]))
    exported = [
        each.label
        async for part in rig.stub.ExportLabels(pb.ExportLabelsRequest(campaign_id="c"))
        for each in part.labelled_items
    ]
    assert [(each.sequence, each.purpose) for each in exported] == [(1, resources_pb2.PURPOSE_TRAINING)]
    assert exported[0].label_id != "mine"
