"""Unary reads a second, beside a bare echo's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import grpc

from isocost.v1 import budget_service_pb2 as pb
from isocost.v1 import budget_service_pb2_grpc
from tests.bench.campaign import CAMPAIGN_ID, create_campaign, order_labels
from tests.bench.echo import ECHO_METHOD
from tests.budget_process import running_budget, start_process

__all__ = ["measure_reads"]

_N_ROUNDS = 7
_CALLS_A_ROUND = 1_500
_N_WORKERS = 32


async def _calls_per_second(call: Callable[[], Any], n_calls: int) -> float:
    """One channel, 32 calls in flight."""
    waiting = iter(range(n_calls))

    async def worker() -> None:
        for _ in waiting:
            await call()

    start = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(_N_WORKERS)))
    return n_calls / (time.perf_counter() - start)


async def measure_reads(database_url: str) -> dict[str, float]:
    """Reads of a campaign and of an order, and echoes, in turns; each server in its own process.

    Returns:
        Medians over the rounds of calls a second, and of the ratios within each round.
    """
    echo_process, echo_address = await start_process("tests.bench.echo")
    rates: dict[str, list[float]] = {"echo": [], "get_campaign": [], "get_order": []}
    try:
        async with running_budget(database_url) as budget, grpc.aio.insecure_channel(echo_address) as echo_channel:
            stub: Any = budget_service_pb2_grpc.BudgetServiceStub(budget.channel)
            await create_campaign(stub, n_items=1_000)
            order_id = await order_labels(stub, "order", 100)
            echo: Any = echo_channel.unary_unary(
                ECHO_METHOD,
                request_serializer=pb.GetCampaignRequest.SerializeToString,
                response_deserializer=pb.GetCampaignRequest.FromString,
            )
            campaign_request = pb.GetCampaignRequest(campaign_id=CAMPAIGN_ID)
            order_request = pb.GetOrderRequest(order_id=order_id)
            calls: dict[str, Callable[[], Any]] = {
                "echo": lambda: echo(campaign_request),
                "get_campaign": lambda: stub.GetCampaign(campaign_request),
                "get_order": lambda: stub.GetOrder(order_request),
            }
            for call in calls.values():
                await _calls_per_second(call, _CALLS_A_ROUND // 4)
            for _ in range(_N_ROUNDS):
                for name, call in calls.items():
                    rates[name].append(await _calls_per_second(call, _CALLS_A_ROUND))
    finally:
        echo_process.kill()
        await echo_process.wait()
    figures = {f"{name}_per_second": round(median(rate)) for name, rate in rates.items()}
    ratios = {
        f"{name}_ratio": round(median(x / y for x, y in zip(rates[name], rates["echo"], strict=True)), 3)
        for name in ("get_campaign", "get_order")
    }
    return {**figures, **ratios}
