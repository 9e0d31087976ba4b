"""How the accuracies of two points hang together: the covariance of the surface prior.

A surface is f(n_weak, n_human) = shared(s n_weak, s n_human) + dataset + weak labels + quality, a sum of Gaussian
processes over u = log(1 + n / 10) of both counts, n already multiplied by the label efficiency s of the task:

- *shared* is what all surfaces have in common: their mean shape;
- *dataset* is what one dataset and method differ by, whatever the weak labels;
- *weak labels* is what one weak labeller on one dataset differs by; it vanishes without weak labels;
- *quality* is the part of that which the measured accuracy of the weak labels explains: linear in it.

The efficiency s scales all label counts: one task takes off at 50 labels and another at 2,000, with the same shape.
What a single run shows differs from f by noise, which is larger where few labels were trained on (seeds are bimodal
there).
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Hyperparameters", "Points", "covariance", "run_noise"]

Floats = npt.NDArray[np.float64]

#: Label counts below this are all alike to a fine-tuning run.
_N_UNIT = 10.0
#: Labels at which the additional run noise of small runs has halved.
_N_NOISE = 100.0
#: Standard deviation of the level of the mean shape, 0.7 on average.
_LEVEL_SD = 0.15
_WEAK_ACCURACY_MEAN, _WEAK_ACCURACY_SD = 0.75, 0.07


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """Standard deviations, in accuracy, and length scales, in u, of the parts of a surface; learned from the
    library."""

    shared_sd: float
    shared_length_weak: float
    shared_length_human: float
    dataset_sd: float
    length_weak: float
    length_human: float
    weak_labels_sd: float
    quality_sd: float
    run_sd: float
    small_run_sd: float

    def logs(self) -> Floats:
        """Natural logarithms, in the order of the fields."""
        logs: Floats = np.log(np.array(astuple(self)))
        return logs

    @classmethod
    def of_logs(cls, logs: Floats) -> Hyperparameters:
        """The inverse of `logs`."""
        return cls(*(float(value) for value in np.exp(logs)))


@dataclass(frozen=True, slots=True)
class Points:
    """Points of one or more surfaces [P].

    Attributes:
        n_weak, n_human: Labels, times the efficiency of their task.
        group: Number of the dataset and method.
        surface: Number of the surface.
        weak_accuracy: Share of right weak labels; NaN where nobody knows.
    """

    n_weak: Floats
    n_human: Floats
    group: npt.NDArray[np.int64]
    surface: npt.NDArray[np.int64]
    weak_accuracy: Floats

    def scaled(self, scale: Floats | float) -> Points:
        """The same points with their counts multiplied."""
        return Points(self.n_weak * scale, self.n_human * scale, self.group, self.surface, self.weak_accuracy)


def covariance(one: Points, other: Points, hyper: Hyperparameters) -> Floats:
    """Prior covariance [P, Q] of the accuracies f at two sets of points, noise left out."""
    weak = np.log1p(one.n_weak / _N_UNIT)[:, None] - np.log1p(other.n_weak / _N_UNIT)[None, :]
    human = np.log1p(one.n_human / _N_UNIT)[:, None] - np.log1p(other.n_human / _N_UNIT)[None, :]

    def smooth(length_weak: float, length_human: float) -> Floats:
        shape: Floats = np.exp(-0.5 * ((weak / length_weak) ** 2 + (human / length_human) ** 2))
        return shape

    same_group = one.group[:, None] == other.group[None, :]
    same_surface = one.surface[:, None] == other.surface[None, :]
    gate = (one.n_weak / (one.n_weak + _N_UNIT))[:, None] * (other.n_weak / (other.n_weak + _N_UNIT))[None, :]
    quality_one = (one.weak_accuracy - _WEAK_ACCURACY_MEAN) / _WEAK_ACCURACY_SD
    quality_other = (other.weak_accuracy - _WEAK_ACCURACY_MEAN) / _WEAK_ACCURACY_SD
    product = quality_one[:, None] * quality_other[None, :]
    # Unknown quality is independent of all known ones, of variance 1, and the same within its surface.
    unknown = np.isnan(quality_one)[:, None] & np.isnan(quality_other)[None, :] & same_surface
    quality = np.where(unknown, 1.0, np.nan_to_num(product, nan=0.0))
    own = (
        hyper.dataset_sd**2 * same_group
        + hyper.weak_labels_sd**2 * (same_group & same_surface) * gate
        + hyper.quality_sd**2 * quality * gate
    )
    result: Floats = (
        _LEVEL_SD**2
        + hyper.shared_sd**2 * smooth(hyper.shared_length_weak, hyper.shared_length_human)
        + own * smooth(hyper.length_weak, hyper.length_human)
    )
    return result


def run_noise(points: Points, hyper: Hyperparameters) -> tuple[Floats, Floats]:
    """Variances [P] of single runs around f: that of any run, and what small runs have in addition."""
    n_labels = points.n_weak + points.n_human
    return np.full(len(n_labels), hyper.run_sd**2), hyper.small_run_sd**2 / (1 + n_labels / _N_NOISE)
