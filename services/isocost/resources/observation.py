"""What runs showed: evaluations, observations, the frontier."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from isocost.core.errors import InvalidArgumentError
from isocost.core.money import Money
from isocost.economics.frontier import CostedPoint, ObservedPoint
from isocost.economics.interval import Z_95
from isocost.resources.label import time_from_proto, time_to_proto
from isocost.v1 import resources_pb2

__all__ = ["Evaluation", "FrontierPoint", "Observation"]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How well a trained model answers one evaluation set.

    Attributes:
        name: Name of the evaluation set.
        n_eval: Labels it was measured on.
        accuracy: Share of right answers, 0 to 1.
        accuracy_low, accuracy_high: 95 % Wilson interval of the accuracy.
        auroc: Area under the ROC curve, macro-averaged one against the rest for more than two choices; 0.5 where
            undefined (only one class among the labels).
        auroc_low, auroc_high: Its 95 % interval; this and all below are 0 where nothing but accuracy was measured.
        calibrated_accuracy, calibrated_accuracy_low, calibrated_accuracy_high: Accuracy once each choice is predicted
            as often as it is right in the set, with its 95 % interval.
        ece, ece_low, ece_high: Expected calibration error, with its 95 % interval.
        loss: Mean of minus the log-probability of the right choice, in nats.
        n_unlabelled: Items without label whose predictions tightened the accuracy's interval (prediction-powered
            inference); 0 where it is the labels' own.
    """

    name: str
    n_eval: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    auroc: float
    auroc_low: float = 0.0
    auroc_high: float = 0.0
    calibrated_accuracy: float = 0.0
    calibrated_accuracy_low: float = 0.0
    calibrated_accuracy_high: float = 0.0
    ece: float = 0.0
    ece_low: float = 0.0
    ece_high: float = 0.0
    loss: float = 0.0
    n_unlabelled: int = 0

    @property
    def n_effective(self) -> int:
        """Labels whose accuracy would be as certain: n_eval, or more where predictions for other items helped."""
        half = (self.accuracy_high - self.accuracy_low) / (2 * Z_95)
        variance = self.accuracy * (1 - self.accuracy)
        if not self.n_unlabelled or not half or not variance:
            return self.n_eval
        return max(self.n_eval, round(variance / half**2))

    def __post_init__(self) -> None:
        if self.n_eval < 1:
            raise InvalidArgumentError("evaluation.n_eval", "must be at least 1")
        if not 0 <= self.accuracy_low <= self.accuracy <= self.accuracy_high <= 1:
            raise InvalidArgumentError("evaluation.accuracy", "must lie within its interval, and that within 0 and 1")

    @classmethod
    def from_proto(cls, message: resources_pb2.Evaluation) -> Evaluation:
        """Converts from the wire."""
        return cls(
            name=message.name,
            n_eval=message.n_eval,
            accuracy=message.accuracy,
            accuracy_low=message.accuracy_low,
            accuracy_high=message.accuracy_high,
            auroc=message.auroc,
            auroc_low=message.auroc_low,
            auroc_high=message.auroc_high,
            calibrated_accuracy=message.calibrated_accuracy,
            calibrated_accuracy_low=message.calibrated_accuracy_low,
            calibrated_accuracy_high=message.calibrated_accuracy_high,
            ece=message.ece,
            ece_low=message.ece_low,
            ece_high=message.ece_high,
            loss=message.loss,
            n_unlabelled=message.n_unlabelled,
        )

    def to_proto(self) -> resources_pb2.Evaluation:
        """Converts to the wire."""
        return resources_pb2.Evaluation(
            name=self.name,
            n_eval=self.n_eval,
            accuracy=self.accuracy,
            accuracy_low=self.accuracy_low,
            accuracy_high=self.accuracy_high,
            auroc=self.auroc,
            auroc_low=self.auroc_low,
            auroc_high=self.auroc_high,
            calibrated_accuracy=self.calibrated_accuracy,
            calibrated_accuracy_low=self.calibrated_accuracy_low,
            calibrated_accuracy_high=self.calibrated_accuracy_high,
            ece=self.ece,
            ece_low=self.ece_low,
            ece_high=self.ece_high,
            loss=self.loss,
            n_unlabelled=self.n_unlabelled,
        )


