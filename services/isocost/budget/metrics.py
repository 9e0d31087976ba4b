"""What Prometheus sees of the money: read at each scrape, in one transaction, for every active campaign."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import structlog
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Connection, and_, func, select

from isocost.budget import clock, schema
from isocost.budget.database import Database
from isocost.core.errors import IsocostError
from isocost.resources.campaign import CampaignState
from isocost.resources.queue import LeaseState

__all__ = ["BudgetCollector"]

#: Campaigns shown, the newest first: each makes about a dozen series.
_CAMPAIGNS_MAX = 1_000

_log = structlog.get_logger(__name__)


class BudgetCollector(Collector):
    """Gauges of a database.

    - `isocost_campaign_budget_micros`, `isocost_campaign_settled_micros`, `isocost_campaign_reserved_micros`
    - `isocost_campaign_labels`, bought, by `source_kind`
    - `isocost_campaign_orders`, by `state`
    - `isocost_campaign_open_leases` and `isocost_campaign_oldest_lease_seconds`, the age of the oldest open lease, 0
      where none is open
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def describe(self) -> Iterable[Metric]:
        """Nothing: the names are no reason to read the database when the collector is registered."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Reads the gauges; none where the database cannot be read, which is logged."""
        try:
            with self._database.read() as connection:
                return _gauges(connection)
        except IsocostError as error:
            _log.warning("metrics_unread", error=str(error))
            return ()


def _gauges(connection: Connection) -> list[Metric]:
    campaigns, orders, sources, leases = schema.campaigns, schema.orders, schema.sources, schema.leases
    active = connection.execute(
        select(
            campaigns.c.campaign_id,
            campaigns.c.currency_code,
            campaigns.c.budget_micros,
            campaigns.c.settled_micros,
            campaigns.c.reserved_micros,
        )
        .where(campaigns.c.state == CampaignState.ACTIVE.name)
        .order_by(campaigns.c.create_time_us.desc())
        .limit(_CAMPAIGNS_MAX)
    ).all()
    shown = {row.campaign_id for row in active}
    of_active = campaigns.c.state == CampaignState.ACTIVE.name
    # A label is bought through an order, which counts it: nothing here grows with the labels.
    by_kind = connection.execute(
        select(orders.c.campaign_id, sources.c.kind, func.sum(orders.c.n_settled))
        .join(campaigns, and_(campaigns.c.campaign_id == orders.c.campaign_id, of_active))
        .join(
            sources,
            and_(sources.c.campaign_id == orders.c.campaign_id, sources.c.source_id == orders.c.source_id),
        )
        .group_by(orders.c.campaign_id, sources.c.kind)
    ).all()
    by_state = connection.execute(
        select(orders.c.campaign_id, orders.c.state, func.count())
        .join(campaigns, and_(campaigns.c.campaign_id == orders.c.campaign_id, of_active))
        .group_by(orders.c.campaign_id, orders.c.state)
    ).all()
    # A lease past its time no longer is one, even before the next call finds that out.
    now_us = clock.now_us()
    open_leases = {
        row[0]: (row[1], row[2])
        for row in connection.execute(
            select(leases.c.campaign_id, func.count(), func.min(leases.c.create_time_us))
            .where(leases.c.state == LeaseState.OPEN.name, leases.c.expire_time_us > now_us)
            .group_by(leases.c.campaign_id)
        )
    }
    labels, order_counts = _family("labels", "Labels bought.", ["source_kind"]), _family("orders", "Orders.", ["state"])
    for family, rows in ((labels, by_kind), (order_counts, by_state)):
        for campaign_id, key, count in rows:
            if campaign_id in shown:
                family.add_metric([campaign_id, key.lower()], int(count))
    return [*_money(active), labels, order_counts, *_lease_gauges(shown, open_leases, now_us)]


def _money(active: Iterable[Any]) -> list[Metric]:
    budget = _family("budget_micros", "Budget, in millionths of the currency.", ["currency"])
    settled = _family("settled_micros", "Spent, in millionths of the currency.", ["currency"])
    reserved = _family("reserved_micros", "Reserved by open orders, in millionths of the currency.", ["currency"])
    for row in active:
        labels = [row.campaign_id, row.currency_code]
        budget.add_metric(labels, row.budget_micros)
        settled.add_metric(labels, row.settled_micros)
        reserved.add_metric(labels, row.reserved_micros)
    return [budget, settled, reserved]


def _lease_gauges(shown: set[str], open_leases: dict[str, tuple[int, int]], now_us: int) -> list[Metric]:
    n_open = _family("open_leases", "Leases that annotators hold.", [])
    oldest = _family("oldest_lease_seconds", "Age of the oldest open lease; 0 where none is open.", [])
    for campaign_id in sorted(shown):
        count, create_time_us = open_leases.get(campaign_id, (0, now_us))
        n_open.add_metric([campaign_id], count)
        oldest.add_metric([campaign_id], max(now_us - create_time_us, 0) / 1e6)
    return [n_open, oldest]


def _family(name: str, help_text: str, labels: list[str]) -> Any:
    return GaugeMetricFamily(f"isocost_campaign_{name}", help_text, labels=["campaign", *labels])
