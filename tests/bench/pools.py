"""The same order from a small and from a large pool."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

from isocost.v1 import budget_service_pb2_grpc
from tests.bench.campaign import create_campaign, order_labels
from tests.budget_process import running_budget

__all__ = ["measure_pools"]

_N_ITEMS_SMALL = 10_000
_N_LABELS = 500
_N_ORDERS = 15


async def measure_pools(small_url: str, large_url: str, *, n_items_large: int = 1_000_000) -> dict[str, float]:
    """Orders of 500 random items, in turns from a pool of 10,000 items and a large one.

    Args:
        small_url: An empty database.
        large_url: Another one of the same kind.
        n_items_large: Items of the large pool.

    Returns:
        Medians of the seconds of an order, their ratio, and the rate at which the large pool was filled.
    """
    async with running_budget(small_url) as small, running_budget(large_url) as large:
        stubs: list[Any] = [budget_service_pb2_grpc.BudgetServiceStub(each.channel) for each in (small, large)]
        await create_campaign(stubs[0], n_items=_N_ITEMS_SMALL)
        start = time.perf_counter()
        await create_campaign(stubs[1], n_items=n_items_large)
        seconds_to_fill = time.perf_counter() - start
        seconds: list[list[float]] = [[], []]
        # The first order of each fills caches and is not counted.
        for number in range(_N_ORDERS + 1):
            for stub, taken in zip(stubs, seconds, strict=True):
                start = time.perf_counter()
                await order_labels(stub, f"order/{number}", _N_LABELS)
                taken.append(time.perf_counter() - start)
    small_seconds, large_seconds = (median(taken[1:]) for taken in seconds)
    return {
        "order_seconds_small_pool": round(small_seconds, 4),
        "order_seconds_large_pool": round(large_seconds, 4),
        "pool_ratio": round(large_seconds / small_seconds, 2),
        "items_added_per_second": round(n_items_large / seconds_to_fill),
    }
