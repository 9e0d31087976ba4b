"""Rpcs of observations, plans and the frontier."""

# The methods are named as their rpcs, and take a context whether they need it or not.
# ruff: noqa: ARG002, N802

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from isocost.budget import observations, plans
from isocost.budget.paging import Page
from isocost.budget.requests import RequestKey
from isocost.budget.rpcs.transactions import Transactions
from isocost.budget.wire import id_from_wire, observation_from_wire, plan_request_from_wire
from isocost.v1 import budget_service_pb2 as pb

__all__ = ["DecisionRpcs"]


class DecisionRpcs(Transactions):
    """What runs showed, and what to buy next."""

    async def RecordObservation(
        self, request: pb.RecordObservationRequest, context: Any
    ) -> pb.RecordObservationResponse:
        """Records what a run showed."""
        key = RequestKey.of("RecordObservation", request.request_id, request)
        campaign_id = id_from_wire("campaign_id", request.campaign_id)
        observation = observation_from_wire(request.observation)

        def work(connection: Connection) -> pb.RecordObservationResponse:
            recorded = observations.record_observation(connection, campaign_id, observation)
            return pb.RecordObservationResponse(observation=recorded.to_proto())

        return await self._once(key, pb.RecordObservationResponse, work, lambda _: campaign_id)

    async def ListObservations(self, request: pb.ListObservationsRequest, context: Any) -> pb.ListObservationsResponse:
        """Lists a campaign's observations, oldest first."""
        page = Page.of(request)
        campaign_id, after = id_from_wire("campaign_id", request.campaign_id), page.after(0)
        found = await self._read(
            lambda connection: observations.list_observations(
                connection, campaign_id, after_position=after, limit=page.size
            )
        )
        return pb.ListObservationsResponse(
            observations=[observation.to_proto() for observation in found],
            next_page_token=page.next_token(len(found), after + len(found)),
        )

    async def Plan(self, request: pb.PlanRequest, context: Any) -> pb.PlanResponse:
        """Decides what to buy next, and stores the plan with all its inputs."""
        key = RequestKey.of("Plan", request.request_id, request)
        campaign_id = id_from_wire("campaign_id", request.campaign_id)
        asked = plan_request_from_wire(request)

        def work(connection: Connection) -> pb.PlanResponse:
            plan = plans.make_plan(connection, campaign_id, asked)
            return pb.PlanResponse(plan=plan.to_proto())

        return await self._once(key, pb.PlanResponse, work, lambda _: campaign_id)

    async def ListPlans(self, request: pb.ListPlansRequest, context: Any) -> pb.ListPlansResponse:
        """Lists a campaign's plans, oldest first."""
        page = Page.of(request)
        campaign_id, after = id_from_wire("campaign_id", request.campaign_id), page.after(0)
        found = await self._read(
            lambda connection: plans.list_plans(connection, campaign_id, after_position=after, limit=page.size)
        )
        return pb.ListPlansResponse(
            plans=[plan.to_proto() for plan in found],
            next_page_token=page.next_token(len(found), after + len(found)),
        )

    async def GetFrontier(self, request: pb.GetFrontierRequest, context: Any) -> pb.GetFrontierResponse:
        """The Pareto set of cost and accuracy over the observations, cheapest first."""
        campaign_id = id_from_wire("campaign_id", request.campaign_id)
        points = await self._read(lambda connection: observations.frontier(connection, campaign_id))
        return pb.GetFrontierResponse(points=[point.to_proto() for point in points])
