"""How the accuracy of runs is measured in a replay."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from isocost.replay.surface import SurfacePoint

__all__ = ["Evaluation", "EvaluationKind", "measured_accuracy"]


class EvaluationKind(Enum):
    """Where the accuracies that a policy sees come from."""

    EXACT = "exact"
    """The surface's own accuracies, free: the paper's setting."""
    BOUGHT = "bought"
    """Evaluation labels that are paid for: accuracies with their noise."""
    NONE = "none"
    """The policy chose to buy no evaluation label: it sees nothing."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What accuracy is measured with.

    Attributes:
        kind: See there.
        n_labels: Evaluation labels bought; 0 unless `kind` is BOUGHT.
    """

    kind: EvaluationKind
    n_labels: int = 0


def measured_accuracy(point: SurfacePoint, evaluation: Evaluation, seed: int) -> float:
    """The accuracy of a point's run as evaluation labels show it.

    The run's true accuracy is normal around the mean with the file's spread over seeds, clipped to 0..1; the measured
    one is binomial around that. Drawn once for each seed and point: the same at every look and for every policy.
    """
    if evaluation.kind is not EvaluationKind.BOUGHT:
        return point.accuracy
    rng = np.random.default_rng([seed, point.n_weak, point.n_human])
    # Drawn also where there is no spread, so that the binomial draw is the same either way.
    deviation = float(rng.standard_normal())
    true_accuracy = min(1.0, max(0.0, point.accuracy + deviation * (point.accuracy_std or 0.0)))
    return int(rng.binomial(evaluation.n_labels, true_accuracy)) / evaluation.n_labels
