"""Plans: what to buy next, and the numbers behind it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from isocost.core.errors import InvalidArgumentError
from isocost.core.money import Money
from isocost.economics.policy.decision import Explanation, LineForecast
from isocost.economics.regime import Regime
from isocost.resources.label import time_from_proto, time_to_proto
from isocost.resources.plan_inputs import PlanInputs
from isocost.v1 import resources_pb2

__all__ = ["Decision", "Plan", "PlanExplanation", "Purchase", "TrancheValue"]


class Decision(Enum):
    """What a plan says to do."""

    BUY = resources_pb2.DECISION_BUY
    STOP = resources_pb2.DECISION_STOP


@dataclass(frozen=True, slots=True)
class Purchase:
    """One purchase that a plan proposes; expected_gain in accuracy, by the policy's own estimate."""

    source_id: str
    n_labels: int
    cost: Money
    expected_gain: float

    @classmethod
    def from_proto(cls, message: resources_pb2.Purchase) -> Purchase:
        """Converts from the wire."""
        return cls(message.source_id, message.n_labels, Money.from_proto(message.cost), message.expected_gain)

    def to_proto(self) -> resources_pb2.Purchase:
        """Converts to the wire."""
        return resources_pb2.Purchase(
            source_id=self.source_id,
            n_labels=self.n_labels,
            cost=self.cost.to_proto(),
            expected_gain=self.expected_gain,
        )


@dataclass(frozen=True, slots=True)
class TrancheValue:
    """What the next tranche would bring if all of it were spent on one source.

    Attributes:
        source_id: The source.
        n_labels: Labels that it buys; 0 where not even one.
        cost: Their price.
        gain: Expected gain in accuracy once the tranche is spent, over stopping now.
        final_gain: Expected gain in accuracy at the end, the rest spent as well as is then known, over stopping now.
    """

    source_id: str
    n_labels: int
    cost: Money
    gain: float
    final_gain: float

    @classmethod
    def from_proto(cls, message: resources_pb2.TrancheValue) -> TrancheValue:
        """Converts from the wire."""
        return cls(
            message.source_id, message.n_labels, Money.from_proto(message.cost), message.gain, message.final_gain
        )

    def to_proto(self) -> resources_pb2.TrancheValue:
        """Converts to the wire."""
        return resources_pb2.TrancheValue(
            source_id=self.source_id,
            n_labels=self.n_labels,
            cost=self.cost.to_proto(),
            gain=self.gain,
            final_gain=self.final_gain,
        )


@dataclass(frozen=True, slots=True)
class PlanExplanation:
    """The numbers behind a plan.

    Attributes:
        line: The posterior along the isocost line of bought labels and available money, all human first.
        regime_probability: Probability of the plan's regime.
        tranches: The value of the next tranche of each source.
        accuracy_now: Expected accuracy of the best model that the labels at hand train.
        accuracy_final: The same once everything is spent as planned.
    """

    line: tuple[LineForecast, ...]
    regime_probability: float
    tranches: tuple[TrancheValue, ...]
    accuracy_now: float
    accuracy_final: float

    @classmethod
    def of(cls, explanation: Explanation, currency_code: str) -> PlanExplanation:
        """An explanation of `isocost.economics`, in a currency."""
        return cls(
            line=explanation.line,
            regime_probability=explanation.regime_probability,
            tranches=tuple(
                TrancheValue(
                    value.source_id,
                    value.n_labels,
                    Money(value.cost_micros, currency_code),
                    value.gain,
                    value.final_gain,
                )
                for value in explanation.tranches
            ),
            accuracy_now=explanation.accuracy_now,
            accuracy_final=explanation.accuracy_final,
        )

    @classmethod
    def from_proto(cls, message: resources_pb2.PlanExplanation) -> PlanExplanation:
        """Converts from the wire."""
        return cls(
            line=tuple(
                LineForecast(
                    weak_share=forecast.weak_share,
                    n_weak=forecast.n_weak,
                    n_human=forecast.n_human,
                    accuracy=forecast.accuracy,
                    accuracy_low=forecast.accuracy_low,
                    accuracy_high=forecast.accuracy_high,
                    probability_best=forecast.probability_best,
                )
                for forecast in message.line
            ),
            regime_probability=message.regime_probability,
            tranches=tuple(TrancheValue.from_proto(value) for value in message.tranches),
            accuracy_now=message.accuracy_now,
            accuracy_final=message.accuracy_final,
        )

    def to_proto(self) -> resources_pb2.PlanExplanation:
        """Converts to the wire."""
        return resources_pb2.PlanExplanation(
            line=[
                resources_pb2.LineForecast(
                    weak_share=forecast.weak_share,
                    n_weak=forecast.n_weak,
                    n_human=forecast.n_human,
                    accuracy=forecast.accuracy,
                    accuracy_low=forecast.accuracy_low,
                    accuracy_high=forecast.accuracy_high,
                    probability_best=forecast.probability_best,
                )
                for forecast in self.line
            ],
            regime_probability=self.regime_probability,
            tranches=[value.to_proto() for value in self.tranches],
            accuracy_now=self.accuracy_now,
            accuracy_final=self.accuracy_final,
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """What to buy next and why.

    Attributes:
        plan_id, campaign_id, create_time: Set by the budget service.
        decision, purchases: What to buy; nothing for STOP.
        reason: In words, with its numbers.
        regime: The most probable one.
        policy: Name of the policy that decided.
        inputs_json: Everything that the plan was made from.
        explanation: The numbers behind it; None where the policy has none.
    """

    plan_id: str
    campaign_id: str
    decision: Decision
    purchases: tuple[Purchase, ...]
    reason: str
    regime: Regime
    policy: str
    inputs_json: str
    create_time: datetime | None = None
    explanation: PlanExplanation | None = None

    @property
    def inputs(self) -> PlanInputs | None:
        """Everything that the plan was made from; None where a policy with other inputs made it."""
        try:
            return PlanInputs.from_json(self.inputs_json)
        except InvalidArgumentError:
            return None

    @classmethod
    def from_proto(cls, message: resources_pb2.Plan) -> Plan:
        """Converts from the wire."""
        return cls(
            plan_id=message.plan_id,
            campaign_id=message.campaign_id,
            decision=Decision(message.decision),
            purchases=tuple(Purchase.from_proto(purchase) for purchase in message.purchases),
            reason=message.reason,
            regime=Regime[resources_pb2.Regime.Name(message.regime).removeprefix("REGIME_")],
            policy=message.policy,
            inputs_json=message.inputs_json,
            create_time=time_from_proto(message.create_time),
            explanation=PlanExplanation.from_proto(message.explanation) if message.HasField("explanation") else None,
        )

    def to_proto(self) -> resources_pb2.Plan:
        """Converts to the wire."""
        return resources_pb2.Plan(
            plan_id=self.plan_id,
            campaign_id=self.campaign_id,
            decision=self.decision.value,
            purchases=[purchase.to_proto() for purchase in self.purchases],
            reason=self.reason,
            regime=resources_pb2.Regime.Value(f"REGIME_{self.regime.name}"),
            policy=self.policy,
            inputs_json=self.inputs_json,
            create_time=time_to_proto(self.create_time),
            explanation=self.explanation.to_proto() if self.explanation else None,
        )