@dataclass(frozen=True, slots=True)
class Observation:
    """What a run showed.

    Attributes:
        run_id: The run; unique in its campaign.
        method: Name of the method.
        n_weak, n_human: Labels trained on.
        seed: Seed of the run.
        evaluation: On the bought evaluation labels.
        test: On a benchmark's gold answers, outside the ledger; None where there is none.
        weak_source_id, human_source_id: Where the labels came from; "" where the count is 0.
        cost, create_time: Set by the budget service.
    """

    run_id: str
    method: str
    n_weak: int
    n_human: int
    seed: int
    evaluation: Evaluation
    test: Evaluation | None = None
    weak_source_id: str = ""
    human_source_id: str = ""
    cost: Money | None = None
    create_time: datetime | None = None

    def __post_init__(self) -> None:
        if self.n_weak < 0 or self.n_human < 0:
            raise InvalidArgumentError("observation.n_weak" if self.n_weak < 0 else "observation.n_human", "negative")
        for name, count, source_id in (
            ("weak_source_id", self.n_weak, self.weak_source_id),
            ("human_source_id", self.n_human, self.human_source_id),
        ):
            if count and not source_id:
                raise InvalidArgumentError(f"observation.{name}", "empty; name the source the labels came from")

    @property
    def point(self) -> ObservedPoint:
        """What economics sees of it."""
        evaluation = self.evaluation
        return ObservedPoint(
            method=self.method,
            n_weak=self.n_weak,
            n_human=self.n_human,
            seed=self.seed,
            accuracy=evaluation.accuracy,
            n_eval=evaluation.n_effective,
            weak_source_id=self.weak_source_id if self.n_weak else "",
            human_source_id=self.human_source_id if self.n_human else "",
        )

    @classmethod
    def from_proto(cls, message: resources_pb2.Observation) -> Observation:
        """Converts from the wire."""
        return cls(
            run_id=message.run_id,
            method=message.method,
            n_weak=message.n_weak,
            n_human=message.n_human,
            seed=message.seed,
            evaluation=Evaluation.from_proto(message.evaluation),
            test=Evaluation.from_proto(message.test) if message.HasField("test") else None,
            weak_source_id=message.weak_source_id,
            human_source_id=message.human_source_id,
            cost=Money.from_proto(message.cost) if message.HasField("cost") else None,
            create_time=time_from_proto(message.create_time),
        )

    def to_proto(self) -> resources_pb2.Observation:
        """Converts to the wire."""
        return resources_pb2.Observation(
            run_id=self.run_id,
            method=self.method,
            n_weak=self.n_weak,
            n_human=self.n_human,
            seed=self.seed,
            evaluation=self.evaluation.to_proto(),
            test=self.test.to_proto() if self.test else None,
            weak_source_id=self.weak_source_id,
            human_source_id=self.human_source_id,
            cost=self.cost.to_proto() if self.cost else None,
            create_time=time_to_proto(self.create_time),
        )


@dataclass(frozen=True, slots=True)
class FrontierPoint:
    """One point of the frontier; the accuracy is the mean over seeds, with its 95 % interval."""

    cost: Money
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    n_weak: int
    n_human: int
    method: str
    n_seeds: int

    @classmethod
    def of(cls, point: CostedPoint, currency_code: str) -> FrontierPoint:
        """A point of `isocost.economics`, in a currency."""
        return cls(
            cost=Money(point.cost_micros, currency_code),
            accuracy=point.accuracy,
            accuracy_low=point.accuracy_low,
            accuracy_high=point.accuracy_high,
            n_weak=point.n_weak,
            n_human=point.n_human,
            method=point.method,
            n_seeds=point.n_seeds,
        )

    @classmethod
    def from_proto(cls, message: resources_pb2.FrontierPoint) -> FrontierPoint:
        """Converts from the wire."""
        return cls(
            cost=Money.from_proto(message.cost),
            accuracy=message.accuracy,
            accuracy_low=message.accuracy_low,
            accuracy_high=message.accuracy_high,
            n_weak=message.n_weak,
            n_human=message.n_human,
            method=message.method,
            n_seeds=message.n_seeds,
        )

    def to_proto(self) -> resources_pb2.FrontierPoint:
        """Converts to the wire."""
        return resources_pb2.FrontierPoint(
            cost=self.cost.to_proto(),
            accuracy=self.accuracy,
            accuracy_low=self.accuracy_low,
            accuracy_high=self.accuracy_high,
            n_weak=self.n_weak,
            n_human=self.n_human,
            method=self.method,
            n_seeds=self.n_seeds,
        )
