"""What Prometheus reads from a budget service, over HTTP."""

from __future__ import annotations

import asyncio
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from prometheus_client.parser import text_string_to_metric_families

from isocost.budget import clock
from isocost.budget.database import Database
from isocost.budget.metrics import BudgetCollector
from isocost.budget.service import BudgetService
from isocost.budget.settings import BudgetSettings
from isocost.core.channel import open_channel
from isocost.core.grpc_server import ServiceHost
from isocost.core.metrics import MetricsServer
from isocost.core.server_settings import ServerSettings
from isocost.v1 import budget_service_pb2 as pb
from isocost.v1 import budget_service_pb2_grpc, queue_service_pb2_grpc, resources_pb2
from isocost.v1 import queue_service_pb2 as queue_pb
from tests.integration.budget.conftest import Rig


async def scrape(address: str) -> dict[str, Any]:
    """The samples about campaigns, by name and labels."""

    def read() -> str:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as response:
            return str(response.read().decode())

    samples: dict[str, Any] = {}
    for family in text_string_to_metric_families(await asyncio.to_thread(read)):
        for sample in family.samples:
            if sample.name.startswith("isocost_campaign_"):
                key = "/".join([sample.name.removeprefix("isocost_campaign_"), *sample.labels.values()])
                samples[key] = sample.value
    return samples


async def test_the_money_the_labels_and_the_leases_are_shown(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = BudgetService(BudgetSettings(database_url=database_url))
    with MetricsServer(ServerSettings(metrics_address="127.0.0.1:0")) as metrics:
        async with (
            ServiceHost(service, "127.0.0.1:0", metrics=metrics) as host,
            open_channel(host.address) as channel,
        ):
            rig = Rig(
                host.address,
                database_url,
                budget_service_pb2_grpc.BudgetServiceStub(channel),
                queue_service_pb2_grpc.QueueServiceStub(channel),
            )
            assert await scrape(metrics.address) == {}
            await rig.create(campaign_id="over", n_items=0)
            await rig.stub.FinishCampaign(pb.FinishCampaignRequest(request_id="finish", campaign_id="over"))
            await rig.create(n_items=20)
            weak = await rig.order("weak", n_labels=5)
            items = await rig.items(weak.order_id)
            labels = [resources_pb2.Label(item_id=item_id, probabilities=[0.5, 0.5]) for item_id in items[:3]]
            await rig.stub.SubmitLabels(
                pb.SubmitLabelsRequest(request_id="submit", order_id=weak.order_id, labels=labels)
            )
            cancelled = await rig.order("cancelled", n_labels=2)
            await rig.stub.CancelOrder(pb.CancelOrderRequest(request_id="cancel", order_id=cancelled.order_id))
            await rig.order("human", "human", n_labels=4)
            lease = queue_pb.LeaseItemsRequest(
                request_id="lease",
                campaign_id="c",
                source_id="human",
                annotator="ann",
                n_items=2,
                duration=Duration(seconds=3_600),
            )
            taken = (await rig.queue.LeaseItems(lease)).lease
            later_us = taken.create_time.ToMicroseconds() + 90_000_000
            monkeypatch.setattr(clock, "now_us", lambda: later_us)
            assert await scrape(metrics.address) == {
                "budget_micros/c/USD": 1_000_000,
                "settled_micros/c/USD": 3_000,
                "reserved_micros/c/USD": 402_000,
                "labels/c/model": 3,
                "labels/c/human": 0,
                "orders/c/open": 2,
                "orders/c/cancelled": 1,
                "open_leases/c": 1,
                "oldest_lease_seconds/c": 90,
            }
            # Past its time it is no lease, whether or not the service has got round to it.
            later_us += 3_600_000_000
            shown = await scrape(metrics.address)
            assert (shown["open_leases/c"], shown["oldest_lease_seconds/c"]) == (0, 0)


def test_a_database_that_cannot_be_read_leaves_the_other_metrics(tmp_path: Path) -> None:
    # Never migrated: there are no tables to read.
    database = Database(f"sqlite:///{tmp_path}/empty.db")
    assert list(BudgetCollector(database).collect()) == []
    database.close()
