"""Arbitrary messages to every rpc: a clear status every time, never INTERNAL, never a hang, and the ledger holds."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from isocost.budget.proof import verify_ledger
from isocost.core.grpc_server import open_channel
from isocost.v1 import budget_service_pb2, queue_service_pb2
from tests.integration.budget.arbitrary import Arbitrary

SOAK = os.environ.get("ISOCOST_SOAK") == "1"
N_CALLS = {"sqlite": 75_000 if SOAK else 2_500, "postgresql": 25_000 if SOAK else 1_500}
N_WORKERS = 5
#: Calls by one worker before it gets a new campaign: the old one's budget is spent, or it is finished.
CALLS_A_CAMPAIGN = 200
#: No call may take so long.
TIMEOUT_SECONDS = 30.0
METHODS: list[MethodDescriptor] = [
    *budget_service_pb2.DESCRIPTOR.services_by_name["BudgetService"].methods,
    *queue_service_pb2.DESCRIPTOR.services_by_name["QueueService"].methods,
]
#: What others build on comes more often. A finished campaign takes nothing more: that comes seldom.
WEIGHTS = [
    {
        "FinishCampaign": 0.2,
        "CreateOrder": 4,
        "ExportOrderItems": 3,
        "LeaseItems": 3,
        "CreateCorrection": 3,
        "ExportLedger": 2,
        "SubmitLabels": 2,
        "AnswerItems": 2,
    }.get(method.name, 1)
    for method in METHODS
]
#: What a service may answer to nonsense.
CLEAR = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}


class Fuzzer:
    """One client that calls anything with anything."""

    def __init__(self, rig: Any, channel: grpc.aio.Channel, seed: int) -> None:
        self._rig = rig
        self._channel: Any = channel
        self._seed = seed
        self._arbitrary = Arbitrary(seed)
        self.codes: Counter[tuple[str, grpc.StatusCode]] = Counter()

    async def run(self, n_calls: int) -> None:
        for number in range(n_calls):
            if number % CALLS_A_CAMPAIGN == 0:
                self._arbitrary.campaign_id = f"c{self._seed}-{number}"
                await self._rig.create(budget_micros=30_000_000, n_items=60, campaign_id=self._arbitrary.campaign_id)
                await self._rig.add_metered(self._arbitrary.campaign_id)
            (method,) = self._arbitrary.chance.choices(METHODS, WEIGHTS)
            await self._call(method)

    async def _call(self, method: MethodDescriptor) -> None:
        n_requests = self._arbitrary.chance.randrange(4) if method.client_streaming else 1
        requests = [self._arbitrary.message(method.input_type) for _ in range(n_requests)]
        code, details = await self._status(method, requests)
        self.codes[method.name, code] += 1
        assert code in CLEAR, f"{method.name}: {code} {details}\n{requests}"
        assert code is grpc.StatusCode.OK or details

    async def _status(self, method: MethodDescriptor, requests: list[Message]) -> tuple[grpc.StatusCode, str]:
        kinds = {
            (False, False): self._channel.unary_unary,
            (False, True): self._channel.unary_stream,
            (True, False): self._channel.stream_unary,
        }
        call = kinds[method.client_streaming, method.server_streaming](
            f"/{method.containing_service.full_name}/{method.name}",
            request_serializer=GetMessageClass(method.input_type).SerializeToString,
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )(iter(requests) if method.client_streaming else requests[0], timeout=TIMEOUT_SECONDS)
        try:
            responses = [part async for part in call] if method.server_streaming else [await call]
        except grpc.aio.AioRpcError as error:
            return error.code(), error.details() or ""
        for response in responses:
            self._arbitrary.learn(response)
        if method.name == "LeaseItems":
            self._arbitrary.learn_items(responses[0].lease.lease_id, [item.item_id for item in responses[0].items])
        if method.name == "CreateOrder":
            order_id = responses[0].order.order_id
            self._arbitrary.learn_items(order_id, await self._rig.items(order_id))
        return grpc.StatusCode.OK, ""


@pytest.mark.timeout(7_200 if SOAK else 300)
async def test_nothing_that_is_sent_breaks_the_service(rig: Any, request: pytest.FixtureRequest) -> None:
    n_calls = N_CALLS[request.node.callspec.params["database_url"]]
    async with open_channel(rig.address) as channel:
        fuzzers = [Fuzzer(rig, channel, seed) for seed in range(N_WORKERS)]
        await asyncio.gather(*(fuzzer.run(n_calls // N_WORKERS) for fuzzer in fuzzers))
    codes = sum((fuzzer.codes for fuzzer in fuzzers), Counter[tuple[str, grpc.StatusCode]]())
    # Every rpc was reached past its checks.
    reached = {name for name, code in codes if code is grpc.StatusCode.OK}
    assert {method.name for method in METHODS} - reached == set()
    proofs = verify_ledger(rig.database_url)
    assert sum(proof.n_labels for proof in proofs) > 0
