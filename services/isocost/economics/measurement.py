"""What an evaluation set shows of a model, each figure with its 95 % interval.

| figure | definition | interval |
|---|---|---|
| accuracy | share of items whose most probable choice is right | Wilson 1927 |
| AUROC | see `roc` | DeLong et al. 1988, on the logit scale |
| calibrated accuracy | see `calibrated_accuracy` | Wilson at the delta method's sample size |
| expected calibration error (ECE) | see `calibration_gap` | a test turned round, by parametric bootstrap |
| loss | mean of -ln of the right choice's probability, nats | none |

The items' order matters to no figure. Legend of the shape suffixes: n items, c choices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from isocost.economics.calibrated_accuracy import calibrated_accuracy
from isocost.economics.calibration import PROBABILITY_MIN
from isocost.economics.calibration_gap import calibration_gap
from isocost.economics.interval import wilson_interval
from isocost.economics.roc import area_interval

__all__ = ["Measurement", "measure"]

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]

#: How far a row may be from summing to 1: probabilities of bfloat16 are.
_SUM_TOLERANCE = 0.02


@dataclass(frozen=True, slots=True)
class Measurement:
    """Figures of one evaluation; each lies within its own 95 % interval.

    Attributes:
        accuracy, accuracy_low, accuracy_high: 0 to 1.
        auroc, auroc_low, auroc_high: 0 to 1; 0.5 within 0 to 1 where all items have the same choice.
        calibrated_accuracy, calibrated_accuracy_low, calibrated_accuracy_high: 0 to 1.
        ece, ece_low, ece_high: 0 to 1.
        loss: Nats; a probability of 0 counts as `calibration.PROBABILITY_MIN`.
    """

    accuracy: float
    accuracy_low: float
    accuracy_high: float
    auroc: float
    auroc_low: float
    auroc_high: float
    calibrated_accuracy: float
    calibrated_accuracy_low: float
    calibrated_accuracy_high: float
    ece: float
    ece_low: float
    ece_high: float
    loss: float


def measure(choices_n: npt.NDArray[np.integer], probabilities_nc: npt.NDArray[np.floating]) -> Measurement:
    """Measures predictions against right answers.

    Args:
        choices_n: Right choice of each item, from 0; at least one item.
        probabilities_nc: Predicted; rows sum to 1.

    Raises:
        ValueError: where shapes do not fit, a choice is not one of the C, or rows are no probabilities.
    """
    y_n, p_nc = _checked(choices_n, probabilities_nc)
    right_n = p_nc.argmax(axis=1) == y_n
    accuracy = float(right_n.mean())
    accuracy_low, accuracy_high = wilson_interval(accuracy, len(y_n))
    area, area_low, area_high = area_interval(y_n, p_nc) or (0.5, 0.0, 1.0)
    calibrated, calibrated_low, calibrated_high = calibrated_accuracy(y_n, p_nc)
    ece, ece_low, ece_high = calibration_gap(right_n, np.minimum(p_nc.max(axis=1), 1.0))
    return Measurement(
        accuracy=accuracy,
        accuracy_low=accuracy_low,
        accuracy_high=accuracy_high,
        auroc=area,
        auroc_low=area_low,
        auroc_high=area_high,
        calibrated_accuracy=calibrated,
        calibrated_accuracy_low=calibrated_low,
        calibrated_accuracy_high=calibrated_high,
        ece=ece,
        ece_low=ece_low,
        ece_high=ece_high,
        loss=float(-np.log(np.maximum(p_nc[np.arange(len(y_n)), y_n], PROBABILITY_MIN)).mean()),
    )


def _checked(choices_n: npt.NDArray[np.integer], probabilities_nc: npt.NDArray[np.floating]) -> tuple[_Ints, _Floats]:
    y_n = np.asarray(choices_n, dtype=np.int64)
    p_nc = np.asarray(probabilities_nc, dtype=np.float64)
    if p_nc.ndim != 2 or y_n.shape != p_nc.shape[:1] or not len(y_n) or p_nc.shape[1] < 2:
        raise ValueError(f"choices {y_n.shape} and probabilities {p_nc.shape} are not (N,) and (N, C), N >= 1, C >= 2")
    if y_n.min() < 0 or y_n.max() >= p_nc.shape[1]:
        raise ValueError(f"choices from {y_n.min()} to {y_n.max()}; they are 0 to {p_nc.shape[1] - 1}")
    # Written so that NaN fails too.
    if not (p_nc.min() >= 0 and np.abs(p_nc.sum(axis=1) - 1).max() <= _SUM_TOLERANCE):
        raise ValueError("rows are not probabilities that sum to 1; give the softmax of logits")
    return y_n, p_nc
